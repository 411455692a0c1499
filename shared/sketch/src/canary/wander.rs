//! How far devices wander away from their own history by themselves, learnt from those that did not change.
//!
//! A device that is warmer today than yesterday differs from its baseline at every look, and bets on many looks of
//! ten such devices would take ten accidents for an effect. The controls show how large such accidents are: the
//! variance between the means of devices, less what the noise within each of them explains (one-way analysis of variance).

use serde::{Deserialize, Serialize};

/// Standard errors of a variance by which devices must differ more than their noise explains. Without this a look in
/// two would take noise for wandering, and every fault would be found later.
const CHANCE_ERRORS: f64 = 2.0;

/// Running mean and squared deviations of each control (Welford 1962).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Wander {
    devices: Vec<Running>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Running {
    count: u64,
    mean: f64,
    squares: f64,
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

    /// The variance of the mean difference of `groups` devices, from wandering alone. 0 while nothing is known.
    pub(super) fn variance_of_mean(&self, groups: usize) -> f64 {
        let known = self.devices.iter().filter(|device| device.count >= 2);
        let (mut all, mut within) = (Running::default(), 0.0);
        for device in known {
            all.record(device.mean);
            within += device.variance() / device.count as f64;
        }
        if all.count < 2 || groups == 0 {
            return 0.0;
        }
        let devices = all.count as f64;
        let by_chance = 1.0 + CHANCE_ERRORS * (2.0 / (devices - 1.0)).sqrt();
        let between = (all.variance() - by_chance * within / devices).max(0.0);
        between * small_sample(devices) * (1.0 / groups as f64 + 1.0 / devices)
    }
}

impl Running {
    fn record(&mut self, value: f64) {
        self.count += 1;
        let off = value - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (value - self.mean);
    }

    fn variance(&self) -> f64 {
        self.squares / (self.count as f64 - 1.0)
    }
}

/// A variance from few devices is itself uncertain: the variance of Student's t with as many degrees of freedom.
fn small_sample(devices: f64) -> f64 {
    let freedom = (devices - 1.0).max(2.5);
    freedom / (freedom - 2.0)
}
