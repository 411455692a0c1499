//! Writes what the machines decided into a transaction.

use std::collections::BTreeSet;

use fleet_core::{Effect, Event};
use shared::{DeviceId, ReleaseId, Timestamp};

use super::{RolloutError, entry::Entry};
use crate::store::{DesiredChange, Saved, Store, Tx};

/// Carries out every effect of a machine, then stores the machine. Returns whose desired state changed.
pub(super) async fn store(
    app_store: &Store,
    tx: &mut Tx,
    entry: &mut Entry,
    now: Timestamp,
) -> Result<BTreeSet<DeviceId>, RolloutError> {
    let mut changed = BTreeSet::new();
    while let Some(effect) = entry.machine.poll_effect() {
        if let Some(device) = perform(app_store, tx, entry, effect, now).await? {
            changed.insert(device);
        }
    }
    match Store::save_rollout(tx, &entry.to_row(), now).await? {
        Saved::Done => entry.row.revision += 1,
        Saved::Outdated => return Err(RolloutError::Outdated),
    }
    entry.row = entry.to_row();
    entry.row.state.clear();
    entry.row.changed_at = now;
    Ok(changed)
}

async fn perform(
    store: &Store,
    tx: &mut Tx,
    entry: &mut Entry,
    effect: Effect,
    now: Timestamp,
) -> Result<Option<DeviceId>, RolloutError> {
    match effect {
        Effect::Assign { device, release, retry } => {
            write(store, tx, entry, &device, Some((&release, retry)), now).await?;
            Ok(Some(device))
        }
        Effect::Restore { device, previous } => {
            write(store, tx, entry, &device, previous.as_ref().map(|release| (release, false)), now).await?;
            Ok(Some(device))
        }
        Effect::Announce(event) => {
            announce(tx, entry, &event, now).await?;
            Ok(None)
        }
    }
}

async fn write(
    store: &Store,
    tx: &mut Tx,
    entry: &mut Entry,
    device: &DeviceId,
    wanted: Option<(&ReleaseId, bool)>,
    now: Timestamp,
) -> Result<(), RolloutError> {
    let assignment = match wanted {
        None => None,
        Some((release, retry)) => {
            let row = store.release(release).await?;
            Some(row.ok_or_else(|| RolloutError::NoRelease(release.clone()))?.assignment(retry))
        }
    };
    let model = entry.row.release.model.clone();
    let change = DesiredChange { device: device.clone(), model, assignment };
    let desired = Store::change_desired(tx, &change, now).await?;
    entry.generations.insert(device.clone(), desired.generation);
    Ok(())
}

/// Every event is kept for those who follow the rollout; what a person did or must know also enters the audit log.
async fn announce(tx: &mut Tx, entry: &Entry, event: &Event, now: Timestamp) -> Result<(), RolloutError> {
    let id = entry.row.id.as_str();
    Store::insert_event(tx, now, "rollout", id, event).await?;
    let audited = match event {
        Event::Halted { verdict } => Some(("rollout.halt", verdict.to_string())),
        Event::RollingBack { cause, devices } => {
            Some(("rollout.roll_back", format!("{devices} devices; {cause}")))
        }
        Event::RolledBack { .. } => Some(("rollout.rolled_back", String::new())),
        Event::Completed { counts } => {
            Some(("rollout.complete", format!("{} of {} devices", counts.committed, counts.devices)))
        }
        Event::WaveStarted { .. }
        | Event::DeviceProgressed { .. }
        | Event::WaveBaking { .. }
        | Event::WavePassed { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::DeviceRestored { .. } => None,
    };
    if let Some((action, detail)) = audited {
        Store::audit(tx, now, &format!("rollout:{id}"), action, id, &detail).await?;
    }
    Ok(())
}
