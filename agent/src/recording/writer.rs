//! Writes a recording beside the work of the shell.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use agent_core::{Agent, End, Ending, Entry, RecordedInput, Start, Turn};
use anyhow::Context;
use shared::Timestamp;

use super::{MAX_RECORDING_BYTES, checksum};

/// Room for the last line.
const END_BYTES: u64 = 256;

/// Owner only: a recording names models, devices and people's reasons.
const FILE_MODE: u32 = 0o600;

/// An open recording; nothing is written any more once it is full or the disk has failed.
#[derive(Debug)]
pub struct Recorder {
    file: Option<File>,
    before: String,
    written_bytes: u64,
    max_bytes: u64,
    revision: u64,
}

impl Recorder {
    /// Begins a recording at `path`. One that is there is kept as `path` with `.1` at its end.
    ///
    /// # Errors
    /// When the file cannot be made, or the start alone does not fit.
    pub fn begin(path: &Path, start: Start) -> anyhow::Result<Self> {
        Self::begin_within(path, start, MAX_RECORDING_BYTES)
    }

    pub(super) fn begin_within(path: &Path, start: Start, max_bytes: u64) -> anyhow::Result<Self> {
        keep_previous(path).with_context(|| format!("cannot keep the old {}", path.display()))?;
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
        let file = file.with_context(|| format!("cannot make the recording {}", path.display()))?;
        let (before, written_bytes, revision) = (String::new(), 0, u64::MAX);
        let mut recorder = Self { file: Some(file), before, written_bytes, max_bytes, revision };
        let entry = Entry::Start(Box::new(start));
        let fits = recorder.write(&entry).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::ensure!(fits, "the ledger and its manifests alone are more than a recording may hold");
        Ok(recorder)
    }

    /// Notes an input after the core has taken it.
    pub fn note(&mut self, at: Timestamp, input: RecordedInput, core: &Agent) {
        let changed = core.ledger_revision() != self.revision;
        self.revision = core.ledger_revision();
        let ledger = changed.then(|| core.ledger().digest());
        let written = self.write(&Entry::Turn(Box::new(Turn { at, input, ledger })));
        match written {
            Ok(true) => {}
            Ok(false) => self.end(Ending::Full, core),
            Err(error) => self.give_up(&error),
        }
    }

    /// Writes the last line.
    pub fn end(&mut self, why: Ending, core: &Agent) {
        if self.file.is_none() {
            return;
        }
        self.max_bytes = self.max_bytes.saturating_add(END_BYTES);
        if let Err(error) = self.write(&Entry::End(End { why, ledger: core.ledger().digest() })) {
            return self.give_up(&error);
        }
        self.file = None;
        tracing::info!(bytes = self.written_bytes, ?why, "the recording has ended");
    }

    /// False when the entry does not fit any more.
    fn write(&mut self, entry: &Entry) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(true) };
        let json = serde_json::to_vec(entry)?;
        let checksum = checksum(&self.before, &json);
        let mut line = format!("{checksum} ").into_bytes();
        line.extend(json);
        line.push(b'\n');
        if self.written_bytes + line.len() as u64 > self.max_bytes {
            return Ok(false);
        }
        file.write_all(&line)?;
        self.written_bytes += line.len() as u64;
        self.before = checksum;
        Ok(true)
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(%error, "the recording cannot be written any more and ends here; the agent goes on");
        self.file = None;
    }
}

/// An agent that died and was started again leaves the recording of its death behind.
fn keep_previous(path: &Path) -> io::Result<()> {
    let mut previous = path.as_os_str().to_owned();
    previous.push(".1");
    match std::fs::rename(path, PathBuf::from(previous)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}
