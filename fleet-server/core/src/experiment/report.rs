//! The result, metric by metric.

use std::{collections::BTreeMap, fmt};

use muster_sketch::canary::{Reading, Scale, Worse};
use serde::{Deserialize, Serialize};

use super::{Arms, Record, Rules};
use crate::verdict::{Metric, MetricPolicy, MetricVerdict, Need};

/// One metric of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which.
    pub metric: Metric,
    /// How much larger it is on B than on A lets expect, mean of all looks: a share of the device's own figure where the scale is
    /// relative, and in the metric's own unit otherwise. `None` where nothing was compared.
    pub estimate: Option<f64>,
    /// Whether estimate and margin are shares, so that 0.02 is 2 %.
    pub is_relative: bool,
    /// Which difference matters.
    pub margin: f64,
    /// Of each arm: evidence that it is worse than the other one by more than the margin.
    pub e_worse: Arms<Option<f64>>,
    /// Of each arm: evidence that it is not.
    pub e_not_worse: Arms<Option<f64>>,
    /// Devices of each arm that had figures, most in one look.
    pub devices: Arms<usize>,
    /// Looks that brought evidence.
    pub looks: u64,
    /// What this metric shows by itself.
    pub shown: Shown,
}

/// What one metric shows by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Shown {
    /// A is worse.
    AWorse,
    /// B is worse.
    BWorse,
    /// Neither is worse by more than the margin.
    Equal,
    /// A is not worse; of B nothing is shown.
    ANotWorse,
    /// B is not worse; of A nothing is shown.
    BNotWorse,
    /// Nothing yet.
    Nothing,
    /// It is not compared.
    NotCompared {
        /// Why.
        why: String,
    },
}

/// What the records of an experiment show together, taken one after the other: those of two weeks need not be held at once.
#[derive(Debug, Clone, Default)]
pub struct Results {
    last: Option<Record>,
    seen: BTreeMap<Metric, Seen>,
}

/// What the looks showed of one metric, on the side of B. It holds A as the controls; both sides saw the same devices.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Of the looks that had one, as a difference of the metric's badness.
    sum_of_differences: f64,
    looks: u64,
    most_devices: Arms<usize>,
}

impl Results {
    /// Takes the next record.
    pub fn add(&mut self, record: Record) {
        for (metric, reading) in &record.worse.b.metrics {
            self.seen.entry(metric.clone()).or_default().add(reading);
        }
        self.last = Some(record);
    }

    /// The last record that was taken.
    #[must_use]
    pub fn last(&self) -> Option<&Record> {
        self.last.as_ref()
    }

    /// The rows of a report, in the order of the metrics.
    #[must_use]
    pub fn rows(&self, rules: &Rules) -> Vec<Row> {
        rules.metrics.iter().map(|(metric, of)| self.row(rules, metric, of)).collect()
    }

    fn row(&self, rules: &Rules, metric: &Metric, of: &MetricPolicy) -> Row {
        let readings =
            |record: &Record| record.worse.as_ref().map(|record| record.metrics.get(metric).copied());
        let last = self.last().map(readings).unwrap_or_default();
        let seen = self.seen.get(metric).copied().unwrap_or_default();
        Row {
            metric: metric.clone(),
            estimate: seen.estimate(of),
            is_relative: !matches!(of.measure.scale, Scale::Absolute),
            margin: of.measure.margin,
            e_worse: last.map(|reading| reading.map(|reading| reading.e_worse)),
            e_not_worse: last.map(|reading| reading.map(|reading| reading.e_not_worse)),
            devices: seen.most_devices,
            looks: last.b.map_or(0, |reading| reading.looks),
            shown: shown(rules, metric, of, last, self.last()),
        }
    }
}

impl Seen {
    fn add(&mut self, reading: &Reading) {
        if reading.groups > 0 {
            self.sum_of_differences += reading.difference;
            self.looks += 1;
        }
        let Arms { a, b } = &mut self.most_devices;
        (*a, *b) = ((*a).max(reading.controls), (*b).max(reading.canaries));
    }

    /// The mean difference, as a difference of the metric and not of its badness.
    fn estimate(&self, of: &MetricPolicy) -> Option<f64> {
        let sign = match of.measure.worse {
            Worse::Higher => 1.0,
            Worse::Lower => -1.0,
        };
        (self.looks > 0).then(|| sign * self.sum_of_differences / self.looks as f64)
    }
}

fn shown(
    rules: &Rules,
    metric: &Metric,
    of: &MetricPolicy,
    last: Arms<Option<Reading>>,
    record: Option<&Record>,
) -> Shown {
    let (Some(a), Some(b)) = (last.a, last.b) else {
        return Shown::NotCompared { why: why_not(metric, of, record) };
    };
    let worse = |reading: Reading| reading.e_worse >= 2.0 / rules.alpha;
    let fine =
        |reading: Reading| reading.e_not_worse >= 1.0 / rules.alpha_equal && reading.looks >= rules.min_looks;
    match (worse(a), worse(b), fine(a), fine(b)) {
        (true, _, _, _) => Shown::AWorse,
        (_, true, _, _) => Shown::BWorse,
        (_, _, true, true) => Shown::Equal,
        (_, _, true, false) => Shown::ANotWorse,
        (_, _, false, true) => Shown::BNotWorse,
        (_, _, false, false) => Shown::Nothing,
    }
}

fn why_not(metric: &Metric, of: &MetricPolicy, record: Option<&Record>) -> String {
    let Some(record) = record else { return "no look was taken yet".into() };
    if let MetricVerdict::Insufficient { gaps } = &record.worse.b.verdict
        && let Some(gap) = gaps.iter().find(|gap| gap.metric == *metric)
    {
        return gap.why.to_string();
    }
    match of.need {
        Need::WhenReported => "too few devices reported it before".into(),
        Need::Always => "too little was known of it before".into(),
    }
}

impl Row {
    /// The estimate or the margin as people write it: `+9.8 %`, `-0.0300`.
    #[must_use]
    pub fn written(&self, value: f64) -> String {
        if self.is_relative { format!("{:+.1} %", 100.0 * value) } else { format!("{value:+.4}") }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AWorse => "A is worse",
            Self::BWorse => "B is worse",
            Self::Equal => "no difference beyond the margin",
            Self::ANotWorse => "A is not worse",
            Self::BNotWorse => "B is not worse",
            Self::Nothing => "nothing yet",
            Self::NotCompared { why } => why,
        })
    }
}
