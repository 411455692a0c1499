//! One artifact on its way: a file of its final packed size that fills block by block, and for a packed form beside it
//! one for what it unpacks to. The room of both is taken before the first byte, so that a transfer that was started
//! does not fail half way for want of it.

use std::{
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use shared::{
    Digest,
    artifact::{Artifact, Encoding, Packed},
    block::BlockMap,
};

use super::{BlockFate, StoreError, io_error};
use crate::disk::{Disk, DiskFile, OpenAs, beside, read_up_to};

/// Log₂ of the largest window a frame may ask for: 8 MiB, so that unpacking stays small.
const MAX_WINDOW_LOG: u32 = 23;

/// Bytes moved at once while hashing and unpacking.
const CHUNK_BYTES: usize = 64 * 1_024;

#[derive(Debug)]
pub(super) struct Staging<D: Disk> {
    disk: D,
    path: PathBuf,
    file: D::File,
    packed: Packed,
    here: BlockMap,
    /// What the packed form unpacks to; none when it travels as it is.
    unpacked: Option<(PathBuf, D::File)>,
}

/// Where the staging file of a packed form lies, and what it unpacks to.
pub(super) fn paths_in(dir: &Path, packed: &Packed) -> (PathBuf, PathBuf) {
    let path = dir.join(packed.digest.to_string());
    let unpacked = beside(&path, "out");
    (path, unpacked)
}

impl<D: Disk> Staging<D> {
    /// Opens the staging files, reserves their room, and finds out which blocks are here.
    pub(super) fn open(disk: D, dir: &Path, artifact: &Artifact) -> Result<Self, StoreError> {
        let packed = artifact.packed.clone();
        let (path, unpacked_path) = paths_in(dir, &packed);
        let file = disk.open(&path, OpenAs::Editor).map_err(io_error("open the staging file"))?;
        let resumed = file.size_bytes().map_err(io_error("look at the staging file"))? > 0;
        let reserved = reserve(&disk, dir, &file, packed.size_bytes)
            .and_then(|()| room_to_unpack(&disk, &unpacked_path, artifact));
        let unpacked = match reserved {
            Ok(unpacked) => unpacked,
            Err(error) => {
                // Room that is not enough is of no use to anybody; blocks that are here already are.
                let _ = disk.remove(&unpacked_path);
                if !resumed {
                    let _ = disk.remove(&path);
                }
                return Err(error);
            }
        };
        let here = BlockMap::empty(packed.block_count());
        let mut staging = Self { disk, path, file, packed, here, unpacked };
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
            let read = read_up_to(&self.file, block, offset).map_err(io_error("read the staging file"))?;
            if Some(&Digest::of(&block[..read])) == self.packed.blocks.get(index as usize) {
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

    /// Unpacks if need be, under the caps of the signed sizes, and gives the result its final name. It gets it only
    /// when every byte was hashed and is durable, and has it for good when this returns.
    pub(super) fn publish(&self, artifact: &Artifact, target: &Path) -> Result<(), StoreError> {
        self.check_whole()?;
        let (path, file) = match &self.unpacked {
            None => (&self.path, &self.file),
            Some((path, file)) => {
                self.decompress(artifact, file)?;
                (path, file)
            }
        };
        if let Err(error) = file.sync() {
            // The pages may be gone although they can still be read: another attempt must not begin with this file.
            self.remove();
            return Err(io_error("sync a staging file")(error));
        }
        self.disk.rename(path, target).map_err(io_error("publish an artifact"))?;
        self.disk.sync_parent(target).map_err(io_error("sync the store"))
    }

    fn decompress(&self, artifact: &Artifact, to: &D::File) -> Result<(), StoreError> {
        let packed = Reader { file: &self.file, offset: 0, end: self.packed.size_bytes };
        let mut decoder =
            zstd::Decoder::new(packed).map_err(io_error("start the decompressor"))?.single_frame();
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(io_error("bound the decompressor"))?;
        let mut hash = Sha256::new();
        let length = copy_bounded(&mut decoder, to, &mut hash, artifact.size_bytes)?;
        nothing_follows(decoder.finish())?;
        let digest = Digest::from_bytes(hash.finalize().into());
        if length != artifact.size_bytes || digest != artifact.digest {
            let text = format!(
                "unpacked to {length} bytes with digest {digest}, signed are {} with {}",
                artifact.size_bytes, artifact.digest
            );
            return Err(StoreError::WrongBytes(text));
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), StoreError> {
        let found = hash_of(&self.file, self.packed.size_bytes).map_err(io_error("read the staging file"))?;
        if found != self.packed.digest {
            return Err(StoreError::WrongBytes(format!(
                "packed bytes have digest {found}, signed is {}",
                self.packed.digest
            )));
        }
        Ok(())
    }

    /// Removes what is left of it.
    pub(super) fn remove(&self) {
        let unpacked = self.unpacked.as_ref().map(|(path, _)| path);
        for path in unpacked.into_iter().chain([&self.path]) {
            match self.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove a staging file");
                }
                _ => {}
            }
        }
    }
}

/// One frame is what the manifest says; what lies behind it was meant for another reader.
fn nothing_follows(mut packed: impl BufRead) -> Result<(), StoreError> {
    let rest = packed.fill_buf().map_err(io_error("read the staging file"))?;
    if rest.is_empty() { Ok(()) } else { Err(StoreError::WrongBytes("bytes follow its frame".into())) }
}

fn room_to_unpack<D: Disk>(
    disk: &D,
    path: &Path,
    artifact: &Artifact,
) -> Result<Option<(PathBuf, D::File)>, StoreError> {
    match artifact.packed.encoding {
        Encoding::Stored => Ok(None),
        Encoding::Zstd => {
            let file = disk.open(path, OpenAs::Empty).map_err(io_error("open the unpacked file"))?;
            reserve(disk, path.parent().unwrap_or(path), &file, artifact.size_bytes)?;
            Ok(Some((path.to_owned(), file)))
        }
    }
}

fn reserve<D: Disk>(disk: &D, dir: &Path, file: &D::File, size_bytes: u64) -> Result<(), StoreError> {
    match file.allocate(size_bytes) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ) =>
        {
            let free_bytes = disk.free_bytes(dir).unwrap_or(0);
            Err(StoreError::NoRoom { needed_bytes: size_bytes, free_bytes })
        }
        Err(error) => Err(io_error("reserve room")(error)),
    }
}

/// The digest of the first `size_bytes` of a file.
pub(super) fn hash_of(file: &impl DiskFile, size_bytes: u64) -> io::Result<Digest> {
    let mut from = Reader { file, offset: 0, end: size_bytes };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(size_bytes).unwrap_or(CHUNK_BYTES))];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(hash.finalize().into())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a file from its beginning to a bound.
struct Reader<'a, F> {
    file: &'a F,
    offset: u64,
    end: u64,
}

impl<F: DiskFile> Read for Reader<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Copies at most `limit` bytes; one byte more is an error, so a decompression bomb ends at the signed length.
fn copy_bounded(
    mut from: impl Read,
    to: &impl DiskFile,
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
            // What the system says is about the disk, what the decompressor says about the bytes.
            Err(error) if error.raw_os_error().is_some() => {
                return Err(io_error("read the staging file")(error));
            }
            Err(error) => return Err(StoreError::WrongBytes(format!("does not decompress: {error}"))),
        };
        let offset = total;
        total += read as u64;
        if total > limit {
            return Err(StoreError::WrongBytes(format!("unpacks to more than the signed {limit} bytes")));
        }
        hash.update(&buffer[..read]);
        to.write_all_at(&buffer[..read], offset).map_err(io_error("write the unpacked file"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decompressor whose disk fails below it.
    struct Failing(Option<io::Error>);

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.take().map_or(Ok(0), Err)
        }
    }

    fn copied(error: io::Error) -> StoreError {
        let to = tempfile::tempfile().unwrap();
        copy_bounded(Failing(Some(error)), &to, &mut Sha256::new(), 1).unwrap_err()
    }

    #[test]
    fn a_disk_that_cannot_be_read_condemns_no_artifact() {
        let disk = rustix::io::Errno::IO.into();
        assert!(matches!(copied(disk), StoreError::Io { .. }));
        let bytes = io::Error::other("Unknown frame descriptor");
        assert!(matches!(copied(bytes), StoreError::WrongBytes(_)));
    }
}
