//! What is there when a server starts: keys, and the repository that they signed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use muster_repository::{Keys, Repository, Role};
use shared::Timestamp;
use zeroize::Zeroizing;

use super::{Known, STATE, SigningError};
use crate::{
    data_dir::{DataDir, DataDirError, read_secret, write_secret},
    store::{SharedRepository, StoreError},
};

/// Reads both, or makes them where nothing is there. Whatever is there without what belongs to it is an error: devices
/// would refuse what new keys sign, and what is signed anew from the beginning.
pub(super) fn open(
    data_dir: &DataDir,
    shared: Option<SharedRepository>,
    now: Timestamp,
) -> Result<(Keys, Known), SigningError> {
    let mut names = Role::ALL.map(|role| format!("{role}.key")).to_vec();
    if let Some(shared) = shared {
        if let Some(missing) = names.iter().map(|name| data_dir.join(name)).find(|path| !path.exists()) {
            return Err(SigningError::KeysElsewhere { missing });
        }
        return Ok((read_keys(data_dir)?, read_shared(&shared)?));
    }
    names.push(STATE.to_owned());
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (keys, repository) = if data_dir.has_all(&names)? {
        (read_keys(data_dir)?, read_file(&data_dir.join(STATE))?)
    } else {
        let keys = create_keys(data_dir)?;
        let repository = Repository::create(&keys, now);
        (keys, repository)
    };
    Ok((keys, Known { repository, change: 0 }))
}

/// The repository of the database.
pub(super) fn read_shared(shared: &SharedRepository) -> Result<Known, SigningError> {
    let repository = serde_json::from_str(&shared.document)
        .map_err(|error| StoreError::Corrupt { what: "repository", detail: error.to_string() })?;
    Ok(Known { repository, change: shared.change })
}

fn read_file(file: &Path) -> Result<Repository, SigningError> {
    let bytes = std::fs::read(file).map_err(|source| DataDirError::Io {
        act: "read",
        path: file.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|source| SigningError::Unreadable { path: file.to_owned(), source })
}

fn key_file(data_dir: &DataDir, role: Role) -> PathBuf {
    data_dir.join(&format!("{role}.key"))
}

fn create_keys(data_dir: &DataDir) -> Result<Keys, SigningError> {
    let mut seeds = Zeroizing::new([[0; 32]; 5]);
    for seed in seeds.iter_mut() {
        getrandom::fill(seed).map_err(SigningError::Random)?;
    }
    let keys = Keys::from_seeds(&seeds);
    for (role, pem) in keys.to_pem() {
        write_secret(&key_file(data_dir, role), pem.as_bytes())?;
    }
    Ok(keys)
}

fn read_keys(data_dir: &DataDir) -> Result<Keys, SigningError> {
    let mut files = BTreeMap::new();
    for role in Role::ALL {
        let bytes = read_secret(&key_file(data_dir, role))?;
        files.insert(role, Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(Keys::from_pem(&files)?)
}
