//! The ledger on disk: two alternating copies, each with a sequence number and a checksum.
//!
//! A save writes the older copy, so a torn write can only hurt the copy that was not current. Loading takes the
//! valid copy with the highest sequence number. A file that is there but of which no copy is valid is refused:
//! starting empty would forget what the device runs.

use std::{io, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use shared::Digest;
use thiserror::Error;

use crate::disk;

/// Schema of the file.
const SCHEMA: u32 = 1;

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
    /// The content has no JSON form.
    #[error("cannot write the ledger as JSON")]
    Json(#[from] serde_json::Error),
}

/// The two copies and which of them is current.
#[derive(Debug)]
pub struct LedgerFile {
    dir: PathBuf,
    sequence: u64,
}

impl LedgerFile {
    /// Opens the ledger in `dir` and reads the newest intact copy; `None` when there has never been one.
    ///
    /// # Errors
    /// When the files cannot be read or no copy is intact.
    pub fn open<T: DeserializeOwned>(dir: PathBuf) -> Result<(Self, Option<T>), LedgerFileError> {
        let mut newest: Option<(u64, T)> = None;
        let mut found_any = false;
        for copy in 0..2 {
            let path = path_of(&dir, copy);
            let bytes = disk::read_bounded(&path, MAX_LEDGER_BYTES)
                .map_err(|source| LedgerFileError::Io { act: "read", path, source })?;
            let Some(bytes) = bytes else { continue };
            found_any = true;
            match decode(&bytes) {
                Some((sequence, content)) if newest.as_ref().is_none_or(|(best, _)| sequence > *best) => {
                    newest = Some((sequence, content));
                }
                Some(_) => {}
                None => tracing::warn!(copy, "a copy of the ledger is damaged; the other one decides"),
            }
        }
        match newest {
            Some((sequence, content)) => Ok((Self { dir, sequence }, Some(content))),
            None if found_any => Err(LedgerFileError::Damaged(dir)),
            None => Ok((Self { dir, sequence: 0 }, None)),
        }
    }

    /// Writes `content` durably. When this returns, the content survives a power cut.
    ///
    /// # Errors
    /// When it could not be written; the previous content then still stands.
    pub fn save<T: Serialize>(&mut self, content: &T) -> Result<(), LedgerFileError> {
        let sequence = self.sequence + 1;
        let path = path_of(&self.dir, sequence % 2);
        let bytes = encode(sequence, content)?;
        disk::replace(&path, &bytes).map_err(|source| LedgerFileError::Io { act: "write", path, source })?;
        self.sequence = sequence;
        Ok(())
    }
}

fn path_of(dir: &std::path::Path, copy: u64) -> PathBuf {
    dir.join(if copy == 0 { "ledger.a" } else { "ledger.b" })
}

/// `muster-ledger <schema> <sequence> <checksum of the JSON>` and the JSON on the next line.
fn encode<T: Serialize>(sequence: u64, content: &T) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(content)?;
    let checksum = checksum_of(sequence, &json);
    let mut bytes = format!("muster-ledger {SCHEMA} {sequence} {checksum}\n").into_bytes();
    bytes.extend(json);
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<(u64, T)> {
    let end = bytes.iter().position(|&b| b == b'\n')?;
    let header = std::str::from_utf8(&bytes[..end]).ok()?;
    let json = &bytes[end + 1..];
    let mut words = header.split(' ');
    let (name, schema, sequence, checksum) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let sequence: u64 = sequence.parse().ok()?;
    let intact = name == "muster-ledger"
        && schema.parse() == Ok(SCHEMA)
        && checksum.parse() == Ok(checksum_of(sequence, json));
    intact.then(|| serde_json::from_slice(json).ok()).flatten().map(|content| (sequence, content))
}

/// The sequence number is under the checksum too, so that damage cannot make an old copy the newest.
fn checksum_of(sequence: u64, json: &[u8]) -> Digest {
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend_from_slice(json);
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(dir: &tempfile::TempDir) -> Result<(LedgerFile, Option<String>), LedgerFileError> {
        LedgerFile::open(dir.path().to_path_buf())
    }

    #[test]
    fn the_newest_save_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, none) = open(&dir).unwrap();
        assert!(none.is_none());
        for text in ["one", "two", "three"] {
            file.save(&text).unwrap();
        }
        assert_eq!(open(&dir).unwrap().1.unwrap(), "three");
    }

    #[test]
    fn a_torn_newest_copy_falls_back_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = open(&dir).unwrap();
        file.save(&"one").unwrap();
        file.save(&"two").unwrap();
        let newest = path_of(dir.path(), 0);
        let bytes = fs::read(&newest).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&newest, &bytes[..cut]).unwrap();
            assert_eq!(open(&dir).unwrap().1.unwrap(), "one", "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = open(&dir).unwrap();
        file.save(&"content").unwrap();
        let path = path_of(dir.path(), 1);
        let bytes = fs::read(&path).unwrap();
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(matches!(open(&dir), Err(LedgerFileError::Damaged(_))), "bit at {position}");
        }
    }
}
