//! A rollout and the desired states by which its devices were addressed, kept together as the server keeps them in a row, and what a
//! hello says to it.

use fleet_core::{Addressed, DeviceFacts, Input, Refusal, Rollout};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, Generation, ReleaseId, Timestamp, report::Report};

/// A rollout and what must be known beside its machine; what the server keeps in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) machine: Rollout,
    #[serde(flatten)]
    pub(super) addressed: Addressed,
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
        Self { machine, addressed: Addressed::default() }
    }

    pub(super) fn release(&self) -> &ReleaseId {
        &self.machine.spec().release
    }

    pub(super) fn is_finished(&self) -> bool {
        self.machine.state().is_final()
    }

    pub(super) fn concerns(&self, report: &Report) -> bool {
        self.addressed.concerns(self.release(), report)
    }

    pub(super) fn report(&mut self, report: &Report, now: Timestamp) -> Result<(), Refusal> {
        self.machine.handle(report.into(), now)
    }

    pub(super) fn greet(&mut self, greeting: &Greeting<'_>, now: Timestamp) {
        let Greeting { device, generation, holds, utc_offset_secs } = greeting;
        if !self.is_finished() && self.machine.includes(device) {
            let (device, utc_offset_secs) = ((*device).clone(), *utc_offset_secs);
            let _ = self.machine.handle(Input::DeviceConnected { device, utc_offset_secs }, now);
        }
        if self.addressed.is_confirmed_by(device, *generation) && !holds.contains(&self.release()) {
            let _ = self.machine.handle(Input::Confirmed { device: (*device).clone() }, now);
            self.addressed.restored(device);
        }
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
