//! One artifact on its way: a file of its final packed size that fills block by block.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use shared::{
    Digest,
    artifact::{Artifact, Packed},
    block::BlockMap,
};

use super::{BlockFate, StoreError, io_error};
use crate::disk;

/// Log₂ of the largest window a frame may ask for: 8 MiB, so that unpacking stays small.
const MAX_WINDOW_LOG: u32 = 23;

/// Bytes moved at once while hashing and unpacking.
const CHUNK_BYTES: usize = 64 * 1_024;

#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    file: File,
    packed: Packed,
    here: BlockMap,
}

impl Staging {
    /// Opens the staging file, reserves its room, and finds out which blocks are here.
    pub(super) fn open(path: PathBuf, packed: &Packed) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open the staging file"))?;
        let resumed = file.metadata().map_err(io_error("look at the staging file"))?.len() > 0;
        if let Err(error) = reserve(&file, packed.size_bytes) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let mut staging =
            Self { path, file, packed: packed.clone(), here: BlockMap::empty(packed.block_count()) };
        if resumed {
            staging.find_blocks()?;
        }
        Ok(staging)
    }

    pub(super) fn packed(&self) -> &Packed {
        &self.packed
    }

    pub(super) fn here(&self) -> &BlockMap {
        &self.here
    }

    fn find_blocks(&mut self) -> Result<(), StoreError> {
        let mut buffer = vec![0; self.packed.block_bytes as usize];
        for index in 0..self.packed.block_count() {
            let Some((offset, length)) = self.packed.block_range(index) else { break };
            let block = &mut buffer[..length as usize];
            self.file.read_exact_at(block, offset).map_err(io_error("read the staging file"))?;
            if Some(&Digest::of(block)) == self.packed.blocks.get(index as usize) {
                self.here.insert(index);
            }
        }
        Ok(())
    }

    /// Every block is hashed before it is written.
    pub(super) fn put(&mut self, index: u32, bytes: &[u8]) -> Result<BlockFate, StoreError> {
        let Some((offset, length)) = self.packed.block_range(index) else { return Ok(BlockFate::Refused) };
        let fits = bytes.len() == length as usize
            && self.packed.blocks.get(index as usize).is_some_and(|digest| *digest == Digest::of(bytes));
        if !fits {
            return Ok(BlockFate::Refused);
        }
        if !self.here.has(index) {
            self.file.write_all_at(bytes, offset).map_err(io_error("write a block"))?;
            self.here.insert(index);
        }
        Ok(BlockFate::Stored { bytes: length })
    }

    /// Makes the staged bytes visible as they are.
    pub(super) fn publish(&self, target: &Path) -> Result<(), StoreError> {
        self.check_whole()?;
        self.file.sync_all().map_err(io_error("sync the staging file"))?;
        fs::rename(&self.path, target).map_err(io_error("publish an artifact"))?;
        disk::sync_parent(target).map_err(io_error("sync the store"))
    }

    /// Unpacks one Zstandard frame under its caps into a file beside `target`, then makes that visible.
    pub(super) fn unpack_zstd(&self, artifact: &Artifact, target: &Path) -> Result<(), StoreError> {
        self.check_whole()?;
        let temporary = disk::beside(target, "tmp");
        let written = self.decompress(artifact, &temporary);
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        fs::rename(&temporary, target).map_err(io_error("publish an artifact"))?;
        disk::sync_parent(target).map_err(io_error("sync the store"))?;
        self.remove();
        Ok(())
    }

    fn decompress(&self, artifact: &Artifact, temporary: &Path) -> Result<(), StoreError> {
        let mut packed = self.file.try_clone().map_err(io_error("read the staging file"))?;
        packed.seek(SeekFrom::Start(0)).map_err(io_error("read the staging file"))?;
        let mut decoder =
            zstd::Decoder::new(packed).map_err(io_error("start the decompressor"))?.single_frame();
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(io_error("bound the decompressor"))?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary);
        let mut file = file.map_err(io_error("open the unpacked file"))?;
        let mut hash = Sha256::new();
        let length = copy_bounded(decoder, &mut file, &mut hash, artifact.size_bytes)?;
        let digest = Digest::from_bytes(hash.finalize().into());
        if length != artifact.size_bytes || digest != artifact.digest {
            let text = format!(
                "unpacked to {length} bytes with digest {digest}, signed are {} with {}",
                artifact.size_bytes, artifact.digest
            );
            return Err(StoreError::WrongBytes(text));
        }
        file.sync_all().map_err(io_error("sync the unpacked file"))
    }

    fn check_whole(&self) -> Result<(), StoreError> {
        let mut file = self.file.try_clone().map_err(io_error("read the staging file"))?;
        file.seek(SeekFrom::Start(0)).map_err(io_error("read the staging file"))?;
        let found = hash_of(file.take(self.packed.size_bytes)).map_err(io_error("read the staging file"))?;
        if found != self.packed.digest {
            return Err(StoreError::WrongBytes(format!(
                "packed bytes have digest {found}, signed is {}",
                self.packed.digest
            )));
        }
        Ok(())
    }

    pub(super) fn discard(self) {
        self.remove();
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a staging file");
        }
    }
}

fn hash_of(mut from: impl Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Takes the room now, so that a transfer that was started does not fail half way for want of it.
fn reserve(file: &File, size_bytes: u64) -> Result<(), StoreError> {
    use rustix::{fs::FallocateFlags, io::Errno};
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP) => {}
        Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
            let free_bytes =
                rustix::fs::fstatvfs(file).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
            return Err(StoreError::NoRoom { needed_bytes: size_bytes, free_bytes });
        }
        Err(error) => return Err(io_error("reserve room")(error.into())),
    }
    file.set_len(size_bytes).map_err(io_error("size the staging file"))
}

/// Copies at most `limit` bytes; one byte more is an error, so a decompression bomb ends at the signed length.
fn copy_bounded(
    mut from: impl Read,
    to: &mut File,
    hash: &mut Sha256,
    limit: u64,
) -> Result<u64, StoreError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0_u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(StoreError::WrongBytes(format!("does not decompress: {error}"))),
        };
        total += read as u64;
        if total > limit {
            return Err(StoreError::WrongBytes(format!("unpacks to more than the signed {limit} bytes")));
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(io_error("write the unpacked file"))?;
    }
}
