//! One metric of one rollout, from its history to its evidence.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    EProcess, Measure, Scale, Window,
    baseline::Baselines,
    groups::{self, Group, Shown},
    measure::Values,
    wander::Wander,
};

/// Differences are cut at so many standard deviations of the history: rare enough without an effect to move no mean.
const CUT_DEVIATIONS: f64 = 4.0;

/// Standard errors of what the history does not know that a margin has to hold.
const GUARD_ERRORS: f64 = 3.0;

/// The share of the margin that has room for what the history does not know, before it adds to the margin. So the errors
/// of a decent history cost no time, and what is protected from them is a candidate worse by up to half a margin.
const ROOM_IN_MARGIN: f64 = 0.5;

/// Pieces of the history whose means tell how well its mean is known: long enough that neighbours hardly correlate.
const HISTORY_BLOCKS: usize = 12;

/// A running comparison of canaries with controls. All of it is state; the same windows in the same order rebuild it
/// bit by bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is compared.
    measure: Measure,

    /// Learnt from the history: what devices were like,
    baselines: Baselines,
    /// who is compared with whom,
    groups: Vec<Group>,
    /// the variance of the mean difference that the error of the baselines brings,
    baseline_variance: f64,
    /// and the difference of a group that is the largest that counts.
    cut: f64,

    /// Learnt since: the last factor of the controls, at least 1; magnitudes grow with it.
    swell: f64,
    /// How far controls wander.
    wander: Wander,
    /// Evidence that the canaries are worse than the margin.
    worse: EProcess,
    /// Evidence that they are not.
    not_worse: EProcess,
}

/// Why a metric cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NoComparison {
    /// Too few devices that change have a history of the metric.
    #[error("{with_history} of {devices} canaries have a history of it; {needed} are needed")]
    Canaries {
        /// Canaries with a baseline.
        with_history: usize,
        /// Canaries of the rollout.
        devices: usize,
        /// The least number.
        needed: usize,
    },
    /// Too few devices that do not change have one.
    #[error("{with_history} of {devices} controls have a history of it; {needed} are needed")]
    Controls {
        /// Controls with a baseline.
        with_history: usize,
        /// Controls of the rollout.
        devices: usize,
        /// The least number.
        needed: usize,
    },
    /// The measure itself is not one.
    #[error("the margin, the floor or the least count of the metric is out of range")]
    Measure,
}

/// What a comparison made of one look. Differences are in the unit of the scale: 0.02 is 2 % of the baseline, and for
/// [`Scale::Absolute`] the metric's own unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Groups that bet; as many as canaries while controls are more.
    pub groups: usize,
    /// Canaries with a figure.
    pub canaries: usize,
    /// Controls with a figure.
    pub controls: usize,
    /// Devices that said nothing.
    pub missing: usize,
    /// Devices with too few inferences in the look.
    pub thin: usize,
    /// Devices whose figure was not a number or out of range.
    pub invalid: usize,
    /// How much worse the canaries are than expected, mean of the groups; 0 without any.
    pub difference: f64,
    /// What the difference has to exceed on average to be worse: the margin, or more where the history knows little.
    pub margin_worse: f64,
    /// What it has to stay below to be not worse: the margin less what the history does not know. Negative when that
    /// is too much for such a margin.
    pub margin_not_worse: f64,
    /// The largest distance from a margin that counts.
    pub scale: f64,
    /// Evidence that the canaries are worse, after this look; above 0.
    pub e_worse: f64,
    /// Evidence that they are not.
    pub e_not_worse: f64,
    /// Looks that brought evidence so far.
    pub looks: u64,
}

impl Comparison {
    /// Learns from the history, which ends before the first device changed. `needed` are the least numbers of
    /// canaries and controls with a history of the metric.
    ///
    /// # Errors
    /// When there are fewer, or the measure is not sound; then the metric says nothing in this rollout.
    pub fn start(
        measure: Measure,
        history: &[Window],
        devices: (usize, usize),
        needed: (usize, usize),
    ) -> Result<Self, NoComparison> {
        if !measure.is_sound() {
            return Err(NoComparison::Measure);
        }
        let history: Vec<_> = history.iter().map(|window| (window, measure.values(window))).collect();
        let baselines = Baselines::learn(&measure, &history, devices);
        check_devices(&baselines, needed)?;
        let groups = groups::matched(&baselines);
        let past: Vec<Vec<Shown>> =
            history.iter().map(|(_, values)| shown(&groups, &measure, &baselines, values)).collect();
        Ok(Self {
            baseline_variance: variance_of_mean(&past),
            cut: cut(&measure, &baselines, inferences_per_look(&measure, &history), &past),
            swell: 1.0,
            wander: Wander::of(devices.1),
            worse: EProcess::new(),
            not_worse: EProcess::new(),
            measure,
            baselines,
            groups,
        })
    }

    /// Takes a look. Everything that decides how it is judged was fixed before it.
    pub fn observe(&mut self, window: &Window) -> Reading {
        let values = self.measure.values(window);
        let shown = shown(&self.groups, &self.measure, &self.baselines, &values);
        let reading = self.judge(&shown, &values);
        self.learn(&values);
        reading
    }

    /// Evidence that the canaries are worse than the margin; the null hypothesis is that they are not.
    #[must_use]
    pub fn e_worse(&self) -> f64 {
        self.worse.value()
    }

    /// Evidence that they are not worse; the null hypothesis is that they are.
    #[must_use]
    pub fn e_not_worse(&self) -> f64 {
        self.not_worse.value()
    }

    /// Looks that brought evidence.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.worse.looks()
    }

    fn judge(&mut self, shown: &[Shown], values: &Values) -> Reading {
        let guard = self.guard(shown.len());
        let scale = self.cut * self.swell;
        let margin = |group: &Shown| self.measure.margin * group.margin_unit * self.swell;
        let room = |group: &Shown| margin(group) + (guard - ROOM_IN_MARGIN * margin(group)).max(0.0);
        let worse = shown.iter().map(|group| (group.difference - room(group)) / scale);
        let not_worse = shown.iter().map(|group| (margin(group) - guard - group.difference) / scale);
        self.worse.bet(&worse.collect::<Vec<_>>());
        self.not_worse.bet(&not_worse.collect::<Vec<_>>());
        let mean = |of: &dyn Fn(&Shown) -> f64| shown.iter().map(of).sum::<f64>() / shown.len().max(1) as f64;
        Reading {
            groups: shown.len(),
            canaries: values.canaries.iter().flatten().count(),
            controls: values.controls.iter().flatten().count(),
            missing: values.missing,
            thin: values.thin,
            invalid: values.invalid,
            difference: mean(&|group| group.difference),
            margin_worse: mean(&room),
            margin_not_worse: mean(&margin) - guard,
            scale,
            e_worse: self.worse.value(),
            e_not_worse: self.not_worse.value(),
            looks: self.worse.looks(),
        }
    }

    /// Three standard errors of the mean difference of so many groups, known before the look.
    fn guard(&self, groups: usize) -> f64 {
        let fewer = self.groups.len() as f64 / groups.max(1) as f64;
        let baselines = self.baseline_variance * fewer * self.swell * self.swell;
        GUARD_ERRORS * (baselines + self.wander.variance_of_mean(groups)).sqrt()
    }

    /// What the next look may use of this one.
    fn learn(&mut self, values: &Values) {
        let all = 0..self.baselines.controls.len();
        let change = groups::change(&self.measure, &self.baselines.controls, &values.controls, all);
        let Some(change) = change else { return };
        for (device, (baseline, value)) in self.baselines.controls.iter().zip(&values.controls).enumerate() {
            let (Some(baseline), Some(value)) = (*baseline, *value) else { continue };
            let difference =
                groups::difference(&self.measure, self.baselines.pooled, baseline, value, change);
            self.wander.record(device, difference);
        }
        self.swell = match self.measure.scale {
            Scale::Rate { .. } | Scale::Level => change.max(1.0),
            Scale::Absolute => 1.0,
        };
    }
}

fn check_devices(baselines: &Baselines, needed: (usize, usize)) -> Result<(), NoComparison> {
    let known = |devices: &[Option<f64>]| devices.iter().flatten().count();
    let (with_history, devices) = (known(&baselines.canaries), baselines.canaries.len());
    let needed = (needed.0.max(1), needed.1.max(1));
    if with_history < needed.0 {
        return Err(NoComparison::Canaries { with_history, devices, needed: needed.0 });
    }
    let (with_history, devices) = (known(&baselines.controls), baselines.controls.len());
    if with_history < needed.1 {
        return Err(NoComparison::Controls { with_history, devices, needed: needed.1 });
    }
    Ok(())
}

fn shown(groups: &[Group], measure: &Measure, baselines: &Baselines, values: &Values) -> Vec<Shown> {
    groups.iter().filter_map(|group| group.show(measure, baselines, values)).collect()
}

/// The variance of the mean difference over the whole history, from the means of its blocks.
fn variance_of_mean(past: &[Vec<Shown>]) -> f64 {
    let looks: Vec<f64> = past
        .iter()
        .filter(|groups| !groups.is_empty())
        .map(|groups| groups.iter().map(|group| group.difference).sum::<f64>() / groups.len() as f64)
        .collect();
    let blocks: Vec<f64> = looks.chunks(looks.len().div_ceil(HISTORY_BLOCKS).max(1)).map(mean).collect();
    if blocks.len() < 2 {
        return 0.0;
    }
    let middle = mean(&blocks);
    let squares: f64 = blocks.iter().map(|block| (block - middle) * (block - middle)).sum();
    squares / (blocks.len() as f64 - 1.0) / blocks.len() as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The largest difference that counts: four standard deviations of one group in one look, and never less than two
/// events or two margins, or a fleet without any failure would have a test without any sense of proportion.
fn cut(measure: &Measure, baselines: &Baselines, inferences: f64, past: &[Vec<Shown>]) -> f64 {
    let (mut squares, mut count) = (0.0, 0.0);
    for group in past.iter().flatten() {
        squares += group.difference * group.difference;
        count += 1.0;
    }
    let deviation = if count > 0.0 { f64::sqrt(squares / count) } else { 0.0 };
    let least = match measure.scale {
        Scale::Rate { .. } => 2.0 / (inferences * baselines.pooled),
        Scale::Level | Scale::Absolute => 2.0 * measure.margin,
    };
    (CUT_DEVIATIONS * deviation).max(least)
}

/// Of one canary, on average over its looks; at least what a look needs to count.
fn inferences_per_look(measure: &Measure, history: &[(&Window, Values)]) -> f64 {
    let (mut inferences, mut looks) = (0.0, 0.0);
    for (window, values) in history {
        for (sample, usable) in window.canaries.iter().zip(&values.canaries) {
            if let (Some(sample), Some(_)) = (sample, usable) {
                inferences += sample.count as f64;
                looks += 1.0;
            }
        }
    }
    f64::max(inferences / f64::max(looks, 1.0), measure.min_count as f64)
}
