//! Where trusted metadata is kept, and what follows when that fails.
//!
//! The metadata library logs a failed write and goes on. Then a power cut would take back what was already
//! acted on, and with it the protection against old metadata. So the first error is kept, and from then on
//! nothing is verified: a new [`Verifier`](crate::Verifier) is needed, which starts from what the store holds.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use sigstore_tuf::cache::MetadataStore as LibraryStore;

use crate::error::StoreError;

/// Keeps four files by name: `root.json`, `timestamp.json`, `snapshot.json` and `targets.json`.
pub trait MetadataStore: Send + Sync {
    /// The file, or `None` if it was never stored.
    ///
    /// # Errors
    /// When it may exist but cannot be read.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Keeps the file: when this returns, a power cut no longer takes it away.
    ///
    /// # Errors
    /// When that cannot be promised.
    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

/// The first error of a store, for ever.
#[derive(Clone, Default)]
pub(crate) struct Latch(Arc<Mutex<Option<StoreError>>>);

impl Latch {
    /// Fails if anything has failed before.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    fn keep<T>(&self, file: &str, result: io::Result<T>) -> Result<T, sigstore_tuf::Error> {
        result.map_err(|cause| {
            let error = StoreError { file: file.into(), cause: Arc::new(cause) };
            let message = error.to_string();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            sigstore_tuf::Error::io(message, io::Error::other("see the store"))
        })
    }
}

/// The store as the metadata library wants it.
pub(crate) struct Adapter<M> {
    pub(crate) store: M,
    pub(crate) latch: Latch,
}

impl<M: MetadataStore> LibraryStore for Adapter<M> {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, sigstore_tuf::Error> {
        if !is_kept(name) {
            return Ok(None);
        }
        self.latch.keep(name, self.store.load(name))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), sigstore_tuf::Error> {
        if !is_kept(name) {
            return Ok(());
        }
        self.latch.keep(name, self.store.store(name, bytes))
    }
}

impl<M> fmt::Debug for Adapter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").finish_non_exhaustive()
    }
}

/// The files that verification starts from after a restart. Past roots, numbered snapshots and delegated roles
/// are never read back, so they would only fill the disk.
fn is_kept(name: &str) -> bool {
    matches!(name, "root.json" | "timestamp.json" | "snapshot.json" | "targets.json")
}
