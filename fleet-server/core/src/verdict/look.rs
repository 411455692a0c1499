//! What the fleet showed in one interval.

use std::collections::BTreeMap;

use muster_sketch::canary::{Sample, Window};
use serde::{Deserialize, Serialize};
use shared::{
    DeviceId,
    telemetry::{CustomKind, VersionFigures},
};
use thiserror::Error;

use super::{Metric, VerdictPolicy};

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
/// in steps of up to an eighth. A counter of an application is compared per inference, a gauge as the mean of its readings.
#[must_use]
pub fn figures_of(version: &VersionFigures) -> Figures {
    let (labels, judged) = (&version.labels, version.counts.judged());
    let sample = |sum: f64, count: u64| Sample { sum, count };
    let counted = [
        (Metric::Latency, sample(version.latency_ms.sum(), version.latency_ms.count())),
        (Metric::Errors, sample(version.counts.failures() as f64, judged)),
        (Metric::Confidence, sample(version.confidence.sum, version.confidence.count)),
        (Metric::Accuracy, sample(labels.correct as f64, labels.correct.saturating_add(labels.wrong))),
        (Metric::Drift, sample(version.drift.sum, version.drift.count)),
    ];
    let custom = version.custom.iter().map(|(name, of)| {
        let count = match of.kind {
            CustomKind::Counter => judged,
            CustomKind::Gauge => of.count,
        };
        (Metric::Custom(name.clone()), sample(of.sum, count))
    });
    counted.into_iter().chain(custom).collect()
}

impl Look {
    /// Leaves out what `policy` does not judge: evidence is kept for long, and applications may report a lot.
    #[must_use]
    pub fn judged_by(mut self, policy: &VerdictPolicy) -> Self {
        for figures in self.devices.values_mut() {
            figures.retain(|metric, _| policy.metrics.contains_key(metric));
        }
        self
    }

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

/// True when somebody measured something.
pub(super) fn is_reported(window: &Window) -> bool {
    window.canaries.iter().chain(&window.controls).flatten().any(|sample| sample.count > 0)
}
