//! Verdicts and the evidence behind them, as they are stored and told.

use std::{collections::BTreeMap, fmt};

use muster_sketch::canary::{NoComparison, Reading};
use serde::{Deserialize, Serialize};

use super::Metric;

/// What the metrics say about a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum MetricVerdict {
    /// Not worse than the margins: the rollout may go on early.
    Healthy {
        /// At which look.
        look: u64,
    },
    /// Worse than a margin.
    Degraded(Degradation),
    /// Neither is shown; the rollout holds.
    Insufficient {
        /// What is missing.
        gaps: Vec<Gap>,
    },
}

/// Why a candidate is worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Degradation {
    /// The metric with the strongest evidence.
    pub metric: Metric,
    /// When it was decided.
    pub look: u64,
    /// The evidence over all metrics.
    pub e_worse: f64,
    /// What it had to reach.
    pub threshold: f64,
    /// What the metric showed in that look.
    pub reading: Reading,
}

/// What keeps one metric from being found healthy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// Which metric.
    pub metric: Metric,
    /// What is missing.
    pub why: GapWhy,
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GapWhy {
    /// No device had anything of it before the wave.
    NotReported {
        /// Of how many.
        devices: usize,
    },
    /// There is nothing to compare.
    NoComparison {
        /// Why.
        why: NoComparison,
    },
    /// Too few looks brought evidence.
    FewLooks {
        /// How many did.
        looks: u64,
        /// How many are needed.
        needed: u64,
    },
    /// The baselines are known less well than the margin asks, or devices wander by more than it.
    UnsureHistory,
    /// Not enough evidence yet.
    Undecided {
        /// How much there is.
        e_not_worse: f64,
        /// How much is needed.
        needed: f64,
    },
    /// Evidence of harm that is not enough to condemn, and too much to pass.
    Suspicious {
        /// How much there is.
        e_worse: f64,
    },
    /// The evidence would pass, and the mean of all looks, with nothing cut off, would not.
    WorseOnAverage {
        /// How far the mean is above what would pass.
        excess: f64,
    },
    /// Some canaries are further above the margin than the evidence can tell.
    SomeFarWorse {
        /// How many groups of canaries.
        groups: usize,
        /// Of how many in the last look.
        of: usize,
    },
}

/// One look, as it is stored: a point of the curve that leads to the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookRecord {
    /// Number of the look.
    pub look: u64,
    /// What each metric showed that can be compared.
    pub metrics: BTreeMap<Metric, Reading>,
    /// The evidence of harm over all of them; none when none can be compared.
    pub e_worse: Option<f64>,
    /// Where it condemns.
    pub rollback_at: f64,
    /// Where the evidence of every metric that it is not worse passes.
    pub promote_at: f64,
    /// The verdict after this look.
    pub verdict: MetricVerdict,
}

impl LookRecord {
    /// The weakest evidence, over the metrics, that the candidate is not worse; none when none can be compared.
    #[must_use]
    pub fn e_not_worse(&self) -> Option<f64> {
        self.metrics.values().map(|reading| reading.e_not_worse).min_by(f64::total_cmp)
    }
}

impl fmt::Display for MetricVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy { look } => write!(f, "healthy at look {look}: not worse than any margin"),
            Self::Degraded(degradation) => degradation.fmt(f),
            Self::Insufficient { gaps } if gaps.is_empty() => {
                f.write_str("insufficient: nothing was measured")
            }
            Self::Insufficient { gaps } => {
                let gaps: Vec<_> = gaps.iter().map(|gap| format!("{}: {}", gap.metric, gap.why)).collect();
                write!(f, "insufficient: {}", gaps.join("; "))
            }
        }
    }
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { difference, margin_worse, canaries, controls, .. } = self.reading;
        write!(
            f,
            "degraded at look {}: {} is {difference:+.4} against a margin of {margin_worse:.4} \
             ({canaries} canaries, {controls} controls); evidence {:.0}, {:.0} condemn",
            self.look, self.metric, self.e_worse, self.threshold
        )
    }
}

impl fmt::Display for GapWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReported { devices } => write!(
                f,
                "none of the {devices} devices reported it before the wave, so there is nothing to compare with; have it \
                 reported for a while, or leave it out of the checks"
            ),
            Self::NoComparison { why } => why.fmt(f),
            Self::FewLooks { looks, needed } => write!(f, "{looks} looks with evidence, {needed} are needed"),
            Self::UnsureHistory => {
                f.write_str("the history is too short, or devices wander too much, for such a margin")
            }
            Self::Undecided { e_not_worse, needed } => {
                write!(f, "evidence that it is not worse stands at {e_not_worse:.1}, {needed:.0} pass")
            }
            Self::Suspicious { e_worse } => write!(f, "evidence of harm stands at {e_worse:.1}"),
            Self::WorseOnAverage { excess } => {
                write!(
                    f,
                    "most canaries are fine, and a few so much worse that the mean is {excess:.4} too high"
                )
            }
            Self::SomeFarWorse { groups, of } => write!(f, "{groups} of {of} canaries are far worse"),
        }
    }
}
