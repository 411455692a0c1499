//! Is the candidate fine on its canaries? Healthy, Degraded with the reason, or Insufficient with what is missing.
//!
//! A [`CanaryJudge`] is started with the policy, the devices and their history, takes one [`Look`] after the other, and
//! keeps for each metric the evidence that the canaries are worse than its margin and the evidence that they are not
//! ([`muster_sketch::canary`] has the tests, their guarantee and what it assumes).
//!
//! - **Degraded** when the mean over the metrics of the evidence of harm reaches `1/alpha_rollback`: at most one
//!   rollout in a thousand without harm, over all metrics and all looks. A mean of e-values is an e-value however
//!   they depend on each other, so no correction is needed. It is final.
//! - **Healthy** when for every metric that counts the evidence against harm has reached `1/alpha_promote`. All of them have
//!   to, so a candidate that is worse in any of them is promoted with probability at most `alpha_promote`.
//!   Besides, what the bets cut off must not speak against it: not the mean with nothing cut, and not more than one
//!   canary in twenty that is far beyond the margin.
//! - **Insufficient** otherwise: too few devices, no controls, no history, too little traffic, or simply not yet. It
//!   never passes and never condemns.
//!
//! Which metrics take part is settled by the history alone: one that nobody reported before the rollout says
//! nothing in it. There is no clock and no chance here: the same looks in the same order give the same bits, so
//! stored ones can be judged once more to see that they do. The gate of a wave asks it where the strategy wants metrics
//! ([`MetricGate`](crate::strategy::MetricGate)); looks are made of sums that only grow ([`Tally`]).

mod explain;
mod look;
mod outcome;
mod policy;
mod tally;

use std::collections::{BTreeMap, BTreeSet};

use muster_sketch::canary::{Comparison, NoComparison, Reading, Window};
use serde::{Deserialize, Serialize};
use shared::DeviceId;

pub use explain::{by_metric, curve};
pub use look::{Figures, Look, LookRefused, figures_of};
pub use outcome::{Degradation, Gap, GapWhy, LookRecord, MetricVerdict};
pub use policy::{InvalidPolicy, MAX_METRICS, Metric, MetricPolicy, Need, VerdictPolicy};
pub use tally::{ByVersion, Intervals, Period, Tally, look_at, tallies};

/// One group of so many may be further above the margin than counts, and the rest still pass: in a large rollout a device
/// breaks by itself.
const FEW_BEYOND: usize = 20;

/// Who is compared with whom. A device in both sets is a canary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohorts {
    /// Devices that change.
    pub canaries: BTreeSet<DeviceId>,
    /// Devices that do not change while the rollout is judged.
    pub controls: BTreeSet<DeviceId>,
}

/// The metric verdict of one rollout, as it forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryJudge {
    /// By which rules.
    policy: VerdictPolicy,
    /// Devices that change, in order.
    canaries: Vec<DeviceId>,
    /// Devices that do not, in order.
    controls: Vec<DeviceId>,

    /// What each metric has shown.
    metrics: BTreeMap<Metric, Judged>,
    /// The number of the last look.
    last_look: Option<u64>,
    /// Set once, never taken back.
    degraded: Option<Degradation>,
}

/// What the devices of a cohort said in a look, in the order of the cohort.
type Side<'a> = Vec<Option<&'a Figures>>;

/// What one metric has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Judged {
    Compared { comparison: Box<Comparison>, last: Reading, not_worse_since: Option<u64> },
    Not { why: NoComparison },
    NotReported { devices: usize },
}

impl CanaryJudge {
    /// Learns from the history: looks that ended before the first canary changed, oldest first. More of it tells
    /// baselines better; a day covers the daily cycle.
    ///
    /// # Errors
    /// When the policy makes no sense. Devices without history or a rollout without controls are no errors: the verdict is
    /// Insufficient and says so.
    pub fn start(policy: VerdictPolicy, cohorts: Cohorts, history: &[Look]) -> Result<Self, InvalidPolicy> {
        policy.check()?;
        let controls = cohorts.controls.difference(&cohorts.canaries).cloned().collect();
        let canaries = cohorts.canaries.into_iter().collect();
        let mut judge =
            Self { policy, canaries, controls, metrics: BTreeMap::new(), last_look: None, degraded: None };
        let history: Vec<_> =
            history.iter().map(|look| (look.of(&judge.canaries), look.of(&judge.controls))).collect();
        let metrics = judge.policy.metrics.iter();
        judge.metrics =
            metrics.map(|(metric, of)| (metric.clone(), judge.begin(metric, of, &history))).collect();
        Ok(judge)
    }

    /// Takes a look and says what came of it.
    ///
    /// # Errors
    /// When its number is not larger than the last one's; then nothing changed, so a look that is delivered twice
    /// counts once.
    pub fn observe(&mut self, look: &Look) -> Result<LookRecord, LookRefused> {
        if let Some(last) = self.last_look.filter(|&last| look.number <= last) {
            return Err(LookRefused { number: look.number, last });
        }
        self.last_look = Some(look.number);
        let (canaries, controls) = (look.of(&self.canaries), look.of(&self.controls));
        for (metric, judged) in &mut self.metrics {
            judged.observe(metric, &canaries, &controls, &self.policy, look.number);
        }
        self.condemn(look.number);
        Ok(self.record(look.number))
    }

    /// The verdict after the last look.
    #[must_use]
    pub fn verdict(&self) -> MetricVerdict {
        if let Some(degradation) = &self.degraded {
            return MetricVerdict::Degraded(degradation.clone());
        }
        let gaps: Vec<Gap> =
            self.metrics.iter().filter_map(|(metric, judged)| self.gap(metric, judged)).collect();
        match (self.last_look, self.e_worse()) {
            (Some(look), Some(_)) if gaps.is_empty() => MetricVerdict::Healthy { look },
            _ => MetricVerdict::Insufficient { gaps },
        }
    }

    /// Evidence of harm over all metrics: the mean of theirs. `None` when no metric can be compared.
    #[must_use]
    pub fn e_worse(&self) -> Option<f64> {
        let values: Vec<f64> = self.compared().map(|(_, comparison)| comparison.e_worse()).collect();
        // Divided first: the sum of capped values stays finite.
        (!values.is_empty()).then(|| values.iter().map(|value| value / values.len() as f64).sum())
    }

    fn begin(&self, metric: &Metric, of: &MetricPolicy, history: &[(Side<'_>, Side<'_>)]) -> Judged {
        let windows = history.iter().map(|(canaries, controls)| look::window(metric, canaries, controls));
        let windows: Vec<Window> = windows.collect();
        let devices = (self.canaries.len(), self.controls.len());
        // Every agent tells latency and errors, so without them it is the history that is missing.
        let is_told = matches!(metric, Metric::Latency | Metric::Errors);
        if !is_told && !windows.iter().any(look::is_reported) {
            return Judged::NotReported { devices: devices.0 + devices.1 };
        }
        let needed = (self.policy.min_canaries as usize, self.policy.min_controls as usize);
        match Comparison::start(of.measure, &windows, devices, needed) {
            Ok(comparison) => Judged::Compared {
                comparison: Box::new(comparison),
                last: Reading::default(),
                not_worse_since: None,
            },
            Err(why) => Judged::Not { why },
        }
    }

    fn compared(&self) -> impl Iterator<Item = (&Metric, &Comparison)> {
        self.metrics.iter().filter_map(|(metric, judged)| match judged {
            Judged::Compared { comparison, .. } => Some((metric, &**comparison)),
            Judged::Not { .. } | Judged::NotReported { .. } => None,
        })
    }

    fn condemn(&mut self, look: u64) {
        let threshold = 1.0 / self.policy.alpha_rollback;
        let Some(e_worse) = self.e_worse().filter(|&e| e >= threshold && self.degraded.is_none()) else {
            return;
        };
        let readings = self.metrics.iter().filter_map(|(metric, judged)| Some((metric, judged.last()?)));
        let worst = readings.max_by(|a, b| a.1.e_worse.total_cmp(&b.1.e_worse));
        self.degraded = worst.map(|(metric, &reading)| Degradation {
            metric: metric.clone(),
            look,
            e_worse,
            threshold,
            reading,
        });
    }

    fn record(&self, look: u64) -> LookRecord {
        let readings = self.metrics.iter();
        LookRecord {
            look,
            metrics: readings
                .filter_map(|(metric, judged)| Some((metric.clone(), *judged.last()?)))
                .collect(),
            e_worse: self.e_worse(),
            rollback_at: 1.0 / self.policy.alpha_rollback,
            promote_at: 1.0 / self.policy.alpha_promote,
            verdict: self.verdict(),
        }
    }

    /// What keeps a metric from being found healthy.
    fn gap(&self, metric: &Metric, judged: &Judged) -> Option<Gap> {
        let need = self.policy.metrics.get(metric).map_or(Need::WhenReported, |of| of.need);
        let why = match judged {
            Judged::Not { .. } | Judged::NotReported { .. } if need == Need::WhenReported => return None,
            Judged::NotReported { devices } => GapWhy::NotReported { devices: *devices },
            Judged::Not { why } => GapWhy::NoComparison { why: why.clone() },
            Judged::Compared { comparison, last, not_worse_since } => {
                self.lack(comparison, last, *not_worse_since)?
            }
        };
        Some(Gap { metric: metric.clone(), why })
    }

    fn lack(&self, comparison: &Comparison, last: &Reading, not_worse_since: Option<u64>) -> Option<GapWhy> {
        let promote_at = 1.0 / self.policy.alpha_promote;
        let (looks, needed) = (comparison.looks(), self.policy.min_looks);
        // What speaks against it weighs as much as what speaks for it.
        if comparison.e_worse() >= promote_at {
            Some(GapWhy::Suspicious { e_worse: comparison.e_worse() })
        } else if not_worse_since.is_some() {
            outvoted(last)
        } else if looks < needed {
            Some(GapWhy::FewLooks { looks, needed })
        } else if last.margin_not_worse <= 0.0 {
            Some(GapWhy::UnsureHistory)
        } else {
            Some(GapWhy::Undecided { e_not_worse: comparison.e_not_worse(), needed: promote_at })
        }
    }
}

impl Judged {
    fn observe(
        &mut self,
        metric: &Metric,
        canaries: &Side<'_>,
        controls: &Side<'_>,
        policy: &VerdictPolicy,
        look: u64,
    ) {
        let Self::Compared { comparison, last, not_worse_since } = self else { return };
        *last = comparison.observe(&look::window(metric, canaries, controls));
        let shown = last.looks >= policy.min_looks && last.e_not_worse >= 1.0 / policy.alpha_promote;
        if shown && not_worse_since.is_none() {
            *not_worse_since = Some(look);
        }
    }

    fn last(&self) -> Option<&Reading> {
        match self {
            Self::Compared { last, .. } => Some(last),
            Self::Not { .. } | Self::NotReported { .. } => None,
        }
    }
}

/// Harm that the bets cut off: the mean of everything that was seen, or one group of twenty.
fn outvoted(last: &Reading) -> Option<GapWhy> {
    if last.excess > 0.0 {
        Some(GapWhy::WorseOnAverage { excess: last.excess })
    } else if last.beyond * FEW_BEYOND > last.groups {
        Some(GapWhy::SomeFarWorse { groups: last.beyond, of: last.groups })
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
