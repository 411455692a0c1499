//! The desired states by which a rollout spoke to its devices, and what follows from what they answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::{DeviceId, Generation, ReleaseId, report::Report};

use super::Input;

/// Who was addressed by which desired state. It is kept beside a rollout, which knows no generations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressed {
    /// The desired state by which each device was asked. Taking the release away does not raise it, because what
    /// a device did before it heard of that is still about this rollout.
    generations: BTreeMap<DeviceId, Generation>,
    /// The desired state that took the release away, from devices that have not shown that they know it.
    restoring: BTreeMap<DeviceId, Generation>,
}

impl Addressed {
    /// The release was named in this desired state.
    pub fn asked(&mut self, device: &DeviceId, generation: Generation) {
        self.generations.insert(device.clone(), generation);
    }

    /// The release was taken away by this desired state.
    pub fn restoring(&mut self, device: &DeviceId, generation: Generation) {
        self.restoring.insert(device.clone(), generation);
    }

    /// The device showed that it no longer has the release.
    pub fn restored(&mut self, device: &DeviceId) {
        self.restoring.remove(device);
    }

    /// Whether the device was asked.
    #[must_use]
    pub fn has_asked(&self, device: &DeviceId) -> bool {
        self.generations.contains_key(device)
    }

    /// Whether some device has not shown yet that it no longer has the release.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        !self.restoring.is_empty()
    }

    /// Whether a device that took in this desired state has thereby heard that the release was taken away.
    #[must_use]
    pub fn is_confirmed_by(&self, device: &DeviceId, generation: Generation) -> bool {
        self.restoring.get(device).is_some_and(|written| generation >= *written)
    }

    /// Whether a report may say something to the rollout of `release`: it is about that or the way back from it, and answers
    /// no older desired state than the one by which the device was asked.
    #[must_use]
    pub fn concerns(&self, release: &ReleaseId, report: &Report) -> bool {
        let Some(asked) = self.generations.get(&report.device) else { return false };
        let about_us = report.release == *release || self.restoring.contains_key(&report.device);
        about_us && report.generation >= *asked
    }
}

impl From<&Report> for Input {
    fn from(report: &Report) -> Self {
        Self::Report {
            device: report.device.clone(),
            at: report.at,
            release: report.release.clone(),
            event: report.event.clone(),
        }
    }
}
