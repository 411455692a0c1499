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
    io,
    path::{Path, PathBuf},
};

use shared::{
    Digest,
    artifact::Artifact,
    block::BlockMap,
    manifest::{MAX_MANIFEST_BYTES, Manifest},
};
use thiserror::Error;

use crate::disk::{Disk, DiskFile, OpenAs, OsDisk};
pub use space::Room;
use staging::{Staging, hash_of, paths_in};

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
pub struct ArtifactReader<D: Disk = OsDisk> {
    disk: D,
    artifacts: PathBuf,
}

impl<D: Disk> ArtifactReader<D> {
    /// Opens an artifact for reading.
    ///
    /// # Errors
    /// When it is not here.
    pub fn open(&self, digest: &Digest) -> io::Result<D::File> {
        self.disk.open(&self.artifacts.join(digest.to_string()), OpenAs::Reader)
    }
}

/// The artifacts of a device. One thread owns it.
#[derive(Debug)]
pub struct Store<D: Disk = OsDisk> {
    disk: D,
    artifacts: PathBuf,
    staging_dir: PathBuf,
    room: Room,
    /// At most one artifact arrives at a time.
    staging: Option<Staging<D>>,
}

impl<D: Disk> Store<D> {
    /// Opens the store below `data_dir`.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub fn open(disk: D, data_dir: &Path, room: Room) -> Result<Self, StoreError> {
        let (artifacts, staging_dir) = (data_dir.join("artifacts"), data_dir.join("staging"));
        for dir in [&artifacts, &staging_dir] {
            disk.private_dir(dir).map_err(io_error("make the folders of the store"))?;
        }
        Ok(Self { disk, artifacts, staging_dir, room, staging: None })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.artifacts.join(digest.to_string())
    }

    fn check_room(&self, needed_bytes: u64) -> Result<(), StoreError> {
        self.room.check(&self.disk, [&self.artifacts, &self.staging_dir], needed_bytes)
    }

    /// A handle that opens artifacts, for those who do not own the store.
    #[must_use]
    pub fn reader(&self) -> ArtifactReader<D> {
        ArtifactReader { disk: self.disk.clone(), artifacts: self.artifacts.clone() }
    }

    /// True when the artifact is visible and every byte of it is what was signed.
    fn is_whole(&self, artifact: &Artifact) -> Result<bool, StoreError> {
        let path = self.path(&artifact.digest);
        let file = match self.disk.open(&path, OpenAs::Reader) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io_error("open an artifact")(error)),
        };
        let fits = file.size_bytes().is_ok_and(|size_bytes| size_bytes == artifact.size_bytes)
            && hash_of(&file, artifact.size_bytes).is_ok_and(|digest| digest == artifact.digest);
        if !fits {
            tracing::warn!(digest = %artifact.digest, "an artifact on the disk has changed and is fetched again");
        }
        Ok(fits)
    }

    /// Keeps a manifest under its digest.
    ///
    /// # Errors
    /// When the bytes have another digest, there is no room, or the file system fails.
    pub fn keep_manifest(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if matches!(self.manifest(digest), Ok(Some(_))) {
            return self.keep_name();
        }
        if Digest::of(bytes) != *digest {
            return Err(StoreError::WrongBytes(format!("the manifest does not have digest {digest}")));
        }
        self.check_room(bytes.len() as u64)?;
        self.disk.replace(&self.path(digest), bytes).map_err(io_error("write a manifest"))
    }

    /// Whatever is visible was synced before it got its name. The name itself may be there since a moment ago only,
    /// from an agent that was killed before it could make that durable.
    fn keep_name(&self) -> Result<(), StoreError> {
        self.disk.sync_dir(&self.artifacts).map_err(io_error("sync the store"))
    }

    /// Reads a manifest that was kept; `None` when it is gone or its bytes have changed.
    ///
    /// # Errors
    /// When it cannot be read, which says nothing about what is there.
    pub fn manifest(&self, digest: &Digest) -> io::Result<Option<Manifest>> {
        let read = self.disk.read_bounded(&self.path(digest), MAX_MANIFEST_BYTES);
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
            Err(error) => return Err(error),
        };
        if Digest::of(&bytes) != *digest {
            tracing::warn!(%digest, "a manifest on the disk has changed and is not used");
            return Ok(None);
        }
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Starts or resumes staging of `artifact`. Another artifact that was being staged is closed; its file stays
    /// for a later resume until it is collected. One that is visible is hashed once more: what changed on the disk
    /// is replaced.
    ///
    /// # Errors
    /// When there is no room for both the packed and the unpacked form, or the file system fails.
    pub fn stage(&mut self, artifact: &Artifact) -> Result<Opened, StoreError> {
        if self.is_whole(artifact)? {
            self.keep_name()?;
            return Ok(Opened::AlreadyHere);
        }
        self.check_room(self.still_needed(artifact)?)?;
        let staging = Staging::open(self.disk.clone(), &self.staging_dir, artifact)?;
        let here = staging.here().clone();
        self.staging = Some(staging);
        Ok(Opened::Staging(here))
    }

    /// Room for both forms, less what an earlier attempt has taken already.
    fn still_needed(&self, artifact: &Artifact) -> Result<u64, StoreError> {
        let (packed, unpacked) = paths_in(&self.staging_dir, &artifact.packed);
        let entries = self.disk.list(&self.staging_dir).map_err(io_error("list the store"))?;
        let taken = entries.iter().filter(|entry| {
            [&packed, &unpacked].iter().any(|path| path.file_name().is_some_and(|name| *name == *entry.name))
        });
        let taken: u64 = taken.map(|entry| entry.size_bytes).sum();
        Ok((artifact.packed.size_bytes + artifact.size_bytes).saturating_sub(taken))
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
        let published = staged.publish(artifact, &self.path(&artifact.digest));
        match published {
            Ok(()) | Err(StoreError::WrongBytes(_)) => staged.remove(),
            // What arrived serves another attempt.
            Err(_) => {}
        }
        published
    }

    /// Removes every artifact and staging file that is not in `keep`, and what was being written when an agent was
    /// killed. Staging files are kept by packed digest.
    ///
    /// # Errors
    /// When a folder cannot be read; a file that cannot be removed is tried again next time.
    pub fn collect(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, StoreError> {
        let current = self.staging.as_ref().map(|s| s.packed().digest);
        let visible = self.disk.list(&self.artifacts).map_err(io_error("list the store"))?;
        let staged = self.disk.list(&self.staging_dir).map_err(io_error("list the store"))?;
        let published: BTreeSet<Digest> =
            visible.iter().filter_map(|entry| entry.name.parse().ok()).collect();
        let unwanted = visible.iter().filter(|entry| {
            let digest = entry.name.parse::<Digest>();
            !digest.is_ok_and(|digest| keep.contains(&digest))
        });
        // What travels as it is has one digest: its staging file is of no use once it is visible.
        let stale = staged.iter().filter(|entry| {
            let digest = entry.name.strip_suffix(".out").unwrap_or(&entry.name).parse::<Digest>();
            !digest.is_ok_and(|digest| {
                Some(digest) == current || (keep.contains(&digest) && !published.contains(&digest))
            })
        });
        let unwanted = unwanted.map(|entry| (&self.artifacts, entry));
        Ok(unwanted
            .chain(stale.map(|entry| (&self.staging_dir, entry)))
            .filter(|(dir, entry)| self.disk.remove(&dir.join(&entry.name)).is_ok())
            .map(|(_, entry)| entry.size_bytes)
            .sum())
    }
}

#[cfg(test)]
mod tests;
