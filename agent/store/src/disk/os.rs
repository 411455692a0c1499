//! The operating system's file system.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _},
    path::Path,
};

use rustix::{fs::FallocateFlags, io::Errno};

use super::{Disk, DiskFile, Entry, OpenAs};

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    type File = File;

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::metadata(path)?.is_dir() {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            made => made,
        }
    }

    fn open(&self, path: &Path, open_as: OpenAs) -> io::Result<File> {
        let mut options = OpenOptions::new();
        match open_as {
            OpenAs::Reader => options.read(true),
            OpenAs::Editor => options.read(true).write(true).create(true).truncate(false),
            OpenAs::Empty => options.write(true).create(true).truncate(true),
        };
        options.mode(0o600).open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // One that went meanwhile is not there.
            let Ok(metadata) = entry.metadata() else { continue };
            if !metadata.is_dir() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(Entry { name, size_bytes: metadata.len() });
            }
        }
        Ok(entries)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let fs = rustix::fs::statvfs(dir)?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

impl DiskFile for File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn allocate(&self, size_bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, size_bytes) {
            // A file system that cannot promise room gives it when it is written.
            Ok(()) | Err(Errno::OPNOTSUPP) => self.set_len(size_bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
