//! A rollout in memory and in its row.

use std::collections::BTreeMap;

use fleet_core::{Input, Refusal, Rollout};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, Generation, Timestamp, report::Report};

use crate::store::{RolloutRow, StoreError};

/// What stands in the column `state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Document {
    machine: Rollout,
    generations: BTreeMap<DeviceId, Generation>,
    restoring: BTreeMap<DeviceId, Generation>,
}

/// A rollout whose machine is at hand.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) row: RolloutRow,
    pub(crate) machine: Rollout,
    /// The desired state by which each device was asked. Taking the release away does not raise it, because what
    /// a device did before it heard of that is still about this rollout.
    pub(crate) generations: BTreeMap<DeviceId, Generation>,
    /// The desired state that took the release away, from devices that have not shown that they know it.
    pub(crate) restoring: BTreeMap<DeviceId, Generation>,
}

impl Entry {
    pub(crate) fn read(mut row: RolloutRow) -> Result<Self, StoreError> {
        let text = std::mem::take(&mut row.state);
        let document: Document = serde_json::from_str(&text)
            .map_err(|error| StoreError::Corrupt { what: "rollout", detail: error.to_string() })?;
        let Document { machine, generations, restoring } = document;
        Ok(Self { row, machine, generations, restoring })
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
        let (machine, generations) = (self.machine.clone(), self.generations.clone());
        let document = Document { machine, generations, restoring: self.restoring.clone() };
        serde_json::to_string(&document).expect("a machine is texts, numbers and collections")
    }

    /// The release was named in this desired state.
    pub(super) fn asked(&mut self, device: &DeviceId, generation: Generation) {
        self.generations.insert(device.clone(), generation);
    }

    /// The release was taken away by this desired state.
    pub(super) fn restoring(&mut self, device: &DeviceId, generation: Generation) {
        self.restoring.insert(device.clone(), generation);
    }

    /// The device showed that it no longer has the release.
    pub(super) fn restored(&mut self, device: &DeviceId) {
        self.restoring.remove(device);
    }

    /// Whether a device that took in this desired state has thereby heard that the release was taken away.
    pub(super) fn is_confirmed_by(&self, device: &DeviceId, generation: Generation) -> bool {
        self.restoring.get(device).is_some_and(|written| generation >= *written)
    }

    /// Whether a report may say something here: it is about this rollout's release or the way back from it, and
    /// answers no older desired state than the one by which the device was asked.
    pub(super) fn concerns(&self, report: &Report) -> bool {
        let Some(asked) = self.generations.get(&report.device) else { return false };
        let about_us = report.release == self.row.release || self.restoring.contains_key(&report.device);
        about_us && report.generation >= *asked
    }

    /// Passes a report on.
    pub(super) fn report(&mut self, report: &Report, now: Timestamp) -> Result<(), Refusal> {
        let input = Input::Report {
            device: report.device.clone(),
            at: report.at,
            release: report.release.clone(),
            event: report.event.clone(),
        };
        self.machine.handle(input, now)
    }
}
