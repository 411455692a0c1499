//! One file for each release that is watched: replaced as a whole, so a power cut leaves the old one or the new one.

use std::{
    io,
    path::{Path, PathBuf},
};

use agent_store::disk::{Disk, Entry};
use shared::ReleaseId;

use super::{
    book::{Change, MAX_RELEASES},
    kept::{KEPT_FORMAT, Kept},
};

/// The guardrail's evidence on the most features with the most categories, as JSON; a usual file has some kilobytes without a
/// guardrail and a quarter of a megabyte with one on thirty-two features.
const MAX_FILE_BYTES: u64 = 16 * 1_024 * 1_024;

const ENDING: &str = ".json";

/// The files in one folder.
#[derive(Debug, Clone)]
pub(super) struct Files<D> {
    disk: D,
    dir: PathBuf,
}

impl<D: Disk> Files<D> {
    pub(super) fn new(disk: D, dir: PathBuf) -> Self {
        Self { disk, dir }
    }

    /// What the last run left. What cannot be read is passed over: it is measured and learnt anew.
    pub(super) fn read(&self) -> Vec<Kept> {
        let mut entries = match self.disk.list(&self.dir) {
            Ok(entries) => entries,
            // Nothing was ever watched.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "what is known of drift cannot be read");
                return Vec::new();
            }
        };
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.iter().filter_map(|entry| self.read_one(entry)).take(MAX_RELEASES).collect()
    }

    /// Does to the disk what the book says.
    pub(super) fn write(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::Write(kept) => {
                let bytes = serde_json::to_vec(kept)?;
                if bytes.len() as u64 > MAX_FILE_BYTES {
                    let text = format!("{} bytes, at most {MAX_FILE_BYTES} are kept", bytes.len());
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
                }
                self.disk.private_dir(&self.dir)?;
                self.disk.replace(&self.path_of(&kept.release), &bytes)
            }
            Change::Drop(release) => {
                let path = self.path_of(release);
                match self.disk.remove(&path) {
                    // It was never written.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(error),
                    Ok(()) => self.disk.sync_parent(&path),
                }
            }
        }
    }

    fn read_one(&self, entry: &Entry) -> Option<Kept> {
        let path = self.dir.join(&entry.name);
        // A file that a power cut left half written.
        if !entry.name.ends_with(ENDING) {
            let _ = self.disk.remove(&path);
            return None;
        }
        let bytes = self.disk.read_bounded(&path, MAX_FILE_BYTES);
        let bytes = bytes.map_err(|error| passed_over(&path, &error)).ok().flatten()?;
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| passed_over(&path, &error)).ok()?;
        (kept.format == KEPT_FORMAT && self.path_of(&kept.release) == path).then_some(kept)
    }

    /// Names of releases are names of files.
    pub(super) fn path_of(&self, release: &ReleaseId) -> PathBuf {
        self.dir.join(format!("{release}{ENDING}"))
    }
}

fn passed_over(path: &Path, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, path = %path.display(), "what is known of the drift of a release cannot be read");
}
