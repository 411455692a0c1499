//! What planning knows of the fleet, and how a report changes what is known of a device.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::DeviceFacts;
use shared::{
    DeviceId, ReleaseId,
    report::{DeploymentEvent, ModelState, Report},
};

use crate::store::{Desired, DeviceRow, Store, StoreError};

/// The fleet at this moment. What a device says it runs is its own word, so a release that was never published here
/// is left out: no plan may promise to go back to it.
pub(super) async fn facts(store: &Store) -> Result<Vec<DeviceFacts>, StoreError> {
    let mut desired = store.every_desired().await?;
    let devices = store.every_device().await?;
    let known = store.release_ids().await?;
    Ok(devices.into_iter().map(|device| facts_of(device, &mut desired, &known)).collect())
}

/// One device at this moment; `None` when there is none of this name.
pub(super) async fn facts_of_device(store: &Store, id: &DeviceId) -> Result<Option<DeviceFacts>, StoreError> {
    let Some(device) = store.device(id).await? else { return Ok(None) };
    let mut desired = BTreeMap::from([(id.clone(), store.desired(id).await?)]);
    let known = store.release_ids().await?;
    Ok(Some(facts_of(device, &mut desired, &known)))
}

fn facts_of(
    device: DeviceRow,
    desired: &mut BTreeMap<DeviceId, Desired>,
    known: &BTreeSet<ReleaseId>,
) -> DeviceFacts {
    let committed = device.models.into_iter().filter_map(|model| model.committed);
    let wanted = desired.remove(&device.id).unwrap_or_default();
    DeviceFacts {
        id: device.id,
        labels: device.labels,
        connected: device.connected,
        last_seen: device.last_seen,
        inventory: device.inventory,
        desired: wanted.assignments.into_iter().map(|assignment| assignment.release).collect(),
        committed: committed.filter(|release| known.contains(release)).collect(),
        generation: wanted.generation,
        quarantined: device.quarantined,
        pins: device.pins,
    }
}

/// What a device runs, after one more report. The next hello tells it all; until then this is the newest.
pub(super) fn after_report(mut models: Vec<ModelState>, report: &Report) -> Vec<ModelState> {
    let at = models.iter().position(|state| state.model == report.release.model).unwrap_or_else(|| {
        let model = report.release.model.clone();
        models.push(ModelState {
            model,
            committed: None,
            candidate: None,
            step: String::new(),
            held: vec![],
        });
        models.len() - 1
    });
    let state = &mut models[at];
    let step = step(&report.event);
    match &report.event {
        DeploymentEvent::Committed { .. } => {
            state.committed = Some(report.release.clone());
            state.candidate = None;
        }
        event if event.is_final() => state.candidate = None,
        _ => state.candidate = Some(report.release.clone()),
    }
    state.step = if state.candidate.is_some() { step.to_owned() } else { String::new() };
    models
}

fn step(event: &DeploymentEvent) -> &'static str {
    match event {
        DeploymentEvent::Transferring { .. } => "transferring",
        DeploymentEvent::Staged { .. } => "staged",
        DeploymentEvent::SelfTested(_) => "self-tested",
        DeploymentEvent::Probation => "probation",
        DeploymentEvent::Committed { .. } => "committed",
        DeploymentEvent::Rejected(_) => "rejected",
        DeploymentEvent::Failed(_) => "failed",
        DeploymentEvent::RolledBack(_) => "rolled back",
        DeploymentEvent::Superseded => "superseded",
    }
}
