//! Files that only their owner reads, and files that are whole or not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{DataDirError, check_closed};

/// Writes a file that only its owner may read. After a power cut it is there whole, or as it was before.
///
/// # Errors
/// When the system refuses.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    replace(path, bytes, 0o600).map_err(|source| failed("write", path, source))
}

/// Writes a file that everyone who may enter its folder may read, whole or not at all.
///
/// # Errors
/// When the system refuses.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    replace(path, bytes, 0o644).map_err(|source| failed("write", path, source))
}

/// Reads a file that nobody but its owner may read; the bytes are wiped when they are dropped.
///
/// # Errors
/// When the system refuses, or others may read the file.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, DataDirError> {
    check_closed(path, 0o600)?;
    fs::read(path).map(Zeroizing::new).map_err(|source| failed("read", path, source))
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = beside(path);
    // What a crash left there may be open to others, and the mode counts only for a file that is made.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

/// The place of the next contents: `ca.key.new` for `ca.key`, so that no two files share one.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { act, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_a_crash_left_open_does_not_make_a_key_readable_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("ca.key");
        let left = beside(&key);
        fs::write(&left, b"half").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o644)).unwrap();
        write_secret(&key, b"secret").unwrap();
        assert_eq!(&*read_secret(&key).unwrap(), b"secret");
        assert_ne!(left, beside(&folder.path().join("ca.pem")));
    }
}
