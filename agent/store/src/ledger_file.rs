//! The ledger on disk: two alternating copies, each with a sequence number and a checksum.
//!
//! A save overwrites the older copy where it lies, so it needs no room on the disk and one fsync. A torn write hurts
//! only that copy: loading takes the intact one with the highest sequence number. For this the other copy must be
//! durable, and a copy found at the start may still lie in the system's memory alone, when the agent was killed and
//! the power did not fail. So the newest is written over itself once at the start, and until that has succeeded, as
//! for a copy that has no room or that failed before, a save writes a new file and renames it.
//!
//! A ledger of which no copy is intact is refused: starting empty would forget what the device runs, what it refused
//! before and how often it tried. The blobs and the signed metadata cannot tell that either: of two models that
//! lie in the store nothing says which was committed.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use shared::Digest;
use thiserror::Error;

use crate::disk::{Disk, DiskFile, OpenAs, OsDisk};

/// Schema of the file.
const SCHEMA: u32 = 2;

/// Room of a copy: the records of a device full of models and an outbox full of reports fit, so in the field no copy
/// ever grows.
const ROOM_BYTES: u64 = 256 * 1_024;

/// A ledger holds facts about a few models; more than this is not one of ours.
const MAX_LEDGER_BYTES: u64 = 8 * 1_024 * 1_024;

/// Why the ledger cannot be read or written.
#[derive(Debug, Error)]
pub enum LedgerFileError {
    /// The file system failed.
    #[error("cannot {act} the ledger at {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Both copies are damaged.
    #[error("no copy of the ledger in {0} is intact; restore one, or remove both and enrol again")]
    Damaged(PathBuf),
    /// The newest copy is intact and says what this agent does not understand.
    #[error("the ledger at {path} was written by another version of the agent; use that version")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What is not understood.
        source: serde_json::Error,
    },
    /// The content has no JSON form.
    #[error("cannot write the ledger as JSON")]
    Json(#[from] serde_json::Error),
    /// The content is larger than what would be read back.
    #[error("the ledger would have {0} bytes; at most {MAX_LEDGER_BYTES} are read back")]
    TooLarge(u64),
}

/// The two copies and which of them is current.
#[derive(Debug)]
pub struct LedgerFile<D: Disk = OsDisk> {
    disk: D,
    dir: PathBuf,
    /// Room of a new copy.
    room_bytes: u64,
    /// Sequence number of the newest content.
    sequence: u64,
    copies: [Copy; 2],
}

/// What is known of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copy {
    /// Length of its file; none has no room.
    room_bytes: u64,
    trust: Trust,
}

/// Whether a copy survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// It was synced since the start.
    Durable,
    /// It was there at the start.
    Found,
    /// A write or an fsync failed: this file is not written again.
    Failed,
}

/// A copy that is intact.
struct Intact {
    sequence: u64,
    json: Vec<u8>,
    /// The whole of it as it lies in the file.
    bytes: Vec<u8>,
}

impl<D: Disk> LedgerFile<D> {
    /// Opens the ledger in `dir` and reads the newest intact copy; `None` when there has never been one.
    ///
    /// # Errors
    /// When the files cannot be read, no copy is intact, or the newest is not understood.
    pub fn open<T: DeserializeOwned>(disk: D, dir: PathBuf) -> Result<(Self, Option<T>), LedgerFileError> {
        Self::open_with_room(disk, dir, ROOM_BYTES)
    }

    /// Opens the ledger as [`open`](Self::open) does; a copy that is made has this much room at least.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_room<T: DeserializeOwned>(
        disk: D,
        dir: PathBuf,
        room_bytes: u64,
    ) -> Result<(Self, Option<T>), LedgerFileError> {
        let none = Copy { room_bytes: 0, trust: Trust::Found };
        let mut file = Self { disk, dir, room_bytes: room_bytes.max(1), sequence: 0, copies: [none; 2] };
        let (first, second) = (file.read(0)?, file.read(1)?);
        let found_any = file.copies.iter().any(|copy| copy.room_bytes > 0);
        let newest = first.into_iter().chain(second).max_by_key(|intact| intact.sequence);
        let Some(newest) = newest else {
            return if found_any { Err(LedgerFileError::Damaged(file.dir)) } else { Ok((file, None)) };
        };
        file.sequence = newest.sequence;
        let content = serde_json::from_slice(&newest.json)
            .map_err(|source| LedgerFileError::Foreign { path: file.path(file.current()), source })?;
        file.settle(&newest.bytes);
        Ok((file, Some(content)))
    }

    /// Writes `content` durably. When this returns, the content survives a power cut.
    ///
    /// # Errors
    /// When it could not be written; the previous content then still stands, and the save may be tried again.
    pub fn save<T: Serialize>(&mut self, content: &T) -> Result<(), LedgerFileError> {
        let needed = self.write_older(content)?;
        // The other copy gets its room now, and not when the disk may be full.
        if self.copies[self.older()].room_bytes < needed
            && let Err(error) = self.write_older(content)
        {
            tracing::debug!(%error, "the older copy of the ledger did not get its room");
        }
        Ok(())
    }

    /// The copy with the newest content.
    fn current(&self) -> usize {
        usize::from(!self.sequence.is_multiple_of(2))
    }

    /// The copy that is written next.
    fn older(&self) -> usize {
        1 - self.current()
    }

    fn path(&self, copy: usize) -> PathBuf {
        path_of(&self.dir, copy)
    }

    fn read(&mut self, copy: usize) -> Result<Option<Intact>, LedgerFileError> {
        let path = self.path(copy);
        let bytes = self.disk.read_bounded(&path, MAX_LEDGER_BYTES);
        let bytes = bytes.map_err(|source| LedgerFileError::Io { act: "read", path, source })?;
        let Some(bytes) = bytes else { return Ok(None) };
        // Even an empty file says that there was a ledger.
        self.copies[copy].room_bytes = (bytes.len() as u64).max(1);
        let intact = decode(&bytes);
        if intact.is_none() {
            tracing::warn!(copy, "a copy of the ledger is damaged; the other one decides");
        }
        Ok(intact)
    }

    /// Makes sure that what was read survives a power cut before the other copy is overwritten. Writing the same
    /// bytes again cannot hurt a copy that is durable already.
    fn settle(&mut self, bytes: &[u8]) {
        let current = self.current();
        if let Err(error) = self.overwrite(current, bytes) {
            tracing::warn!(%error, "the newest copy of the ledger cannot be written; another file is used");
        }
    }

    /// Writes the older copy, which becomes the current one; tells how much room it takes.
    fn write_older<T: Serialize>(&mut self, content: &T) -> Result<u64, LedgerFileError> {
        let sequence = self.sequence + 1;
        let bytes = encode(sequence, content)?;
        let needed = bytes.len() as u64;
        if needed > MAX_LEDGER_BYTES {
            return Err(LedgerFileError::TooLarge(needed));
        }
        let (copy, other) = (self.older(), self.current());
        let in_place = self.copies[copy].room_bytes >= needed
            && self.copies[copy].trust != Trust::Failed
            && self.copies[other].trust == Trust::Durable;
        if in_place {
            self.overwrite(copy, &bytes)?
        } else {
            self.renew(copy, bytes)?
        }
        self.sequence = sequence;
        Ok(needed)
    }

    fn overwrite(&mut self, copy: usize, bytes: &[u8]) -> Result<(), LedgerFileError> {
        let path = self.path(copy);
        self.copies[copy].trust = Trust::Failed;
        let file = self.disk.open(&path, OpenAs::Editor);
        let written = file.and_then(|file| file.write_all_at(bytes, 0).and_then(|()| file.sync()));
        written.map_err(|source| LedgerFileError::Io { act: "write", path, source })?;
        self.copies[copy].trust = Trust::Durable;
        Ok(())
    }

    /// Writes a new file with room to spare. The room is filled with zeros and not only reserved: then a later save
    /// needs nothing that the file system could run out of.
    fn renew(&mut self, copy: usize, mut bytes: Vec<u8>) -> Result<(), LedgerFileError> {
        let path = self.path(copy);
        let mut room_bytes = self.room_bytes;
        while room_bytes < bytes.len() as u64 {
            room_bytes *= 2;
        }
        let room_bytes = room_bytes.min(MAX_LEDGER_BYTES);
        bytes.resize(usize::try_from(room_bytes).unwrap_or(usize::MAX), 0);
        self.copies[copy].trust = Trust::Failed;
        let written = self.disk.replace(&path, &bytes);
        written.map_err(|source| LedgerFileError::Io { act: "write", path, source })?;
        self.copies[copy] = Copy { room_bytes, trust: Trust::Durable };
        Ok(())
    }
}

fn path_of(dir: &Path, copy: usize) -> PathBuf {
    dir.join(if copy == 0 { "ledger.a" } else { "ledger.b" })
}

/// `muster-ledger <schema> <sequence> <length of the JSON> <checksum>` and the JSON on the next line; what comes
/// after it is room.
fn encode<T: Serialize>(sequence: u64, content: &T) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(content)?;
    let (length, checksum) = (json.len(), checksum_of(sequence, &json));
    let mut bytes = format!("muster-ledger {SCHEMA} {sequence} {length} {checksum}\n").into_bytes();
    bytes.extend(json);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Intact> {
    let start = bytes.iter().position(|&b| b == b'\n')? + 1;
    let header = std::str::from_utf8(&bytes[..start - 1]).ok()?;
    let words: Vec<&str> = header.split(' ').collect();
    let [name, schema, sequence, length, checksum] = words[..] else { return None };
    let (sequence, length): (u64, usize) = (sequence.parse().ok()?, length.parse().ok()?);
    let end = start.checked_add(length)?;
    let json = bytes.get(start..end)?;
    let intact = name == "muster-ledger"
        && schema.parse() == Ok(SCHEMA)
        && checksum.parse() == Ok(checksum_of(sequence, json));
    intact.then(|| Intact { sequence, json: json.to_vec(), bytes: bytes[..end].to_vec() })
}

/// The sequence number is under the checksum too, so that damage cannot make an old copy the newest.
fn checksum_of(sequence: u64, json: &[u8]) -> Digest {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend_from_slice(json);
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests;
