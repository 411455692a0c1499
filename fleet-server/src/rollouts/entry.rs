//! A rollout in memory and in its row.

use fleet_core::{Addressed, Refusal, Rollout};
use serde::{Deserialize, Serialize};
use shared::{Timestamp, report::Report};

use crate::store::{RolloutRow, StoreError};

/// What stands in the column `state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Document {
    machine: Rollout,
    #[serde(flatten)]
    addressed: Addressed,
}

/// A rollout whose machine is at hand.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) row: RolloutRow,
    pub(crate) machine: Rollout,
    pub(crate) addressed: Addressed,
}

impl Entry {
    pub(crate) fn read(mut row: RolloutRow) -> Result<Self, StoreError> {
        let text = std::mem::take(&mut row.state);
        let document: Document = serde_json::from_str(&text)
            .map_err(|error| StoreError::Corrupt { what: "rollout", detail: error.to_string() })?;
        let Document { machine, addressed } = document;
        Ok(Self { row, machine, addressed })
    }

    /// The row as it is to be stored.
    pub(super) fn to_row(&self) -> RolloutRow {
        let mut row = self.row.clone();
        row.state = self.document();
        row.phase = self.machine.state().word().to_owned();
        row.finished = self.machine.state().is_final();
        row
    }

    /// The text of the column `state`.
    pub(super) fn document(&self) -> String {
        let document = Document { machine: self.machine.clone(), addressed: self.addressed.clone() };
        serde_json::to_string(&document).expect("a machine is texts, numbers and collections")
    }

    /// Whether a report may say something here.
    pub(super) fn concerns(&self, report: &Report) -> bool {
        self.addressed.concerns(&self.row.release, report)
    }

    /// Passes a report on.
    pub(super) fn report(&mut self, report: &Report, now: Timestamp) -> Result<(), Refusal> {
        self.machine.handle(report.into(), now)
    }
}
