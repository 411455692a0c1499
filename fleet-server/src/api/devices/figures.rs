//! What one device did with each version, in numbers that a person compares.

use serde::{Deserialize, Serialize};
use shared::telemetry::{Counts, LabelCounts};
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

impl From<DeviceFiguresRow> for ReleaseFigures {
    fn from(row: DeviceFiguresRow) -> Self {
        let figures = row.figures;
        Self {
            release: figures.release.to_string(),
            updated_at: row.updated_at.as_millis(),
            counts: figures.counts,
            labels: figures.labels.into(),
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
    fn without_labels_there_is_no_accuracy() {
        let accuracy = |correct, wrong| LabelsView::from(LabelCounts { correct, wrong }).accuracy;
        assert_eq!((accuracy(0, 0), accuracy(3, 1), accuracy(0, 1)), (None, Some(0.75), Some(0.0)));
    }
}
