//! A rollout in memory and in its row.

use std::collections::BTreeMap;

use fleet_core::{Input, Refusal, Rollout, State};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, Generation, Timestamp, report::Report};

use crate::store::{RolloutRow, StoreError};

/// What stands in the column `state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Document {
    machine: Rollout,
    generations: BTreeMap<DeviceId, Generation>,
}

/// A rollout whose machine is at hand.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) row: RolloutRow,
    pub(crate) machine: Rollout,
    /// The desired state by which this rollout last spoke to each device.
    pub(crate) generations: BTreeMap<DeviceId, Generation>,
}

impl Entry {
    pub(crate) fn read(mut row: RolloutRow) -> Result<Self, StoreError> {
        let text = std::mem::take(&mut row.state);
        let document: Document = serde_json::from_str(&text)
            .map_err(|error| StoreError::Corrupt { what: "rollout", detail: error.to_string() })?;
        Ok(Self { row, machine: document.machine, generations: document.generations })
    }

    /// The row as it is to be stored.
    pub(super) fn to_row(&self) -> RolloutRow {
        let mut row = self.row.clone();
        row.state = document(&self.machine, &self.generations);
        row.phase = self.machine.state().word().to_owned();
        row.finished = is_finished(self.machine.state());
        row
    }

    /// Passes a report on, unless it answers an older desired state than the one this rollout wrote.
    pub(super) fn report(&mut self, report: &Report, now: Timestamp) -> Result<(), Refusal> {
        let asked = self.generations.get(&report.device);
        if asked.is_some_and(|asked| report.generation < *asked) {
            return Ok(());
        }
        let input = Input::Report {
            device: report.device.clone(),
            at: report.at,
            release: report.release.clone(),
            event: report.event.clone(),
        };
        self.machine.handle(input, now)
    }
}

/// The text of the column `state`.
pub(super) fn document(machine: &Rollout, generations: &BTreeMap<DeviceId, Generation>) -> String {
    let document = Document { machine: machine.clone(), generations: generations.clone() };
    serde_json::to_string(&document).expect("a machine is texts, numbers and collections")
}

fn is_finished(state: &State) -> bool {
    match state {
        State::Running { .. } | State::Paused { .. } | State::RollingBack { .. } => false,
        State::Halted { .. } | State::RolledBack { .. } | State::Completed { .. } => true,
    }
}
