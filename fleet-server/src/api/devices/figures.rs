//! What one device did with each version, in numbers that a person compares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::telemetry::{Counts, CustomKind, CustomSums, LabelCounts};
use utoipa::ToSchema;

use crate::store::DeviceFiguresRow;

/// What a device did with a version since it first reported it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleaseFigures {
    /// `name@version`.
    pub release: String,
    /// When the device last added to them, in milliseconds since 1970.
    pub updated_at: u64,
    /// Inferences by how they ended; `slow` counts beside the others.
    #[schema(value_type = Object)]
    pub counts: Counts,
    /// Labels that came back for inferences.
    pub labels: LabelsView,
    /// Mean probability of the class that the model decided for, 0 to 1; absent when its answers are no probabilities.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// Counters and gauges that applications reported, by name.
    #[serde(default)]
    pub custom: BTreeMap<String, CustomView>,
    /// Median time in the engine.
    pub latency_p50_ms: Option<f64>,
    /// Time in the engine that 1 % exceed.
    pub latency_p99_ms: Option<f64>,
}

/// Labels that came back for inferences.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelsView {
    /// The top class was the label.
    pub correct: u64,
    /// It was another.
    pub wrong: u64,
    /// Share of the correct ones, 0 to 1; absent without labels.
    pub accuracy: Option<f64>,
}

/// A counter or gauge that applications reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CustomView {
    /// `counter` or `gauge`.
    #[schema(value_type = String)]
    pub kind: CustomKind,
    /// What was added to the counter, or the sum of the gauge's readings.
    pub sum: f64,
    /// Reports.
    pub reports: u64,
    /// What rollouts compare: a counter per inference, the mean of a gauge; absent without inferences.
    pub value: Option<f64>,
}

impl CustomView {
    fn of(sums: &CustomSums, inferences: u64) -> Self {
        let CustomSums { kind, sum, count } = *sums;
        let over = match kind {
            CustomKind::Counter => inferences,
            CustomKind::Gauge => count,
        };
        Self { kind, sum, reports: count, value: (over > 0).then(|| sum / over as f64) }
    }
}

impl From<DeviceFiguresRow> for ReleaseFigures {
    fn from(row: DeviceFiguresRow) -> Self {
        let figures = row.figures;
        let judged = figures.counts.judged();
        let custom =
            figures.custom.iter().map(|(name, sums)| (name.to_string(), CustomView::of(sums, judged)));
        Self {
            release: figures.release.to_string(),
            updated_at: row.updated_at.as_millis(),
            counts: figures.counts,
            labels: figures.labels.into(),
            confidence: figures.confidence.mean(),
            custom: custom.collect(),
            latency_p50_ms: figures.latency_ms.quantile(0.5),
            latency_p99_ms: figures.latency_ms.quantile(0.99),
        }
    }
}

impl From<LabelCounts> for LabelsView {
    fn from(LabelCounts { correct, wrong }: LabelCounts) -> Self {
        let all = correct.saturating_add(wrong);
        let accuracy = (all > 0).then(|| correct as f64 / all as f64);
        Self { correct, wrong, accuracy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_told_per_inference_and_a_gauge_per_reading() {
        let value =
            |kind, inferences| CustomView::of(&CustomSums { kind, sum: 6.0, count: 2 }, inferences).value;
        assert_eq!((value(CustomKind::Counter, 12), value(CustomKind::Gauge, 12)), (Some(0.5), Some(3.0)));
        assert_eq!(value(CustomKind::Counter, 0), None);
    }

    #[test]
    fn without_labels_there_is_no_accuracy() {
        let accuracy = |correct, wrong| LabelsView::from(LabelCounts { correct, wrong }).accuracy;
        assert_eq!((accuracy(0, 0), accuracy(3, 1), accuracy(0, 1)), (None, Some(0.75), Some(0.0)));
    }
}
