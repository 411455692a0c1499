//! What planning knows of the fleet, and how a report changes what is known of a device.

use std::collections::BTreeSet;

use fleet_core::DeviceFacts;
use shared::{
    DeviceId, ReleaseId,
    report::{DeploymentEvent, ModelState, Report},
};

use crate::store::{Store, StoreError};

/// The fleet at this moment. What a device says it runs is its own word, so a release that was never published here
/// is left out: no plan may promise to go back to it.
pub(super) async fn facts(store: &Store) -> Result<Vec<DeviceFacts>, StoreError> {
    let mut fleet = store.every_device_facts().await?;
    believe(&mut fleet, &store.release_ids().await?);
    Ok(fleet)
}

/// One device at this moment; `None` when there is none of this name.
pub(super) async fn facts_of_device(store: &Store, id: &DeviceId) -> Result<Option<DeviceFacts>, StoreError> {
    let mut device = store.device_facts(id).await?;
    believe(device.as_mut_slice(), &store.release_ids().await?);
    Ok(device)
}

fn believe(fleet: &mut [DeviceFacts], published: &BTreeSet<ReleaseId>) {
    for device in fleet {
        device.committed.retain(|release| published.contains(release));
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
