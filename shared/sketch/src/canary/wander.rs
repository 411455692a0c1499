//! How far devices wander away from their own history by themselves, learnt from those that did not change.
//!
//! A device that is warmer today than yesterday differs from its baseline at every look, and bets on many looks of
//! ten such devices would take ten accidents for an effect. The controls show how large such accidents are: the
//! variance between the means of devices, less what the noise within each of them explains (one-way analysis of variance).

use serde::{Deserialize, Serialize};

use super::{running::Running, student};

/// Standard errors of a variance by which devices must differ more than their noise explains. Without this a look in
/// two would take noise for wandering, and every fault would be found later.
const CHANCE_ERRORS: f64 = 2.0;

/// What each control has shown so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Wander {
    devices: Vec<Running>,
}

impl Wander {
    pub(super) fn of(devices: usize) -> Self {
        Self { devices: vec![Running::default(); devices] }
    }

    pub(super) fn record(&mut self, device: usize, difference: f64) {
        if let Some(running) = self.devices.get_mut(device) {
            running.record(difference);
        }
    }

    /// The square of what wandering alone may bring to the mean difference of `groups` devices. 0 while nothing is known.
    pub(super) fn allowance(&self, groups: usize) -> f64 {
        let twice_seen = self.devices.iter().filter(|device| device.count >= 2);
        let (mut all, mut within) = (Running::default(), 0.0);
        for device in twice_seen {
            all.record(device.mean);
            within += device.variance() / device.count as f64;
        }
        if all.count < 2 || groups == 0 {
            return 0.0;
        }
        let (known, devices) = (all.count as usize, all.count as f64);
        let by_chance = 1.0 + CHANCE_ERRORS * (2.0 / (devices - 1.0)).sqrt();
        let between = (all.variance() - by_chance * within / devices).max(0.0);
        let errors = student::errors_allowed(known - 1);
        errors * errors * between * (1.0 / groups as f64 + 1.0 / devices)
    }
}
