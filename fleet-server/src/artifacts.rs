//! Artifacts: bytes named by their digest, and blocks of them for devices.
//!
//! Names are made from digests, never from what a client says. Blocks of a rollout are asked for by many devices
//! within minutes, so the newest ones are kept in memory, within a bound.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use object_store::{ObjectStoreExt, local::LocalFileSystem, path::Path as Name};
use shared::Digest;
use thiserror::Error;

/// Memory for blocks: about a thousand of them, more than devices ask for at one moment.
const CACHE_BYTES: usize = 64 * 1_024 * 1_024;

/// What an entry of the cache takes besides its block: keys and nodes of two maps, the handle and its allocation.
const ENTRY_BYTES: usize = 256;

/// Why an artifact cannot be stored or read.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// The folder cannot be used.
    #[error("cannot use the artifact folder {path}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the library said.
        source: object_store::Error,
    },
    /// One artifact cannot be written.
    #[error("cannot store artifact {digest}")]
    Write {
        /// Which.
        digest: Digest,
        /// What the library said.
        source: object_store::Error,
    },
    /// One artifact cannot be read.
    #[error("cannot read artifact {digest}")]
    Read {
        /// Which.
        digest: Digest,
        /// What the library said.
        source: object_store::Error,
    },
    /// There is no such artifact.
    #[error("there is no artifact {0}")]
    Missing(Digest),
}

/// Where artifacts lie.
pub struct Artifacts {
    folder: LocalFileSystem,
    cache: Mutex<Cache>,
}

impl Artifacts {
    /// Uses `folder`, which must exist.
    ///
    /// # Errors
    /// When it does not.
    pub fn open(folder: &Path) -> Result<Self, ArtifactError> {
        let open = LocalFileSystem::new_with_prefix(folder);
        let folder = open
            .map_err(|source| ArtifactError::Folder { path: folder.to_owned(), source })?
            .with_fsync(true);
        Ok(Self { folder, cache: Mutex::default() })
    }

    /// Stores `bytes` and returns their digest. They are on the disk when this returns.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        let digest = Digest::of(&bytes);
        let name = name_of(&digest);
        let there = self.folder.head(&name).await.is_ok_and(|meta| meta.size == bytes.len() as u64);
        if !there {
            let put = self.folder.put(&name, bytes.into()).await;
            put.map_err(|source| ArtifactError::Write { digest, source })?;
        }
        Ok(digest)
    }

    /// The whole artifact.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn get(&self, digest: &Digest) -> Result<Bytes, ArtifactError> {
        let result = self.folder.get(&name_of(digest)).await.map_err(|error| read_error(digest, error))?;
        result.bytes().await.map_err(|error| read_error(digest, error))
    }

    /// Block `index` of an artifact cut into blocks of `block_bytes`; `None` past its end.
    ///
    /// # Errors
    /// When there is no such artifact, or it cannot be read.
    pub async fn block(
        &self,
        digest: &Digest,
        block_bytes: u32,
        index: u32,
    ) -> Result<Option<Bytes>, ArtifactError> {
        let key = (*digest, block_bytes, index);
        if let Some(block) = self.lock().get(&key) {
            return Ok(Some(block));
        }
        let start = u64::from(index) * u64::from(block_bytes);
        let name = name_of(digest);
        let size = self.folder.head(&name).await.map_err(|error| read_error(digest, error))?.size;
        if start >= size {
            return Ok(None);
        }
        let range = start..size.min(start + u64::from(block_bytes));
        let block = self.folder.get_range(&name, range).await.map_err(|error| read_error(digest, error))?;
        self.lock().insert(key, block.clone());
        Ok(Some(block))
    }

    /// A panic cannot leave the cache worse than incomplete, so a poisoned lock is still good.
    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(digest: &Digest) -> Name {
    let text = digest.to_string();
    Name::from(format!("{}/{text}", &text[..2]))
}

fn read_error(digest: &Digest, source: object_store::Error) -> ArtifactError {
    match source {
        object_store::Error::NotFound { .. } => ArtifactError::Missing(*digest),
        source => ArtifactError::Read { digest: *digest, source },
    }
}

type Key = (Digest, u32, u32);

/// The blocks used last, within [`CACHE_BYTES`].
#[derive(Default)]
struct Cache {
    blocks: HashMap<Key, (Bytes, u64)>,
    by_use: BTreeMap<u64, Key>,
    size_bytes: usize,
    uses: u64,
}

impl Cache {
    fn get(&mut self, key: &Key) -> Option<Bytes> {
        self.uses += 1;
        let (block, used) = self.blocks.get_mut(key)?;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(block.clone())
    }

    fn insert(&mut self, key: Key, block: Bytes) {
        self.uses += 1;
        self.size_bytes += ENTRY_BYTES + block.len();
        if let Some((old, used)) = self.blocks.insert(key, (block, self.uses)) {
            self.size_bytes -= ENTRY_BYTES + old.len();
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
        while self.size_bytes > CACHE_BYTES
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.size_bytes -= self.blocks.remove(&oldest).map_or(0, |(block, _)| ENTRY_BYTES + block.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blocks_put_together_are_the_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        let bytes: Bytes = (0..=255_u8).cycle().take(1_000).collect();
        let digest = artifacts.put(bytes.clone()).await.unwrap();
        assert_eq!(artifacts.put(bytes.clone()).await.unwrap(), digest);
        let mut found = Vec::new();
        for index in 0..4 {
            found.extend(artifacts.block(&digest, 300, index).await.unwrap().unwrap());
        }
        assert_eq!(found, bytes);
        assert_eq!(artifacts.get(&digest).await.unwrap(), bytes);
        assert!(artifacts.block(&digest, 300, 4).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_unknown_artifact_is_missing_and_not_an_error_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        let digest = Digest::of(b"nothing");
        assert!(matches!(artifacts.block(&digest, 300, 0).await, Err(ArtifactError::Missing(_))));
    }

    #[test]
    fn the_cache_forgets_what_was_used_longest_ago() {
        let mut cache = Cache::default();
        let block = Bytes::from(vec![0; CACHE_BYTES / 2 - ENTRY_BYTES]);
        let key = |index| (Digest::of(b"a"), 1, index);
        cache.insert(key(0), block.clone());
        cache.insert(key(1), block.clone());
        assert!(cache.get(&key(0)).is_some());
        cache.insert(key(2), block);
        assert!(cache.get(&key(1)).is_none() && cache.get(&key(0)).is_some());
        assert_eq!(cache.size_bytes, CACHE_BYTES);
    }
}
