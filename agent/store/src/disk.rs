//! What the store asks of a file system, and how a file is replaced so that a power cut leaves the old content or
//! the new one, never a mixture.
//!
//! Everything durable goes through [`Disk`], so that tests can run the same code on a disk that they cut off at any
//! operation. The trait promises no more than POSIX does: what was written is safe after [`DiskFile::sync`], and a
//! name is safe after [`Disk::sync_dir`] of the directory it lies in.

mod os;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

pub use os::OsDisk;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenAs {
    /// For reading; it must be there.
    Reader,
    /// For reading and writing; what is there stays, and a file is made if there is none.
    Editor,
    /// For writing; what is there is gone, and a file is made if there is none.
    Empty,
}

/// A file in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in that directory.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
}

/// A file system, as far as the agent's durable state needs one.
pub trait Disk: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a directory that only its owner can enter, unless it is there.
    ///
    /// # Errors
    /// When its parent is not there, or the file system refuses.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Opens a file. A new one is readable by its owner only.
    ///
    /// # Errors
    /// When the file system refuses.
    fn open(&self, path: &Path, open_as: OpenAs) -> io::Result<Self::File>;

    /// Gives a file another name; what had that name is gone.
    ///
    /// # Errors
    /// When the file system refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When there is none, or the file system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable: files made in it, renamed and removed.
    ///
    /// # Errors
    /// When that cannot be promised.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The files in a directory.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// What the file system of `dir` has left.
    ///
    /// # Errors
    /// When it does not say.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Makes a directory with its parents, durably. One that is there may be there since a moment ago only, so it is
    /// made durable as well.
    ///
    /// # Errors
    /// When the file system refuses.
    fn private_dir(&self, path: &Path) -> io::Result<()> {
        match (self.make_dir(path), path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                self.private_dir(parent)?;
                self.make_dir(path)?;
            }
            (made, _) => made?,
        }
        match self.sync_parent(path) {
            // Who may not open the parent did not make this directory.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        }
    }

    /// Replaces the content of `path`: write a temporary file → fsync → rename → fsync the directory.
    ///
    /// An fsync that failed is not tried again on the same file, because the kernel may have dropped the pages;
    /// the temporary file is removed and the caller may start over.
    ///
    /// # Errors
    /// When any of the steps fails; `path` then holds what it held, or the new content.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = beside(path, "tmp");
        let written = self.write_synced(&temporary, bytes).and_then(|()| self.rename(&temporary, path));
        if written.is_err() {
            let _ = self.remove(&temporary);
        }
        written?;
        self.sync_parent(path)
    }

    /// Writes a new file and makes its content durable, but not its name.
    ///
    /// # Errors
    /// When the file system refuses.
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.open(path, OpenAs::Empty)?;
        file.write_all_at(bytes, 0)?;
        file.sync()
    }

    /// Makes a rename or removal in the directory of `path` durable.
    ///
    /// # Errors
    /// When the directory cannot be synced.
    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Reads a file of at most `max_bytes`; `None` when there is no such file.
    ///
    /// # Errors
    /// When it is larger or cannot be read.
    fn read_bounded(&self, path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path, OpenAs::Reader) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.size_bytes()?;
        if length > max_bytes {
            let text = format!("{} has {length} bytes, at most {max_bytes} are expected", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = read_up_to(&file, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send {
    /// Its length.
    ///
    /// # Errors
    /// When the file system does not say.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Reads at a position; fewer bytes than asked for may come, and none only at the end.
    ///
    /// # Errors
    /// When the file system fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at a position.
    ///
    /// # Errors
    /// When the file system fails; any part may then have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Takes room for `size_bytes` and gives the file that length.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`] when there is not enough.
    fn allocate(&self, size_bytes: u64) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// When that cannot be promised; then it never can be for this file, and another has to be written.
    fn sync(&self) -> io::Result<()>;
}

/// Reads until `buffer` is full or the file ends.
pub(crate) fn read_up_to(file: &impl DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// `path` with another ending, in the same directory so that a rename between them is atomic.
#[must_use]
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// [`Disk::private_dir`] of the operating system.
///
/// # Errors
/// When the file system refuses.
pub fn private_dir(path: &Path) -> io::Result<()> {
    OsDisk.private_dir(path)
}

/// [`Disk::replace`] of the operating system.
///
/// # Errors
/// When any of the steps fails; `path` then holds what it held, or the new content.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OsDisk.replace(path, bytes)
}

/// [`Disk::read_bounded`] of the operating system.
///
/// # Errors
/// When the file is larger or cannot be read.
pub fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    OsDisk.read_bounded(path, max_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_failed_replacement_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"old").unwrap();
        // A directory in the temporary file's place makes the write fail, for root as well.
        fs::create_dir(beside(&path, "tmp")).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_file_over_its_bound_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"12345").unwrap();
        assert!(read_bounded(&path, 4).is_err());
        assert_eq!(read_bounded(&path, 5).unwrap().unwrap(), b"12345");
        assert!(read_bounded(&dir.path().join("none"), 5).unwrap().is_none());
    }

    #[test]
    fn only_the_owner_gets_into_what_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("a/b"), dir.path().join("a/b/file"));
        private_dir(&folder).unwrap();
        private_dir(&folder).unwrap();
        replace(&file, b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir.path().join("a")), mode(&folder), mode(&file)), (0o700, 0o700, 0o600));
    }
}
