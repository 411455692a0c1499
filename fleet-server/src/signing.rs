//! The keys of the repository and the director, and the repository they sign.
//!
//! The repository's state is durable before any device can see what it signs: a version that was seen must never be
//! signed again with other contents. A server that is alone keeps it in its data directory. Where several servers share
//! a database it lies there, each change begins with the newest, and the file is a copy.

mod open;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use muster_repository::{Keys, MissingKey, Repository, RepositoryError, Role};
use shared::{
    DeviceId, Digest, ReleaseId, Timestamp,
    message::{Assignment, ChallengersMessage, DesiredMessage, Limits},
    trust::Envelope,
};
use thiserror::Error;
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    data_dir::{DataDir, DataDirError, write_atomically},
    store::{Desired, NamedChallengers, SharedRepository, Store, StoreError},
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
    /// The repository in the database was signed with keys that are not here.
    #[error(
        "the database holds a signed repository, and {missing} is missing. Copy the keys from the data directory of the \
         server that made it (*.key and ca.pem)",
        missing = missing.display()
    )]
    KeysElsewhere {
        /// A key that is needed.
        missing: PathBuf,
    },
    /// The repository in the database is that of another fleet.
    #[error(
        "the database holds the signed repository of another fleet: {role}.key is not one of its keys. Nothing was \
         changed. Correct database.url, or start with the keys (*.key and ca.pem) of a server of that fleet in a data \
         directory of its own"
    )]
    AnotherFleet {
        /// The first role whose key differs.
        role: Role,
    },
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// What a device is told beside its desired state, in documents of their own.
#[derive(Debug, Default)]
pub struct Beside {
    /// What it may spend, where somebody has set a bound.
    pub limits: Option<Limits>,
    /// What it shall run beside its champions, where somebody ever asked for it.
    pub challengers: NamedChallengers,
}

/// Where the repository, or its copy, lies in the data directory.
const STATE: &str = "repository/state.json";

/// Metadata files by name.
pub type Files = BTreeMap<String, Bytes>;

/// Signs what devices believe.
pub struct Signing {
    keys: Keys,
    file: PathBuf,
    /// Where it lies for several servers; `None` when this one is alone.
    shared: Option<Store>,
    /// One change at a time.
    changing: AsyncMutex<()>,
    repository: Mutex<Known>,
    files: ArcSwap<Files>,
}

/// The repository as this server knows it.
#[derive(Debug, Clone)]
struct Known {
    repository: Repository,
    /// The number of its newest change in the database; 0 when none was seen.
    change: u64,
}

impl Signing {
    /// Reads the keys of `data_dir` and the repository there or in a shared database, or makes them at the first start.
    ///
    /// # Errors
    /// When a file cannot be read or written or is lost, others may read a key, or the database gives no answer.
    pub async fn open(data_dir: &DataDir, store: &Store, now: Timestamp) -> Result<Self, SigningError> {
        let shared = store.is_shared().then(|| store.clone());
        let newest = match &shared {
            Some(store) => store.repository(0).await?,
            None => None,
        };
        let (keys, known) = open::open(data_dir, newest, now)?;
        let files = ArcSwap::from_pointee(files(&known.repository));
        let file = data_dir.join(STATE);
        let repository = Mutex::new(known);
        let signing = Self { keys, file, shared, changing: AsyncMutex::new(()), repository, files };
        // Looks at the keys first: with those of another fleet, the file that is there is the only one of its kind.
        signing.refresh(now).await.map_err(|error| match error {
            SigningError::Repository(RepositoryError::ForeignKey(role)) if store.is_shared() => {
                SigningError::AnotherFleet { role }
            }
            other => other,
        })?;
        // The first copy must not wait for the first change.
        save(&signing.file, &signing.lock().repository)?;
        Ok(signing)
    }

    /// Lists a release by its manifest; listing it again changes nothing.
    ///
    /// # Errors
    /// When the manifest is unusable or the state cannot be stored.
    pub async fn add_release(&self, manifest: &[u8], now: Timestamp) -> Result<(), SigningError> {
        self.change(|repository| Ok(repository.add_release(&self.keys, manifest, now).map(|_| ())?)).await
    }

    /// Whether [`Signing::add_release`] would take this manifest; nothing changes.
    ///
    /// # Errors
    /// When the manifest is unusable or the repository is full.
    pub fn check_release(&self, manifest: &[u8], now: Timestamp) -> Result<(), SigningError> {
        let mut copy = self.lock().repository.clone();
        Ok(copy.add_release(&self.keys, manifest, now).map(|_| ())?)
    }

    /// Whether the release is listed with this manifest.
    #[must_use]
    pub fn lists(&self, release: &ReleaseId, manifest: &Digest) -> bool {
        self.lock().repository.assignment(release).is_some_and(|listed| listed.manifest_digest == *manifest)
    }

    /// Signs again what has lived half its life.
    ///
    /// # Errors
    /// When the state cannot be stored.
    pub async fn refresh(&self, now: Timestamp) -> Result<(), SigningError> {
        self.change(|repository| Ok(repository.refresh(&self.keys, now).map(|_| ())?)).await
    }

    /// How long from `now` until something is to be signed again.
    #[must_use]
    pub fn next_refresh(&self, now: Timestamp) -> Duration {
        self.lock().repository.next_refresh_at().since(now)
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
        let root = self.lock().repository.trusted_root();
        serde_json::from_slice(&root).expect("what the repository signs is an envelope")
    }

    /// The desired state of a device, signed now.
    #[must_use]
    pub fn desired_message(
        &self,
        device: &DeviceId,
        desired: &Desired,
        beside: Beside,
        now: Timestamp,
    ) -> DesiredMessage {
        let assignments: Vec<Assignment> = desired.assignments.clone();
        let generation = desired.generation;
        let director = muster_repository::director(&self.keys, device.clone(), generation, assignments, now);
        let limits = beside.limits;
        let limits = limits.map(|limits| muster_repository::limits(&self.keys, device.clone(), limits));
        let NamedChallengers { revision, challengers } = beside.challengers;
        let challengers = (revision > 0).then(|| ChallengersMessage {
            revision,
            document: muster_repository::challengers(&self.keys, device.clone(), revision, challengers, now),
        });
        DesiredMessage { generation, director, limits, challengers }
    }

    /// Takes over what another server signed.
    ///
    /// # Errors
    /// When the database gives no answer or a newer program wrote it.
    pub async fn follow(&self) -> Result<(), SigningError> {
        let Some(store) = &self.shared else { return Ok(()) };
        let known = self.lock().change;
        if let Some(newer) = store.repository(known).await? {
            let _turn = self.changing.lock().await;
            if newer.change > self.lock().change {
                self.adopt(open::read_shared(&newer)?)?;
            }
        }
        Ok(())
    }

    /// Changes a copy of the newest, stores it, and only then lets anyone see it.
    async fn change(
        &self,
        change: impl FnOnce(&mut Repository) -> Result<(), SigningError>,
    ) -> Result<(), SigningError> {
        let _turn = self.changing.lock().await;
        let Some(store) = &self.shared else {
            let mut next = self.lock().clone();
            change(&mut next.repository)?;
            return self.adopt(next);
        };
        let mut tx = store.begin().await?;
        let current = self.lock().clone();
        let current = match Store::repository_in(&mut tx, current.change).await? {
            Some(newer) => open::read_shared(&newer)?,
            None => current,
        };
        let mut next = current.clone();
        change(&mut next.repository)?;
        if next.repository != current.repository || current.change == 0 {
            next.change += 1;
            let document = to_json(&next.repository);
            Store::save_repository(&mut tx, &SharedRepository { change: next.change, document }).await?;
        }
        tx.commit().await.map_err(StoreError::from)?;
        self.adopt(next)
    }

    /// Writes the file and serves what stands in it.
    fn adopt(&self, next: Known) -> Result<(), SigningError> {
        let mut current = self.lock();
        if next.repository != current.repository {
            save(&self.file, &next.repository)?;
            self.files.store(Arc::new(files(&next.repository)));
        }
        *current = next;
        Ok(())
    }

    /// A change replaces the whole state at its end, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.repository.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn files(repository: &Repository) -> Files {
    repository.files().into_iter().map(|(name, bytes)| (name, Bytes::from(bytes))).collect()
}

fn save(file: &Path, repository: &Repository) -> Result<(), SigningError> {
    Ok(write_atomically(file, to_json(repository).as_bytes())?)
}

fn to_json(repository: &Repository) -> String {
    serde_json::to_string(repository).expect("the repository is texts, numbers and maps")
}

#[cfg(test)]
mod tests;
