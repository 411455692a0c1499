//! What other servers on the same database did, and what this one may do for all.

use std::collections::BTreeSet;

use shared::DeviceId;

use super::{entry::Entry, fleet::Fleet};
use crate::{
    servers,
    store::{Store, StoreError, Tx},
};

impl Fleet {
    /// Reads what other servers changed. Nobody writes beside a transaction that has begun, so after this the rollouts in
    /// memory are those of the database until its end.
    pub(super) async fn catch_up(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        if !self.app.store.is_shared() {
            return Ok(());
        }
        for row in Store::rollouts_changed(tx, self.seen_change).await? {
            self.seen_change = row.change;
            self.entries.insert(row.id.clone(), Entry::read(row)?);
        }
        self.catch_up_experiments(tx).await
    }

    /// The same outside of a turn; true when there was something new.
    pub(super) async fn look_at_others(&mut self) -> Result<bool, StoreError> {
        let store = self.app.store.clone();
        if !store.is_shared() {
            return Ok(false);
        }
        let newest = (store.newest_rollout_change().await?, store.newest_experiment_change().await?);
        if newest == (self.seen_change, self.seen_experiment) {
            return Ok(false);
        }
        let mut tx = store.begin().await?;
        self.catch_up(&mut tx).await?;
        Ok(true)
    }

    /// Devices connected here whose desired state another server changed since the last look.
    pub(super) async fn changed_by_others(&mut self) -> Result<BTreeSet<DeviceId>, StoreError> {
        let mut changed = BTreeSet::new();
        loop {
            let changes = self.app.store.desired_changes(self.told_change).await?;
            let Some((newest, _)) = changes.last() else { break };
            self.told_change = *newest;
            changed.extend(changes.into_iter().filter_map(|(_, device)| device));
        }
        if !changed.is_empty() {
            let here = self.app.broker.get().map(|broker| broker.connected()).unwrap_or_default();
            changed.retain(|device| here.contains(device));
        }
        Ok(changed)
    }

    /// Whether this server still moves rollouts on with time, looked at where it cannot change any more.
    pub(super) async fn holds_lease(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        servers::holds_lease(&self.app, tx).await
    }
}
