//! Canaries matched with controls, and their difference in differences.

use serde::{Deserialize, Serialize};

use super::{Measure, Scale, baseline::Baselines, measure::Values};

/// Canaries and controls of a like baseline; no device is in two groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    canaries: Vec<usize>,
    controls: Vec<usize>,
}

/// What a group showed in one look. Both are in the unit of the scale: shares of the baseline, or the metric's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    /// How much worse its canaries are than expected.
    pub(super) difference: f64,
    /// How much one margin weighs in this group.
    pub(super) margin_unit: f64,
}

/// As many groups as possible, like with like: the quietest canaries against the quietest controls.
pub(super) fn matched(baselines: &Baselines) -> Vec<Group> {
    let (canaries, controls) = (by_baseline(&baselines.canaries), by_baseline(&baselines.controls));
    let count = canaries.len().min(controls.len());
    let part = |devices: &[usize], group: usize| {
        let (from, to) = (group * devices.len() / count, (group + 1) * devices.len() / count);
        devices[from..to].to_vec()
    };
    (0..count)
        .map(|group| Group { canaries: part(&canaries, group), controls: part(&controls, group) })
        .collect()
}

fn by_baseline(baselines: &[Option<f64>]) -> Vec<usize> {
    let mut known: Vec<_> =
        baselines.iter().enumerate().filter_map(|(device, &b)| b.map(|b| (device, b))).collect();
    known.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    known.into_iter().map(|(device, _)| device).collect()
}

impl Group {
    /// `None` when nobody of one side has anything to say.
    pub(super) fn show(&self, measure: &Measure, baselines: &Baselines, values: &Values) -> Option<Shown> {
        let change = change(measure, &baselines.controls, &values.controls, self.controls.iter().copied())?;
        let seen = self.canaries.iter().filter_map(|&device| {
            let baseline = baselines.canaries[device]?;
            let value = values.canaries.get(device).copied().flatten()?;
            Some((difference(measure, baselines.pooled, baseline, value, change), baseline))
        });
        let (mut sum, mut units, mut count) = (0.0, 0.0, 0.0);
        for (difference, baseline) in seen {
            sum += difference;
            units += margin_unit(measure, baselines.pooled, baseline);
            count += 1.0;
        }
        (count > 0.0).then(|| Shown { difference: sum / count, margin_unit: units / count })
    }
}

/// How much worse a device is than its baseline and the change of the controls let expect.
pub(super) fn difference(measure: &Measure, pooled: f64, baseline: f64, value: f64, change: f64) -> f64 {
    measure.badness(match measure.scale {
        Scale::Rate { .. } => (value - baseline * change) / pooled,
        Scale::Level => value / baseline - change,
        Scale::Absolute => value - baseline - change,
    })
}

/// What the controls have become: a factor of their baselines, or for [`Scale::Absolute`] an addend.
pub(super) fn change(
    measure: &Measure,
    baselines: &[Option<f64>],
    values: &[Option<f64>],
    devices: impl Iterator<Item = usize>,
) -> Option<f64> {
    let (mut changes, mut weights) = (0.0, 0.0);
    for device in devices {
        let Some(baseline) = baselines[device] else { continue };
        let Some(value) = values.get(device).copied().flatten() else { continue };
        let (change, weight) = match measure.scale {
            Scale::Rate { .. } => (value, baseline),
            Scale::Level => (value / baseline, 1.0),
            Scale::Absolute => (value - baseline, 1.0),
        };
        changes += change;
        weights += weight;
    }
    (weights > 0.0).then(|| changes / weights)
}

fn margin_unit(measure: &Measure, pooled: f64, baseline: f64) -> f64 {
    match measure.scale {
        Scale::Rate { floor } => baseline.max(floor) / pooled,
        Scale::Level | Scale::Absolute => 1.0,
    }
}
