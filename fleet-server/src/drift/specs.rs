//! What is watched of each release, read once from its manifest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use shared::{ReleaseId, manifest::DriftSpec};

use crate::store::{Store, StoreError};

/// Releases whose specification is kept: those that a fleet runs at one time. A usual one takes some tens of kilobytes, the largest
/// three megabytes.
const KEPT: usize = 64;

/// Specifications by release; those that were not asked for longest give way. Releases never change, so nothing grows old.
pub struct Specs {
    store: Store,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// `None` of a release that is not watched.
    by_release: BTreeMap<ReleaseId, (u64, Option<Arc<DriftSpec>>)>,
    asked: u64,
}

impl Specs {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, kept: Mutex::default() }
    }

    /// What is watched of a release; nothing when there is no such release or it has no reference.
    ///
    /// # Errors
    /// When the database gives no answer.
    pub async fn of(&self, release: &ReleaseId) -> Result<Option<Arc<DriftSpec>>, StoreError> {
        if let Some(known) = self.lock().get(release) {
            return Ok(known);
        }
        let Some(row) = self.store.release(release).await? else { return Ok(None) };
        let spec = row.manifest()?.drift.map(Arc::new);
        self.lock().put(release, spec.clone());
        Ok(spec)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn get(&mut self, release: &ReleaseId) -> Option<Option<Arc<DriftSpec>>> {
        self.asked += 1;
        let (last, spec) = self.by_release.get_mut(release)?;
        *last = self.asked;
        Some(spec.clone())
    }

    fn put(&mut self, release: &ReleaseId, spec: Option<Arc<DriftSpec>>) {
        while self.by_release.len() >= KEPT {
            let oldest = self.by_release.iter().min_by_key(|(_, (last, _))| *last);
            let Some(oldest) = oldest.map(|(release, _)| release.clone()) else { break };
            self.by_release.remove(&oldest);
        }
        self.by_release.insert(release.clone(), (self.asked, spec));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_gives_way() {
        let release = |n: usize| -> ReleaseId { format!("digits@{}", n + 1).parse().unwrap() };
        let mut kept = Kept::default();
        for n in 0..KEPT {
            kept.put(&release(n), None);
            assert!(kept.get(&release(n)).is_some());
        }
        assert!(kept.get(&release(0)).is_some());
        kept.put(&release(KEPT), None);
        assert_eq!(kept.by_release.len(), KEPT);
        assert!(kept.get(&release(0)).is_some() && kept.get(&release(1)).is_none());
    }
}
