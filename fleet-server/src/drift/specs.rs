//! What is watched of each release, read once from its manifest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use shared::{ReleaseId, manifest::DriftSpec};
use tokio::task::{JoinError, spawn_blocking};

use crate::store::{Store, StoreError};

/// Releases whose specification is kept: those that a fleet runs at one time. A usual one takes some tens of kilobytes, the largest
/// three megabytes.
const KEPT: usize = 64;

/// After so many questions, what was asked counts half: a release that a fleet has left gives way in the end.
const AGED_AFTER: u64 = 4_096;

/// Specifications by release; the one that was asked for least gives way, so that a device which names one release after the other does not
/// push out what the others run. Releases never change, so nothing grows old. A release that there is not is looked up each time: that
/// is one row by its key, and whoever makes names up never says one twice.
pub struct Specs {
    store: Store,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// How often each was asked for lately; `None` of a release that is not watched.
    by_release: BTreeMap<ReleaseId, (u64, Option<Arc<DriftSpec>>)>,
    /// Questions since all counts were halved.
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
    /// When the database gives no answer, or one that cannot be read.
    pub async fn of(&self, release: &ReleaseId) -> Result<Option<Arc<DriftSpec>>, StoreError> {
        if let Some(known) = self.lock().get(release) {
            return Ok(known);
        }
        let Some(row) = self.store.release(release).await? else { return Ok(None) };
        // Megabytes take their time, and others wait for this thread.
        let reading = spawn_blocking(move || row.manifest().map(|manifest| manifest.drift.map(Arc::new)));
        let broke = |error: JoinError| StoreError::Corrupt { what: "manifest", detail: error.to_string() };
        let spec = reading.await.map_err(broke)??;
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
        if self.asked >= AGED_AFTER {
            self.asked = 0;
            self.by_release.values_mut().for_each(|(asked, _)| *asked /= 2);
        }
        let (asked, spec) = self.by_release.get_mut(release)?;
        *asked += 1;
        Some(spec.clone())
    }

    fn put(&mut self, release: &ReleaseId, spec: Option<Arc<DriftSpec>>) {
        while self.by_release.len() >= KEPT {
            let least = self.by_release.iter().min_by_key(|(_, (asked, _))| *asked);
            let Some(least) = least.map(|(release, _)| release.clone()) else { break };
            self.by_release.remove(&least);
        }
        self.by_release.insert(release.clone(), (1, spec));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(n: usize) -> ReleaseId {
        format!("digits@{}", n + 1).parse().unwrap()
    }

    #[test]
    fn a_device_that_names_one_release_after_the_other_pushes_none_out_that_others_run() {
        let mut kept = Kept::default();
        for n in (0..8).flat_map(|_| 0..KEPT - 1) {
            if kept.get(&release(n)).is_none() {
                kept.put(&release(n), None);
            }
        }
        for n in KEPT..20 * KEPT {
            assert!(kept.get(&release(n)).is_none());
            kept.put(&release(n), None);
        }
        assert_eq!(kept.by_release.len(), KEPT);
        assert!((0..KEPT - 1).all(|n| kept.by_release.contains_key(&release(n))));
    }

    #[test]
    fn a_release_that_nobody_runs_any_more_gives_way() {
        let mut kept = Kept::default();
        for n in 0..KEPT {
            kept.put(&release(n), None);
            (0..100).for_each(|_| drop(kept.get(&release(n))));
        }
        for _ in 0..20 * AGED_AFTER {
            (1..3).for_each(|n| drop(kept.get(&release(n))));
        }
        (0..KEPT - 2).for_each(|n| kept.put(&release(KEPT + n), None));
        assert!(kept.get(&release(0)).is_none() && kept.get(&release(1)).is_some());
    }
}
