//! The metadata store of a real device: files that survive a power cut.
//!
//! A file is replaced as a whole. So after a power cut there is the old file or the new one, never a part of one, and
//! once [`MetadataStore::store`] has returned it is the new one.

use std::{io, path::PathBuf};

use agent_store::disk::{self, Disk, OsDisk};

use crate::store::MetadataStore;

/// Largest file that is read back: above the bound of every role.
const MAX_FILE_BYTES: u64 = 8 * 1_024 * 1_024;

/// Longest name: above that of every role.
const MAX_NAME_LEN: usize = 64;

/// Metadata in a folder that only the agent can read (files 0600, folders 0700). One agent uses it at a time.
#[derive(Debug)]
pub struct DiskStore {
    folder: PathBuf,
}

impl DiskStore {
    /// Opens the folder and makes it if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        disk::private_dir(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_NAME_LEN || name.starts_with('.') || !name.bytes().all(plain) {
            let message = format!("{name:?} is not the name of a metadata file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(self.folder.join(name))
    }
}

impl MetadataStore for DiskStore {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        disk::read_bounded(&self.path(name)?, MAX_FILE_BYTES)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        // What is there already was flushed before it got its name, but perhaps not yet the name itself.
        if matches!(self.load(name), Ok(Some(held)) if held == bytes) {
            return OsDisk.sync_dir(&self.folder);
        }
        disk::replace(&path, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn a_file_is_replaced_whole_and_only_the_agent_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path().join("metadata")).unwrap();
        assert_eq!(store.load("root.json").unwrap(), None);
        store.store("root.json", b"a longer first version").unwrap();
        store.store("root.json", b"second").unwrap();
        assert_eq!(store.load("root.json").unwrap().unwrap(), b"second");

        let path = folder.path().join("metadata/root.json");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("metadata")).unwrap().count(), 1);
    }

    #[test]
    fn what_a_power_cut_left_behind_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        fs::write(folder.path().join("root.json.tmp"), b"half of a fi").unwrap();
        assert_eq!(store.load("root.json").unwrap(), None);
        store.store("root.json", b"whole").unwrap();
        assert_eq!(store.load("root.json").unwrap().unwrap(), b"whole");
    }

    #[test]
    fn no_name_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        for name in ["", "..", "../a", "a/b", "/etc/passwd", ".hidden", "a\0b", &"x".repeat(65)] {
            assert!(store.store(name, b"x").is_err(), "{name:?}");
            assert!(store.load(name).is_err(), "{name:?}");
        }
    }
}
