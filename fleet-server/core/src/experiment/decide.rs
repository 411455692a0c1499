//! From the evidence in both directions to a decision.
//!
//! An arm that the experiment brought its release is ended as soon as it is worse in some metric: devices suffer under it, and
//! going back is safe. An arm that keeps what ran before is given up only for one that is better in something *and* not worse in
//! anything: more evidence for the larger step. Where each is worse in something, a person decides.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Arm, Arms, Standing};
use crate::verdict::{Degradation, Metric, MetricVerdict};

/// What was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Decision {
    /// One arm is better: the other one is worse in something by more than its margin.
    Better {
        /// Which.
        arm: Arm,
        /// In what, and on what evidence.
        finding: Finding,
    },
    /// Neither is worse than the other in anything by more than a margin.
    Equal {
        /// At which look that was known.
        look: u64,
    },
    /// Each is worse than the other in something.
    Split {
        /// In what A is better.
        a: Finding,
        /// In what B is better.
        b: Finding,
    },
}

/// In what an arm is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The metric with the strongest evidence.
    pub metric: Metric,
    /// The look that decided.
    pub look: u64,
    /// How much worse the other arm was in that look, in the unit of the metric's scale.
    pub by: f64,
    /// How much it had to be on average.
    pub margin: f64,
    /// The evidence over all metrics.
    pub evidence: f64,
    /// What it had to reach.
    pub needed: f64,
    /// Devices with figures in that look.
    pub devices: Arms<usize>,
}

impl Standing {
    /// The decision, if the evidence suffices. `changed` are the arms that the experiment brought their release.
    #[must_use]
    pub fn decision(&self, changed: Arms<bool>) -> Option<Decision> {
        match (&self.worse.a, &self.worse.b) {
            (MetricVerdict::Degraded(a), MetricVerdict::Degraded(b)) => {
                Some(Decision::Split { a: Finding::of(b), b: Finding::of(a) })
            }
            (other, MetricVerdict::Degraded(b)) if changed.b || is_fine(other) => {
                Some(Decision::Better { arm: Arm::A, finding: Finding::of(b) })
            }
            (MetricVerdict::Degraded(a), other) if changed.a || is_fine(other) => {
                Some(Decision::Better { arm: Arm::B, finding: Finding::of(a) })
            }
            (MetricVerdict::Healthy { look: a }, MetricVerdict::Healthy { look: b }) => {
                Some(Decision::Equal { look: *a.max(b) })
            }
            _ => None,
        }
    }
}

fn is_fine(verdict: &MetricVerdict) -> bool {
    matches!(verdict, MetricVerdict::Healthy { .. })
}

impl Decision {
    /// True when the arm was found worse in something.
    #[must_use]
    pub fn condemns(&self, arm: Arm) -> bool {
        match self {
            Self::Better { arm: better, .. } => *better != arm,
            Self::Split { .. } => true,
            Self::Equal { .. } => false,
        }
    }
}

impl Finding {
    fn of(why: &Degradation) -> Self {
        Self {
            metric: why.metric.clone(),
            look: why.look,
            by: why.reading.difference,
            margin: why.reading.margin_worse,
            evidence: why.e_worse,
            needed: why.threshold,
            devices: Arms { a: why.reading.controls, b: why.reading.canaries },
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Better { arm, finding } => write!(f, "{arm} is better: {}", finding.of_loser(arm.other())),
            Self::Equal { look } => {
                write!(f, "no difference beyond the margins in any metric, shown at look {look}")
            }
            Self::Split { a, b } => {
                write!(f, "each is better in something: {}; {}", a.of_loser(Arm::B), b.of_loser(Arm::A))
            }
        }
    }
}

impl Finding {
    fn of_loser(&self, arm: Arm) -> String {
        let Self { metric, look, by, margin, evidence, needed, devices } = self;
        format!(
            "{metric} of {arm} is worse by {by:.4} against a margin of {margin:.4} at look {look} \
             ({} and {} devices); evidence {evidence:.0}, {needed:.0} decide",
            devices.a, devices.b
        )
    }
}
