//! What the server knows of a device when it plans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::{
    DeviceId, Generation, ModelName, ReleaseId, Timestamp, Version,
    device::{Inventory, Labels},
    report::{DeploymentEvent, ModelState, Report},
};

/// A device at the moment of planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// Who.
    pub id: DeviceId,
    /// Its labels.
    pub labels: Labels,
    /// Whether it holds a connection now.
    pub connected: bool,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// What it said it is; empty for a device that never connected.
    pub inventory: Inventory,
    /// What it shall run: one release for each model.
    pub desired: Vec<ReleaseId>,
    /// What it runs and keeps: one release for each model.
    pub committed: Vec<ReleaseId>,
    /// Number of its desired state.
    pub generation: Generation,
    /// Taken out of every rollout by a person.
    pub quarantined: bool,
    /// Versions that a person wants it to keep.
    #[serde(default)]
    pub pins: BTreeMap<ModelName, Version>,
}

impl DeviceFacts {
    /// True when it runs `release` and nobody asks it for another version of that model.
    #[must_use]
    pub fn already_runs(&self, release: &ReleaseId) -> bool {
        let wanted = version_of(&self.desired, &release.model);
        self.committed.contains(release) && wanted.is_none_or(|wanted| wanted == release)
    }

    /// What it runs of a model, or else what it was asked to run.
    #[must_use]
    pub fn runs(&self, model: &ModelName) -> Option<&ReleaseId> {
        version_of(&self.committed, model).or_else(|| version_of(&self.desired, model))
    }

    /// The release to go back to when `next` is taken away again: what it runs, or else what it was asked to run.
    #[must_use]
    pub fn fallback(&self, next: &ReleaseId) -> Option<&ReleaseId> {
        let other = |list| version_of(list, &next.model).filter(|release| *release != next);
        other(&self.committed).or_else(|| other(&self.desired))
    }

    /// True unless it said that it has no engine `name`. A device that never told its engines is asked: it
    /// knows itself best.
    #[must_use]
    pub fn may_have_engine(&self, name: &str) -> bool {
        let engines = &self.inventory.engines;
        engines.is_empty() || engines.iter().any(|engine| engine_is(engine, name))
    }

    /// True unless it said that its memory is smaller.
    #[must_use]
    pub fn may_hold(&self, memory_mib: u64) -> bool {
        let known_mib = self.inventory.memory_mib;
        known_mib == 0 || memory_mib <= known_mib
    }

    /// Devices of one stratum share an uplink or a kind of hardware, so waves are spread over strata.
    pub(crate) fn stratum(&self) -> (Option<&str>, &str) {
        (self.labels.get("site").map(String::as_str), &self.inventory.arch)
    }
}

/// What a device runs, after one more report. The next hello tells it all; until then this is the newest.
#[must_use]
pub fn after_report(mut models: Vec<ModelState>, report: &Report) -> Vec<ModelState> {
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

fn version_of<'a>(releases: &'a [ReleaseId], model: &ModelName) -> Option<&'a ReleaseId> {
    releases.iter().find(|release| release.model == *model)
}

/// `tract-onnx 0.23.9` is the engine `tract-onnx`, and also `tract` and `onnx`.
fn engine_is(engine: &str, name: &str) -> bool {
    let own = engine.split_whitespace().next().unwrap_or_default();
    own == name || own.split('-').any(|part| part == name)
}
