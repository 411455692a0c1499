//! COPIED LOGIC. A rollout with the generations of its desired states, as `fleet-server/src/rollouts/entry.rs` and
//! `facts.rs` have it. It decides which reports concern a rollout and what confirms a restoration; it is pure and belongs
//! into `fleet-core`, and when it lives there this file goes.

use std::collections::BTreeMap;

use fleet_core::{DeviceFacts, Input, Refusal, Rollout};
use serde::{Deserialize, Serialize};
use shared::{
    DeviceId, Generation, ReleaseId, Timestamp,
    report::{DeploymentEvent, ModelState, Report},
};

/// A rollout and what must be known beside its machine; what the server keeps in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) machine: Rollout,
    /// The desired state by which each device was asked.
    pub(super) generations: BTreeMap<DeviceId, Generation>,
    /// The desired state that took the release away, from devices that have not shown that they know it.
    pub(super) restoring: BTreeMap<DeviceId, Generation>,
}

/// What rollouts want to know of a hello.
pub(super) struct Greeting<'a> {
    pub(super) device: &'a DeviceId,
    pub(super) generation: Generation,
    pub(super) holds: Vec<&'a ReleaseId>,
    pub(super) utc_offset_secs: Option<i32>,
}

impl Entry {
    pub(super) fn new(machine: Rollout) -> Self {
        Self { machine, generations: BTreeMap::new(), restoring: BTreeMap::new() }
    }

    pub(super) fn release(&self) -> &ReleaseId {
        &self.machine.spec().release
    }

    pub(super) fn is_finished(&self) -> bool {
        self.machine.state().is_final()
    }

    pub(super) fn is_confirmed_by(&self, device: &DeviceId, generation: Generation) -> bool {
        self.restoring.get(device).is_some_and(|written| generation >= *written)
    }

    pub(super) fn concerns(&self, report: &Report) -> bool {
        let Some(asked) = self.generations.get(&report.device) else { return false };
        let about_us = report.release == *self.release() || self.restoring.contains_key(&report.device);
        about_us && report.generation >= *asked
    }

    pub(super) fn report(&mut self, report: &Report, now: Timestamp) -> Result<(), Refusal> {
        let input = Input::Report {
            device: report.device.clone(),
            at: report.at,
            release: report.release.clone(),
            event: report.event.clone(),
        };
        self.machine.handle(input, now)
    }

    pub(super) fn greet(&mut self, greeting: &Greeting<'_>, now: Timestamp) {
        let Greeting { device, generation, holds, utc_offset_secs } = greeting;
        if !self.is_finished() && self.machine.includes(device) {
            let (device, utc_offset_secs) = ((*device).clone(), *utc_offset_secs);
            let _ = self.machine.handle(Input::DeviceConnected { device, utc_offset_secs }, now);
        }
        if self.is_confirmed_by(device, *generation) && !holds.contains(&self.release()) {
            let _ = self.machine.handle(Input::Confirmed { device: (*device).clone() }, now);
            self.restoring.remove(*device);
        }
    }
}

/// What a device runs, after one more report.
pub(super) fn after_report(models: &mut Vec<ModelState>, report: &Report) {
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
    match &report.event {
        DeploymentEvent::Committed { .. } => {
            state.committed = Some(report.release.clone());
            state.candidate = None;
        }
        event if event.is_final() => state.candidate = None,
        _ => state.candidate = Some(report.release.clone()),
    }
}

/// What planning knows of a device; a release that was never published is left out.
pub(super) fn facts(id: &DeviceId, row: &super::Row, known: impl Fn(&ReleaseId) -> bool) -> DeviceFacts {
    let committed = row.models.iter().filter_map(|model| model.committed.clone());
    DeviceFacts {
        id: id.clone(),
        labels: row.labels.clone(),
        connected: row.connected,
        last_seen: row.last_seen,
        inventory: row.inventory.clone(),
        desired: row.desired.assignments.iter().map(|named| named.release.clone()).collect(),
        committed: committed.filter(|release| known(release)).collect(),
        generation: row.desired.generation,
        quarantined: row.quarantined,
        pins: row.pins.clone(),
    }
}
