//! Content-addressed artifacts on the device.
//!
//! An artifact is visible under its digest only after its whole hash was checked and it was fsynced. What is
//! still arriving lies in a staging file with room reserved for all of it. The staging file carries no map of
//! which blocks are here: on opening, every block is hashed against the signed block table, which trusts neither
//! the order of writes before a power cut nor the disk. A resume costs one read of the file.

mod space;
mod staging;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::PathBuf,
};

use shared::{
    Digest,
    artifact::{Artifact, Encoding},
    block::BlockMap,
    manifest::{MAX_MANIFEST_BYTES, Manifest},
};
use thiserror::Error;

use crate::disk;
pub use space::Room;
use staging::Staging;

/// Why the store could not do something.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is not enough room, on the file system or within the configured bound.
    #[error("{needed_bytes} bytes are needed and {free_bytes} are free")]
    NoRoom {
        /// What is needed.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The file system failed.
    #[error("cannot {act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not what was signed. The staging file is gone.
    #[error("{0}")]
    WrongBytes(String),
    /// A block arrived for an artifact that is not being staged.
    #[error("no artifact with this digest is being staged")]
    NotStaging,
}

fn io_error(act: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { act, source }
}

/// Where an artifact stands.
#[derive(Debug)]
pub enum Opened {
    /// It is complete and visible.
    AlreadyHere,
    /// It is being staged; the map tells which blocks are here.
    Staging(BlockMap),
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockFate {
    /// It fits its digest and is in the file.
    Stored {
        /// Its length.
        bytes: u32,
    },
    /// It does not fit its digest, or there is no such block.
    Refused,
}

/// Opens artifacts that are visible. Whoever uses the bytes hashes them again while reading.
#[derive(Debug, Clone)]
pub struct ArtifactReader {
    artifacts: PathBuf,
}

impl ArtifactReader {
    /// Opens an artifact for reading.
    ///
    /// # Errors
    /// When it is not here.
    pub fn open(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.artifacts.join(digest.to_string()))
    }
}

/// The artifacts of a device. One thread owns it.
#[derive(Debug)]
pub struct Store {
    artifacts: PathBuf,
    staging_dir: PathBuf,
    room: Room,
    /// At most one artifact arrives at a time.
    staging: Option<Staging>,
}

impl Store {
    /// Opens the store below `data_dir`.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub fn open(data_dir: &std::path::Path, room: Room) -> Result<Self, StoreError> {
        let artifacts = data_dir.join("artifacts");
        let staging_dir = data_dir.join("staging");
        for dir in [&artifacts, &staging_dir] {
            disk::private_dir(dir).map_err(io_error("make the folders of the store"))?;
        }
        Ok(Self { artifacts, staging_dir, room, staging: None })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.artifacts.join(digest.to_string())
    }

    /// A handle that opens artifacts, for those who do not own the store.
    #[must_use]
    pub fn reader(&self) -> ArtifactReader {
        ArtifactReader { artifacts: self.artifacts.clone() }
    }

    /// True when the artifact is complete and visible.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps a manifest under its digest.
    ///
    /// # Errors
    /// When the bytes have another digest, there is no room, or the file system fails.
    pub fn keep_manifest(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if self.manifest(digest).is_some() {
            return Ok(());
        }
        if Digest::of(bytes) != *digest {
            return Err(StoreError::WrongBytes(format!("the manifest does not have digest {digest}")));
        }
        self.room.check(&self.artifacts, bytes.len() as u64)?;
        disk::replace(&self.path(digest), bytes).map_err(io_error("write a manifest"))
    }

    /// Reads a manifest that was kept; `None` when it is gone or its bytes have changed.
    #[must_use]
    pub fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let bytes = disk::read_bounded(&self.path(digest), MAX_MANIFEST_BYTES).ok()??;
        if Digest::of(&bytes) != *digest {
            tracing::warn!(%digest, "a manifest on the disk has changed and is not used");
            return None;
        }
        serde_json::from_slice(&bytes).ok()
    }

    /// Starts or resumes staging of `artifact`. Another artifact that was being staged is closed; its file stays
    /// for a later resume until it is collected.
    ///
    /// # Errors
    /// When there is no room for both the packed and the unpacked form, or the file system fails.
    pub fn stage(&mut self, artifact: &Artifact) -> Result<Opened, StoreError> {
        if self.has(&artifact.digest) {
            return Ok(Opened::AlreadyHere);
        }
        let path = self.staging_dir.join(artifact.packed.digest.to_string());
        let there = fs::metadata(&path).map(|m| m.len()).unwrap_or(0);
        let needed = (artifact.packed.size_bytes + artifact.size_bytes).saturating_sub(there);
        self.room.check(&self.artifacts, needed)?;
        let staging = Staging::open(path, &artifact.packed)?;
        let here = staging.here().clone();
        self.staging = Some(staging);
        Ok(Opened::Staging(here))
    }

    /// The artifact that is being staged, if its packed digest starts like this.
    #[must_use]
    pub fn staging_digest(&self, short: [u8; 8]) -> Option<Digest> {
        self.staging.as_ref().map(|s| s.packed().digest).filter(|digest| digest.short() == short)
    }

    /// Puts a block in its place if it fits its digest.
    ///
    /// # Errors
    /// When nothing with this short digest is being staged, or the file system fails.
    pub fn put_block(
        &mut self,
        short: [u8; 8],
        index: u32,
        bytes: &[u8],
    ) -> Result<(Digest, BlockFate), StoreError> {
        let staging = self.staging.as_mut().filter(|s| s.packed().digest.short() == short);
        let staging = staging.ok_or(StoreError::NotStaging)?;
        let fate = staging.put(index, bytes)?;
        Ok((staging.packed().digest, fate))
    }

    /// Unpacks a complete staging file and makes the artifact visible.
    ///
    /// # Errors
    /// [`StoreError::WrongBytes`] when the packed or the unpacked bytes are not what was signed; nothing of them
    /// remains then.
    pub fn unpack(&mut self, artifact: &Artifact) -> Result<(), StoreError> {
        let staged = self.staging.take_if(|s| s.packed().digest == artifact.packed.digest);
        let staged = staged.ok_or(StoreError::NotStaging)?;
        let target = self.path(&artifact.digest);
        let unpacked = match artifact.packed.encoding {
            Encoding::Stored => staged.publish(&target),
            Encoding::Zstd => staged.unpack_zstd(artifact, &target),
        };
        if matches!(unpacked, Err(StoreError::WrongBytes(_))) {
            staged.discard();
        }
        unpacked
    }

    /// Removes every artifact and staging file that is not in `keep`. Staging files are kept by packed digest.
    ///
    /// # Errors
    /// When a folder cannot be read; a file that cannot be removed is tried again next time.
    pub fn collect(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, StoreError> {
        let current = self.staging.as_ref().map(|s| s.packed().digest);
        let mut freed = 0;
        for dir in [&self.artifacts, &self.staging_dir] {
            for entry in fs::read_dir(dir).map_err(io_error("list the store"))?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let digest = name.split('.').next().and_then(|name| name.parse::<Digest>().ok());
                if digest.is_some_and(|digest| keep.contains(&digest) || Some(digest) == current) {
                    continue;
                }
                let length = entry.metadata().map(|m| m.len()).unwrap_or(0);
                if fs::remove_file(entry.path()).is_ok() {
                    freed += length;
                }
            }
        }
        Ok(freed)
    }
}

#[cfg(test)]
mod tests;
