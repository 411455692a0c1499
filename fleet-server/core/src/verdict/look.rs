//! What the fleet showed in one interval.

use std::collections::BTreeMap;

use muster_sketch::canary::{Sample, Window};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, telemetry::VersionFigures};
use thiserror::Error;

use super::Metric;

/// What one device measured in one look.
pub type Figures = BTreeMap<Metric, Sample>;

/// One interval of the fleet. Of a canary only what the candidate did belongs in it, so one that has not changed yet or
/// has gone back is left out; devices of neither cohort are passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Grows from look to look; gaps are fine.
    pub number: u64,
    /// Who said what.
    pub devices: BTreeMap<DeviceId, Figures>,
}

/// A look that was there already, or comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("look {number} does not come after look {last}, which was judged already")]
pub struct LookRefused {
    /// The number of the look.
    pub number: u64,
    /// The last number judged.
    pub last: u64,
}

/// The figures of one version in one window of telemetry.
///
/// Latency comes from a histogram of eight buckets an octave, so a device whose inferences all take the same time moves
/// in steps of up to an eighth.
#[must_use]
pub fn figures_of(version: &VersionFigures) -> Figures {
    let labels = version.labels.correct.saturating_add(version.labels.wrong);
    let sample = |sum: f64, count: u64| Sample { sum, count };
    [
        (Metric::Latency, sample(version.latency_ms.sum(), version.latency_ms.count())),
        (Metric::Errors, sample(version.counts.failures() as f64, version.counts.judged())),
        (Metric::Accuracy, sample(version.labels.correct as f64, labels)),
    ]
    .into()
}

impl Look {
    /// The figures of `devices`, which are in order.
    pub(super) fn of(&self, devices: &[DeviceId]) -> Vec<Option<&Figures>> {
        let mut rest = self.devices.iter().peekable();
        let mut figures = |wanted: &DeviceId| {
            while rest.next_if(|(device, _)| *device < wanted).is_some() {}
            rest.next_if(|(device, _)| *device == wanted).map(|(_, figures)| figures)
        };
        devices.iter().map(&mut figures).collect()
    }
}

pub(super) fn window(
    metric: &Metric,
    canaries: &[Option<&Figures>],
    controls: &[Option<&Figures>],
) -> Window {
    let side = |devices: &[Option<&Figures>]| {
        devices.iter().map(|figures| figures.and_then(|figures| figures.get(metric)).copied()).collect()
    };
    Window { canaries: side(canaries), controls: side(controls) }
}
