//! What a rollout bears, and what it does when that is exceeded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{InvalidStrategy, MetricCheck, OtherMetrics, check_judged, check_secs};
use crate::verdict::{Metric, VerdictPolicy};

/// Below this many reachable devices a percentage says nothing: one device of ten is already 10 %.
pub const SMALL_WAVE: usize = 20;

/// How many devices of a wave may fail before the rollout stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxFailed {
    /// Percentage of the reachable devices of the wave, used from [`SMALL_WAVE`] devices up.
    pub percent: u32,
    /// Number of devices that is always borne.
    pub absolute: u32,
}

impl Default for MaxFailed {
    fn default() -> Self {
        Self { percent: 5, absolute: 0 }
    }
}

impl MaxFailed {
    /// Failures that a wave bears when `reachable` of its devices were seen.
    #[must_use]
    pub fn limit(self, reachable: usize) -> usize {
        let absolute = self.absolute as usize;
        if reachable < SMALL_WAVE {
            return absolute;
        }
        absolute.max(reachable.saturating_mul(self.percent as usize) / 100)
    }
}

/// What a verdict does to the devices that have moved already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopAction {
    /// Bring them back to what they ran before, newest first.
    #[default]
    Rollback,
    /// Leave them as they are, for good: devices that have the release keep it, and nobody else is asked. Whoever wants to go
    /// on starts another rollout.
    // "pause" was its name once, in rollouts that are stored and in files; but what a person paused can be resumed.
    #[serde(alias = "pause")]
    Halt,
}

/// How often a device is asked again. Only what another try can change is tried again: the network. A release that a
/// device refuses, or for which it has no room, stays refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Tries after the first, 0 to [`Retries::MOST`].
    pub max: u32,
    /// How long after a failure; twice as long after each further one.
    pub after_secs: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: 2, after_secs: 300 }
    }
}

impl Retries {
    /// Beyond this a device is not unlucky.
    pub const MOST: u32 = 10;

    /// Seconds from a failure to the next try, after so many further tries before it.
    #[must_use]
    pub fn wait_secs(self, tried: u32) -> u64 {
        self.after_secs.saturating_mul(1 << tried.min(16))
    }

    pub(super) fn check(self) -> Result<(), InvalidStrategy> {
        if self.max > Self::MOST {
            return Err(InvalidStrategy::Retries(self.max));
        }
        check_secs("retries.after_secs", self.after_secs, 1)
    }
}

/// What the metrics must show: the [verdict](crate::verdict) on the devices of a wave against devices that were not asked
/// yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricGate {
    /// Metrics that are judged otherwise than `policy` says, or besides.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<Metric, MetricCheck>,
    /// What becomes of the metrics of `policy` that no check names.
    #[serde(skip_serializing_if = "is_default")]
    pub others: OtherMetrics,
    /// By which rules. Its `alpha_rollback` is for the whole rollout: each wave gets its share.
    pub policy: VerdictPolicy,
    /// A healthy wave passes before its bake time is over.
    pub promote_early: bool,
    /// A wave of which too little is known is watched this long at most; then it is held and a person decides. Up to
    /// [`MAX_JUDGED_SECS`](super::MAX_JUDGED_SECS).
    pub max_bake_secs: u64,
}

impl Default for MetricGate {
    fn default() -> Self {
        Self {
            checks: BTreeMap::new(),
            others: OtherMetrics::default(),
            policy: VerdictPolicy::default(),
            promote_early: true,
            max_bake_secs: 86_400,
        }
    }
}

impl MetricGate {
    /// The rules that policy and checks come to together.
    ///
    /// # Errors
    /// Names the first check that cannot be followed, or what of the policy cannot.
    pub fn rules(&self) -> Result<VerdictPolicy, InvalidStrategy> {
        let mut rules = self.policy.clone();
        if self.others == OtherMetrics::Ignored {
            rules.metrics.clear();
        }
        for (metric, check) in &self.checks {
            rules.metrics.insert(metric.clone(), check.policy_of(metric)?);
        }
        rules.check()?;
        Ok(rules)
    }

    pub(super) fn check(&self) -> Result<(), InvalidStrategy> {
        check_secs("metrics.max_bake_secs", self.max_bake_secs, 1)?;
        check_judged(|| "metrics.max_bake_secs".into(), self.max_bake_secs)?;
        self.rules().map(drop)
    }
}

fn is_default(others: &OtherMetrics) -> bool {
    *others == OtherMetrics::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stops_a_small_wave_and_the_sixth_a_hundred() {
        let limit = MaxFailed::default();
        assert_eq!((limit.limit(0), limit.limit(19), limit.limit(20), limit.limit(100)), (0, 0, 1, 5));
    }

    #[test]
    fn a_halt_that_an_older_file_calls_a_pause_is_read_and_written_as_what_it_is() {
        let read = |text| serde_json::from_str::<StopAction>(text).unwrap();
        assert_eq!((read("\"pause\""), read("\"halt\"")), (StopAction::Halt, StopAction::Halt));
        assert_eq!(serde_json::to_string(&StopAction::Halt).unwrap(), "\"halt\"");
    }
}
