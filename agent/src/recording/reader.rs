//! Reads a recording entry by entry, and says where it ends to be one.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Take},
    path::Path,
};

use agent_core::Entry;
use thiserror::Error;

use super::{CHECKSUM_DIGITS, MAX_RECORDING_BYTES, checksum};

/// What is larger was not written by this program.
const MAX_FILE_BYTES: u64 = 2 * MAX_RECORDING_BYTES;

/// Why a recording cannot be read on. Entries are counted from 0, which is the start.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file system failed.
    #[error("cannot read entry {entry}")]
    Io {
        /// Which.
        entry: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends where an entry has begun, or where its end should be.
    #[error("the recording is cut in entry {entry}: what came before is whole")]
    Cut {
        /// Which.
        entry: u64,
    },
    /// The file ends after a whole entry, but nothing says that it should.
    #[error(
        "the recording ends after entry {entry} without a closing entry: the agent was killed, or the file was cut"
    )]
    Open {
        /// The last whole one.
        entry: u64,
    },
    /// The bytes were changed, or lines are missing.
    #[error("entry {entry} is damaged, or one before it is missing: its checksum does not fit")]
    Damaged {
        /// Which.
        entry: u64,
    },
    /// The bytes are intact and not understood.
    #[error("entry {entry} is intact but not understood; was it recorded by another version of the agent?")]
    Unknown {
        /// Which.
        entry: u64,
        /// What the decoder said.
        source: serde_json::Error,
    },
}

/// Entries in their order.
#[derive(Debug)]
pub struct Reader {
    lines: BufReader<Take<File>>,
    before: String,
    /// The next entry.
    entry: u64,
    closed: bool,
}

impl Reader {
    /// Opens a recording.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let lines = BufReader::new(File::open(path)?.take(MAX_FILE_BYTES));
        Ok(Self { lines, before: String::new(), entry: 0, closed: false })
    }

    /// The next entry; `None` after the closing one.
    ///
    /// # Errors
    /// At the first entry that is not whole; nothing after it can be believed.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, RecordingError> {
        if self.closed {
            return Ok(None);
        }
        let entry = self.entry;
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line).map_err(|source| RecordingError::Io { entry, source })?;
        match line.pop() {
            None if entry == 0 => return Err(RecordingError::Cut { entry }),
            None => return Err(RecordingError::Open { entry: entry - 1 }),
            Some(b'\n') => {}
            Some(_) => return Err(RecordingError::Cut { entry }),
        }
        let (found, json) = split(&line).ok_or(RecordingError::Damaged { entry })?;
        if found != checksum(&self.before, json).as_bytes() {
            return Err(RecordingError::Damaged { entry });
        }
        let read =
            serde_json::from_slice(json).map_err(|source| RecordingError::Unknown { entry, source })?;
        self.before = String::from_utf8_lossy(found).into_owned();
        self.entry += 1;
        self.closed = matches!(read, Entry::End(_));
        Ok(Some(read))
    }
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    Some((found, rest.strip_prefix(b" ")?))
}
