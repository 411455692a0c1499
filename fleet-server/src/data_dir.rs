//! The server's folder: who may read it, who holds it, and where things lie in it.
//!
//! Keys lie here, so the folder is for one user only, and a key that others may read is refused and not used with
//! a warning. One server holds the folder at a time.

mod secret;

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

pub use secret::{read_secret, write_atomically, write_secret};

/// Why the folder cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The system refused something.
    #[error("cannot {act} {path}", path = path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may enter the folder or read a key.
    #[error(
        "{path} is open to other users (mode {mode:03o}); nothing was changed. Close it with: chmod {wanted:o} {path}",
        path = path.display()
    )]
    TooOpen {
        /// Which file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Bits that are fine.
        wanted: u32,
    },
    /// A file is gone that others belong to. Making a new one would shut out every device or user.
    #[error(
        "{there} is there but {missing} is missing; a new one would not fit. Restore it from a backup. If this \
         server never ran, remove {there} and start again",
        there = there.display(), missing = missing.display()
    )]
    Incomplete {
        /// What is there.
        there: PathBuf,
        /// What belongs to it.
        missing: PathBuf,
    },
    /// The key is gone with which the tokens in the database were hashed.
    #[error(
        "{missing} is missing although the database holds tokens, none of which would work with a new key. Restore \
         it from a backup; to start anew, delete all rows of the table `tokens`, and the server makes an admin token",
        missing = missing.display()
    )]
    LostTokenKey {
        /// Where it was.
        missing: PathBuf,
    },
    /// Another server holds the folder.
    #[error(
        "another server uses {path}; stop it first, or give this one its own data_dir",
        path = path.display()
    )]
    InUse {
        /// Which folder.
        path: PathBuf,
    },
}

/// A folder that this process holds until it drops the value.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Keeps the lock; the system releases it with the process, however that ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is not there, checks who may enter it, and takes it.
    ///
    /// # Errors
    /// When the system refuses, others may enter, or another server holds it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let io = |act: &'static str| move |source| DataDirError::Io { act, path: path.to_owned(), source };
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make the folder"))?;
        }
        let path = fs::canonicalize(path).map_err(io("find"))?;
        check_closed(&path, 0o700)?;
        let lock = take_lock(&path)?;
        for inner in ["artifacts", "repository"] {
            fs::create_dir_all(path.join(inner)).map_err(io("make a folder in"))?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether files that belong together are there; false when none is, as before the first start.
    ///
    /// # Errors
    /// When some are there and others are not.
    pub fn has_all(&self, names: &[&str]) -> Result<bool, DataDirError> {
        let paths = names.iter().map(|name| self.join(name));
        let (there, missing): (Vec<_>, Vec<_>) = paths.partition(|path| path.exists());
        match (there.into_iter().next(), missing.into_iter().next()) {
            (Some(there), Some(missing)) => Err(DataDirError::Incomplete { there, missing }),
            (there, _) => Ok(there.is_some()),
        }
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn take_lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join("lock");
    let io = |act: &'static str| {
        let path = file.clone();
        move |source| DataDirError::Io { act, path, source }
    };
    let lock =
        File::options().create(true).truncate(false).write(true).open(&file).map_err(io("open the lock"))?;
    lock.set_permissions(Permissions::from_mode(0o600)).map_err(io("close"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse { path: path.to_owned() }),
        Err(errno) => Err(io("lock")(errno.into())),
    }
}

/// Refuses a file or folder that anyone but its owner may touch.
fn check_closed(path: &Path, wanted: u32) -> Result<(), DataDirError> {
    let metadata = fs::metadata(path).map_err(|source| DataDirError::Io {
        act: "read the permissions of",
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(DataDirError::TooOpen { path: path.to_owned(), mode, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        (root, path)
    }

    #[test]
    fn a_new_folder_is_closed_to_others() {
        let (_root, path) = fresh();
        let data_dir = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(data_dir.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn two_servers_never_share_a_folder() {
        let (_root, path) = fresh();
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse { .. })));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused_with_advice() {
        let (_root, path) = fresh();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_lost_file_of_several_is_named_and_not_made_again() {
        let (_root, path) = fresh();
        let data_dir = DataDir::open(&path).unwrap();
        assert!(!data_dir.has_all(&["ca.key", "ca.pem"]).unwrap());
        write_secret(&data_dir.join("ca.key"), b"secret").unwrap();
        let error = data_dir.has_all(&["ca.key", "ca.pem"]).unwrap_err().to_string();
        assert!(error.contains("ca.pem is missing") && error.contains("backup"), "{error}");
        write_atomically(&data_dir.join("ca.pem"), b"public").unwrap();
        assert!(data_dir.has_all(&["ca.key", "ca.pem"]).unwrap());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_advice() {
        let (_root, path) = fresh();
        let data_dir = DataDir::open(&path).unwrap();
        let key = data_dir.join("ca.key");
        write_secret(&key, b"secret").unwrap();
        assert_eq!(&*read_secret(&key).unwrap(), b"secret");
        fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        let error = read_secret(&key).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
