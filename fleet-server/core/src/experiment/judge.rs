//! The arms against each other, in both directions.
//!
//! The device is the unit, and each is compared with its own history, as in the [verdict on a rollout](crate::verdict): B stands
//! where the canaries stand and A where the controls do. One judge bets that B is worse, the other, with every metric turned
//! round, that A is. Both are valid at every look, and each gets half of the false alarms. So at any look, whenever one stops,
//!
//! - one arm is called worse in some metric, though neither is beyond a margin, with probability at most `alpha`;
//! - an arm that is worse by more than a margin in some metric is called not worse with probability at most `alpha_equal`.
//!
//! Turning a metric round is exact: "A is worse than B by the margin" is "B is better than A by it", in shares of what B's
//! history and the change of A let expect. For margins of some per cent the two ways of taking shares are the same.
//!
//! The assumptions are those of [`muster_sketch::canary`]. Where devices of both arms change, the step from the old version counts in
//! both, and only its difference is left.

use std::collections::BTreeMap;

use muster_sketch::canary::Worse;
use serde::{Deserialize, Serialize};
use shared::{DeviceId, Version};

use super::{Arms, Rules};
use crate::verdict::{
    ByVersion, CanaryJudge, Cohorts, InvalidPolicy, Look, LookRecord, LookRefused, MetricVerdict,
    VerdictPolicy,
};

/// The comparison of two arms, as it forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmsJudge {
    /// Of each arm: is it worse than the other one?
    worse: Arms<CanaryJudge>,
}

/// What all looks together show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Of each arm: Degraded is worse than the other one, Healthy not worse.
    pub worse: Arms<MetricVerdict>,
}

/// One look, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of each arm: what the look adds to the question whether it is worse.
    pub worse: Arms<LookRecord>,
}

impl ArmsJudge {
    /// Learns from the history: looks that ended before the experiment, oldest first.
    ///
    /// # Errors
    /// When the rules make no sense.
    pub fn start(rules: &Rules, cohorts: &Cohorts, history: &[Look]) -> Result<Self, InvalidPolicy> {
        let policy = rules.policy();
        let judge = |policy| CanaryJudge::start(policy, cohorts.clone(), history);
        Ok(Self { worse: Arms { a: judge(turned(policy.clone()))?, b: judge(policy)? } })
    }

    /// Takes a look and says what came of it.
    ///
    /// # Errors
    /// When its number is not larger than the last one's; then nothing changed.
    pub fn observe(&mut self, look: &Look) -> Result<Record, LookRefused> {
        let b = self.worse.b.observe(look)?;
        let a = self.worse.a.observe(look)?;
        Ok(Record { worse: Arms { a, b } })
    }
}

impl Record {
    /// What all looks up to this one show.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { worse: self.worse.as_ref().map(|record| record.verdict.clone()) }
    }
}

/// The same metrics with better and worse exchanged.
fn turned(mut policy: VerdictPolicy) -> VerdictPolicy {
    for of in policy.metrics.values_mut() {
        of.measure.worse = match of.measure.worse {
            Worse::Higher => Worse::Lower,
            Worse::Lower => Worse::Higher,
        };
    }
    policy
}

/// The look of one interval: of each device what it did with one version.
pub(super) fn look_at(
    number: u64,
    happened: &BTreeMap<DeviceId, ByVersion>,
    counted: &BTreeMap<DeviceId, Version>,
) -> Look {
    let figures =
        |(device, version)| Some((DeviceId::clone(device), happened.get(device)?.get(version)?.clone()));
    Look { number, devices: counted.iter().filter_map(figures).collect() }
}
