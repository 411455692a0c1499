//! Canaries matched with controls, and their difference in differences.

use serde::{Deserialize, Serialize};

use super::{Measure, Scale, baseline::Baselines, measure::Values};

/// The rate of one control in one look is mostly zero or far too much, and the median of many such says that all failures
/// are gone; then devices that fail more often than others seem to wander. So the controls of neighbouring groups are taken
/// together, into about so many parts: enough for a median, and with five controls or more in each where there are fifty. Fewer
/// than twice as many groups stay as they are, for each has several controls in a usual rollout.
const PARTS: usize = 10;

/// Canaries and controls of a like baseline; no device is in two groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    canaries: Vec<usize>,
    controls: Vec<usize>,
}

/// What a group showed in one look. Both are in the unit of the scale: shares of the baseline, or the metric's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    /// Its place among the groups.
    pub(super) group: usize,
    /// How much worse its canaries are than expected.
    pub(super) difference: f64,
    /// The same with nothing held back on either side.
    pub(super) whole: f64,
    /// How much one margin weighs in this group.
    pub(super) margin_unit: f64,
}

/// What the controls have become in one look, and how far from it a single one of them counts. So one control that
/// breaks moves neither margin, scale nor guard by more than any other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Middle {
    /// A factor of their baselines, or for [`Scale::Absolute`] an addend: the median of the groups, for rates of about
    /// [`PARTS`] parts of them.
    pub(super) change: f64,
    /// In the unit of the scale.
    pub(super) reach: f64,
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

/// What all groups showed in one look.
pub(super) fn shown(
    groups: &[Group],
    measure: &Measure,
    baselines: &Baselines,
    values: &Values,
    reach: f64,
) -> Vec<Shown> {
    let Some(middle) = Middle::of(groups, measure, baselines, values, reach) else { return vec![] };
    let seen = groups.iter().enumerate();
    seen.filter_map(|(place, group)| group.show(place, measure, baselines, values, middle)).collect()
}

impl Group {
    /// `None` when nobody of one side has anything to say.
    fn show(
        &self,
        place: usize,
        measure: &Measure,
        baselines: &Baselines,
        values: &Values,
        middle: Middle,
    ) -> Option<Shown> {
        let change = self.change(measure, baselines, values, Some(middle))?;
        let whole_change = self.change(measure, baselines, values, None)?;
        let seen = self.canaries.iter().filter_map(|&device| {
            let baseline = baselines.canaries[device]?;
            let value = values.canaries.get(device).copied().flatten()?;
            let off = |change| difference(measure, baselines.pooled, baseline, value, change);
            Some((off(change), off(whole_change), baseline))
        });
        let (mut sum, mut wholes, mut units, mut count) = (0.0, 0.0, 0.0, 0.0);
        for (difference, whole, baseline) in seen {
            sum += difference;
            wholes += whole;
            units += margin_unit(measure, baselines.pooled, baseline);
            count += 1.0;
        }
        (count > 0.0).then(|| Shown {
            group: place,
            difference: sum / count,
            whole: wholes / count,
            margin_unit: units / count,
        })
    }

    /// What its controls have become, each no further from the middle than counts, where there is one.
    fn change(
        &self,
        measure: &Measure,
        baselines: &Baselines,
        values: &Values,
        middle: Option<Middle>,
    ) -> Option<f64> {
        change(self.controls.iter(), measure, baselines, values, middle)
    }
}

/// What some controls have become together.
fn change<'a>(
    controls: impl Iterator<Item = &'a usize>,
    measure: &Measure,
    baselines: &Baselines,
    values: &Values,
    middle: Option<Middle>,
) -> Option<f64> {
    let (mut changes, mut weights) = (0.0, 0.0);
    for &device in controls {
        let Some(baseline) = baselines.controls[device] else { continue };
        let Some(value) = values.controls.get(device).copied().flatten() else { continue };
        let value = middle.map_or(value, |middle| middle.held(measure, baselines.pooled, baseline, value));
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

impl Middle {
    /// `None` when no control has anything to say.
    pub(super) fn of(
        groups: &[Group],
        measure: &Measure,
        baselines: &Baselines,
        values: &Values,
        reach: f64,
    ) -> Option<Self> {
        let together = match measure.scale {
            Scale::Rate { .. } => (groups.len() / PARTS).max(1),
            Scale::Level | Scale::Absolute => 1,
        };
        let parts = groups.chunks(together).map(|part| part.iter().flat_map(|group| &group.controls));
        let changes = parts.filter_map(|part| change(part, measure, baselines, values, None));
        median(changes.collect()).map(|change| Self { change, reach })
    }

    /// The figure of a control, no further from what the middle lets expect than counts.
    pub(super) fn held(&self, measure: &Measure, pooled: f64, baseline: f64, value: f64) -> f64 {
        let (expected, unit) = match measure.scale {
            Scale::Rate { .. } => (baseline * self.change, pooled),
            Scale::Level => (baseline * self.change, baseline),
            Scale::Absolute => (baseline + self.change, 1.0),
        };
        value.clamp(expected - self.reach * unit, expected + self.reach * unit)
    }
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(lower / 2.0 + upper / 2.0)
}

/// How much worse a device is than its baseline and the change of the controls let expect.
pub(super) fn difference(measure: &Measure, pooled: f64, baseline: f64, value: f64, change: f64) -> f64 {
    measure.badness(match measure.scale {
        Scale::Rate { .. } => (value - baseline * change) / pooled,
        Scale::Level => value / baseline - change,
        Scale::Absolute => value - baseline - change,
    })
}

fn margin_unit(measure: &Measure, pooled: f64, baseline: f64) -> f64 {
    match measure.scale {
        Scale::Rate { floor } => baseline.max(floor) / pooled,
        Scale::Level | Scale::Absolute => 1.0,
    }
}
