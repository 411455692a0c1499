//! Writes what the machines decided into a transaction.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{Effect, Event};
use shared::{DeviceId, Generation, ReleaseId, RolloutId, Timestamp, message::Assignment};

use super::{RolloutError, entry::Entry, verdicts};
use crate::store::{DesiredChange, ReleaseRow, Saved, Store, Tx};

/// Carries out what machines decided, in order. Returns whose desired state changed.
pub(super) async fn perform_all(
    store: &Store,
    tx: &mut Tx,
    drafts: &mut BTreeMap<RolloutId, Entry>,
    decided: Vec<(RolloutId, Effect)>,
    now: Timestamp,
) -> Result<BTreeSet<DeviceId>, RolloutError> {
    let mut changed = BTreeSet::new();
    for (id, effect) in decided {
        let Some(entry) = drafts.get_mut(&id) else { continue };
        if let Some(device) = perform(store, tx, entry, effect, now).await? {
            changed.insert(device);
        }
    }
    Ok(changed)
}

/// Stores a machine.
pub(super) async fn save(tx: &mut Tx, entry: &mut Entry, now: Timestamp) -> Result<(), RolloutError> {
    match Store::save_rollout(tx, &entry.to_row(), now).await? {
        Saved::Done(change) => {
            entry.row.revision += 1;
            entry.row.change = change;
        }
        Saved::Outdated => return Err(RolloutError::Outdated),
    }
    entry.row = entry.to_row();
    entry.row.state.clear();
    entry.row.changed_at = now;
    Ok(())
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
            let Some(row) = find(store, entry, &device, &release).await? else { return Ok(None) };
            let generation = write(store, tx, entry, &device, Some(row.assignment(retry)), now).await?;
            entry.addressed.asked(&device, generation);
            Ok(Some(device))
        }
        Effect::Restore { device, previous } => {
            let row = match previous {
                Some(release) => find(store, entry, &device, &release).await?,
                None => None,
            };
            let generation =
                write(store, tx, entry, &device, row.map(|row| row.assignment(false)), now).await?;
            entry.addressed.restoring(&device, generation);
            Ok(Some(device))
        }
        Effect::Compare { wave, cohorts, policy } => {
            verdicts::open(tx, entry, wave, cohorts, policy, now).await?;
            Ok(None)
        }
        Effect::Announce(event) => {
            if let Event::DeviceRestored { device } = &event {
                entry.addressed.restored(device);
            }
            announce(tx, entry, &event, now).await?;
            Ok(None)
        }
    }
}

/// A release that is to be named. One that is missing concerns one device; the others must not wait for it.
async fn find(
    store: &Store,
    entry: &Entry,
    device: &DeviceId,
    release: &ReleaseId,
) -> Result<Option<ReleaseRow>, RolloutError> {
    let row = store.release(release).await?;
    if row.is_none() {
        tracing::error!(rollout.id = %entry.row.id, device.id = %device, %release, "there is no such release to name");
    }
    Ok(row)
}

async fn write(
    store: &Store,
    tx: &mut Tx,
    entry: &Entry,
    device: &DeviceId,
    assignment: Option<Assignment>,
    now: Timestamp,
) -> Result<Generation, RolloutError> {
    let model = entry.row.release.model.clone();
    let change = DesiredChange { device: device.clone(), model, assignment };
    Ok(store.change_desired(tx, &change, now).await?.generation)
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
        Event::Superseded { counts } => Some((
            "rollout.superseded",
            format!("{} of {} devices are with others", counts.superseded, counts.devices),
        )),
        Event::WaveHeld { wave, why } => Some(("rollout.hold", format!("wave {}: {why}", wave + 1))),
        Event::WaveJudged { wave, verdict } => {
            Some(("rollout.verdict", format!("wave {}: {verdict}", wave + 1)))
        }
        Event::WaveDrifted { wave, alarm } => Some(("rollout.drift", format!("wave {}: {alarm}", wave + 1))),
        Event::ApprovalNeeded { .. }
        | Event::Approved { .. }
        | Event::Promoted { .. }
        | Event::Retried { .. }
        | Event::DeviceJoined { .. }
        | Event::DeviceReturned { .. }
        | Event::WaveStarted { .. }
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
