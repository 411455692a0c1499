//! How fast devices are asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::InvalidStrategy;

/// A pace that grows with success: `per_minute` devices at first, `factor` times as many after each `after` devices that
/// keep the release, and never more than `max_per_minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// Devices in the first minutes.
    pub per_minute: u32,
    /// By how much the pace grows.
    #[serde(default = "one")]
    pub factor: u32,
    /// After how many devices that keep the release.
    #[serde(default = "ten")]
    pub after: u32,
    /// Where it stops growing.
    #[serde(default = "most")]
    pub max_per_minute: u32,
}

fn one() -> u32 {
    1
}

fn ten() -> u32 {
    10
}

fn most() -> u32 {
    Ramp::MOST_PER_MINUTE
}

impl Ramp {
    /// Faster than this is no ramp: a device each millisecond.
    pub const MOST_PER_MINUTE: u32 = 60_000;

    /// A pace that does not grow.
    #[must_use]
    pub fn steady(per_minute: u32) -> Self {
        Self { per_minute, factor: one(), after: ten(), max_per_minute: most() }
    }

    /// Devices per minute when so many keep the release.
    #[must_use]
    pub fn per_minute_after(self, successes: usize) -> u32 {
        let steps = u32::try_from(successes).unwrap_or(u32::MAX) / self.after.max(1);
        let grown = self.per_minute.saturating_mul(self.factor.saturating_pow(steps));
        grown.clamp(1, self.max_per_minute.max(1))
    }

    /// The time between two devices when so many keep the release.
    #[must_use]
    pub fn interval(self, successes: usize) -> Duration {
        Duration::from_millis(60_000 / u64::from(self.per_minute_after(successes)))
    }

    pub(super) fn check(self) -> Result<(), InvalidStrategy> {
        let rates = [self.per_minute, self.max_per_minute];
        let sound = rates.iter().all(|rate| (1..=Self::MOST_PER_MINUTE).contains(rate));
        if sound && (1..=10).contains(&self.factor) && self.after > 0 {
            Ok(())
        } else {
            Err(InvalidStrategy::Ramp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_grows_with_success_up_to_its_bound() {
        let ramp = Ramp { per_minute: 2, factor: 3, after: 5, max_per_minute: 30 };
        let rates = [0, 4, 5, 10, 15, usize::MAX].map(|successes| ramp.per_minute_after(successes));
        assert_eq!(rates, [2, 2, 6, 18, 30, 30]);
        assert_eq!(ramp.interval(0), Duration::from_secs(30));
    }
}
