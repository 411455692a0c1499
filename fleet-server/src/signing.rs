//! The keys of the repository and the director, and the repository they sign.
//!
//! The repository's state is on the disk before any device can see what it signs: a version that was seen must
//! never be signed again with other contents.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_repository::{Keys, MissingKey, Repository, RepositoryError, Role};
use shared::{
    DeviceId, Digest, ReleaseId, Timestamp,
    message::{Assignment, DesiredMessage, Limits},
    trust::Envelope,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    data_dir::{DataDir, DataDirError, read_secret, write_atomically, write_secret},
    store::Desired,
};

/// Why nothing was signed.
#[derive(Debug, Error)]
pub enum SigningError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// A key is missing or unreadable.
    #[error(transparent)]
    Key(#[from] MissingKey),
    /// The repository refused.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The stored repository cannot be read.
    #[error("cannot read the repository {path}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// Where the repository lies in the data directory.
const STATE: &str = "repository/state.json";

/// Metadata files by name.
pub type Files = BTreeMap<String, Bytes>;

/// Signs what devices believe.
pub struct Signing {
    keys: Keys,
    file: PathBuf,
    repository: Mutex<Repository>,
    files: ArcSwap<Files>,
}

impl Signing {
    /// Reads keys and repository of `data_dir`, or makes them at the first start.
    ///
    /// # Errors
    /// When a file cannot be read or written or is lost, or others may read a key.
    pub fn open(data_dir: &DataDir, now: Timestamp) -> Result<Self, SigningError> {
        let file = data_dir.join(STATE);
        let keys = Role::ALL.map(|role| format!("{role}.key"));
        let names: Vec<_> = keys.iter().map(String::as_str).chain([STATE]).collect();
        let (keys, mut repository) = if data_dir.has_all(&names)? {
            (read_keys(data_dir)?, read_repository(&file)?)
        } else {
            let keys = create_keys(data_dir)?;
            let repository = Repository::create(&keys, now);
            (keys, repository)
        };
        repository.refresh(&keys, now)?;
        save(&file, &repository)?;
        let files = ArcSwap::from_pointee(files(&repository));
        Ok(Self { keys, file, repository: Mutex::new(repository), files })
    }

    /// Lists a release by its manifest; listing it again changes nothing.
    ///
    /// # Errors
    /// When the manifest is unusable or the file cannot be written.
    pub fn add_release(&self, manifest: &[u8], now: Timestamp) -> Result<(), SigningError> {
        self.change(|repository| Ok(repository.add_release(&self.keys, manifest, now).map(|_| ())?))
    }

    /// Whether [`Signing::add_release`] would take this manifest; nothing changes.
    ///
    /// # Errors
    /// When the manifest is unusable or the repository is full.
    pub fn check_release(&self, manifest: &[u8], now: Timestamp) -> Result<(), SigningError> {
        let mut copy = self.lock().clone();
        Ok(copy.add_release(&self.keys, manifest, now).map(|_| ())?)
    }

    /// Whether the release is listed with this manifest.
    #[must_use]
    pub fn lists(&self, release: &ReleaseId, manifest: &Digest) -> bool {
        self.lock().assignment(release).is_some_and(|listed| listed.manifest_digest == *manifest)
    }

    /// Signs again what has lived half its life.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn refresh(&self, now: Timestamp) -> Result<(), SigningError> {
        self.change(|repository| Ok(repository.refresh(&self.keys, now).map(|_| ())?))
    }

    /// How long from `now` until something is to be signed again.
    #[must_use]
    pub fn next_refresh(&self, now: Timestamp) -> Duration {
        self.lock().next_refresh_at().since(now)
    }

    /// A metadata file by name.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<Bytes> {
        self.files.load().get(name).cloned()
    }

    /// The newest root metadata, to be pinned by a device that joins.
    ///
    /// # Panics
    /// Never: what the repository signs is an envelope.
    #[must_use]
    pub fn trusted_root(&self) -> Envelope {
        let root = self.lock().trusted_root();
        serde_json::from_slice(&root).expect("what the repository signs is an envelope")
    }

    /// The desired state of a device, signed now.
    #[must_use]
    pub fn desired_message(
        &self,
        device: &DeviceId,
        desired: &Desired,
        limits: Option<Limits>,
        now: Timestamp,
    ) -> DesiredMessage {
        let assignments: Vec<Assignment> = desired.assignments.clone();
        let generation = desired.generation;
        let director = muster_repository::director(&self.keys, device.clone(), generation, assignments, now);
        let limits = limits.map(|limits| muster_repository::limits(&self.keys, device.clone(), limits));
        DesiredMessage { generation, director, limits }
    }

    /// Changes a copy, stores it, and only then lets anyone see it.
    fn change(
        &self,
        change: impl FnOnce(&mut Repository) -> Result<(), SigningError>,
    ) -> Result<(), SigningError> {
        let mut current = self.lock();
        let mut next = current.clone();
        change(&mut next)?;
        if next != *current {
            save(&self.file, &next)?;
            self.files.store(Arc::new(files(&next)));
            *current = next;
        }
        Ok(())
    }

    /// A change replaces the whole state at its end, so a poisoned lock is still good.
    fn lock(&self) -> std::sync::MutexGuard<'_, Repository> {
        self.repository.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn files(repository: &Repository) -> Files {
    repository.files().into_iter().map(|(name, bytes)| (name, Bytes::from(bytes))).collect()
}

fn save(file: &std::path::Path, repository: &Repository) -> Result<(), SigningError> {
    let bytes = serde_json::to_vec(repository).expect("the repository is texts, numbers and maps");
    Ok(write_atomically(file, &bytes)?)
}

fn read_repository(file: &std::path::Path) -> Result<Repository, SigningError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn keys_and_repository_survive_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        let first = Signing::open(&data_dir, NOW).unwrap();
        let second = Signing::open(&data_dir, NOW).unwrap();
        assert_eq!(first.trusted_root(), second.trusted_root());
        assert_eq!(first.metadata("timestamp.json"), second.metadata("timestamp.json"));
        assert!(first.metadata("1.root.json").is_some() && first.metadata("../ca.key").is_none());
    }

    #[test]
    fn a_lost_repository_is_not_silently_replaced() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        Signing::open(&data_dir, NOW).unwrap();
        std::fs::remove_file(data_dir.join(STATE)).unwrap();
        let Err(error) = Signing::open(&data_dir, NOW) else { panic!("it starts") };
        assert!(error.to_string().contains("state.json is missing"), "{error}");
    }

    #[test]
    fn metadata_is_signed_again_at_half_its_life() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        let signing = Signing::open(&data_dir, NOW).unwrap();
        let before = signing.metadata("timestamp.json").unwrap();
        signing.refresh(NOW).unwrap();
        assert_eq!(before, signing.metadata("timestamp.json").unwrap());
        signing.refresh(NOW + signing.next_refresh(NOW)).unwrap();
        assert_ne!(before, signing.metadata("timestamp.json").unwrap());
    }
}
