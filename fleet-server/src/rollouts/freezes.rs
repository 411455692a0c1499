//! Freeze periods reach the machines as the devices that they concern.

use std::collections::BTreeSet;

use fleet_core::{DeviceFacts, Freeze, Input, Selector};
use shared::{DeviceId, Timestamp};

use super::{RolloutError, facts, fleet::Fleet};
use crate::store::{FreezeRow, Store, StoreError};

impl Fleet {
    /// Tells every rollout that is under way which freezes concern it now. What is over hears of them when a person wants
    /// something of it.
    pub(super) async fn refreeze(&mut self, now: Timestamp) -> Result<BTreeSet<DeviceId>, RolloutError> {
        // Read in the turn: whoever changes them afterwards tells them afterwards.
        let mut turn = self.turn(now).await?;
        let freezes = self.freezes().await?;
        for entry in self.entries.values().filter(|entry| !entry.machine.state().is_final()) {
            if entry.machine.freezes() != freezes {
                turn.input(entry, Input::Freezes { freezes: freezes.clone() });
            }
        }
        self.finish(turn).await
    }

    /// Tells every rollout that is under way what may have happened while no server was there: time, freezes, and devices
    /// that a person took out just before the server ended.
    pub(super) async fn wake(&mut self, now: Timestamp) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let mut turn = self.turn(now).await?;
        if !self.holds_lease(&mut turn.tx).await? {
            return Ok(BTreeSet::new());
        }
        let freezes = self.freezes().await?;
        for entry in self.entries.values().filter(|entry| !entry.machine.state().is_final()) {
            turn.input(entry, Input::Freezes { freezes: freezes.clone() });
        }
        self.withdraw_marked(&mut turn).await?;
        self.finish(turn).await
    }

    /// The freezes as they are now.
    pub(super) async fn freezes(&self) -> Result<Vec<Freeze>, StoreError> {
        let rows = self.app.store.freezes().await?;
        // The fleet is only read where a selector must be matched with it.
        let is_partial = rows.iter().any(|row| row.selector.is_some());
        let fleet = if is_partial { facts::facts(&self.app.store).await? } else { vec![] };
        rows.into_iter().map(|row| freeze(row, &fleet)).collect()
    }
}

/// The freezes, each with the devices that its selector matches now.
pub(super) async fn freezes(store: &Store, fleet: &[DeviceFacts]) -> Result<Vec<Freeze>, StoreError> {
    store.freezes().await?.into_iter().map(|row| freeze(row, fleet)).collect()
}

fn freeze(row: FreezeRow, fleet: &[DeviceFacts]) -> Result<Freeze, StoreError> {
    let FreezeRow { id, from, until, reason, selector, .. } = row;
    let selector = selector.map(|text| {
        Selector::parse(&text).map_err(|error| StoreError::Corrupt {
            what: "selector of a freeze period",
            detail: error.to_string(),
        })
    });
    let devices = selector.transpose()?.map(|selector| {
        let concerned = fleet.iter().filter(|d| selector.matches(&d.id, &d.labels, &d.inventory));
        concerned.map(|device| device.id.clone()).collect()
    });
    Ok(Freeze { id, from, until, reason, devices })
}
