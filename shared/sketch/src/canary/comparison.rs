//! One metric of one rollout, from its history to its evidence.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    EProcess, Measure, Scale, Window,
    baseline::Baselines,
    groups::{self, Group, Middle, Shown},
    measure::Values,
    running::Running,
    wander::Wander,
};

/// Differences are cut at so many standard deviations of the history: rare enough without an effect to move no mean.
const CUT_DEVIATIONS: f64 = 4.0;

/// And they count up to so many margins at least. With fewer, many canaries that are as before outvote a few that are many
/// times slower; with more, one broken canary of ten would condemn alone.
const LEAST_CUT_MARGINS: f64 = 8.0;

/// Standard errors of the baselines that a margin has to hold.
const BASELINE_ERRORS: f64 = 3.0;

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
    /// the square of what the error of the baselines may bring to the mean difference,
    baseline_allowance: f64,
    /// and the difference of a group that is the largest that counts.
    cut: f64,

    /// Learnt since: the last factor of the controls, at least 1; magnitudes grow with it.
    swell: f64,
    /// How far controls wander.
    wander: Wander,
    /// How far above the margin for not being worse the canaries are, with nothing cut off,
    excess: Running,
    /// and each group, as a share of the largest distance that counts.
    excesses: Vec<Running>,
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
    /// How far the canaries are above `margin_not_worse` on average over all looks so far, with nothing cut off.
    pub excess: f64,
    /// Groups that are, on average over all looks so far, further above it than counts.
    pub beyond: usize,
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
        let past = |reach: f64| -> Vec<Vec<Shown>> {
            let shown = |values| groups::shown(&groups, &measure, &baselines, values, reach);
            history.iter().map(|(_, values)| shown(values)).collect()
        };
        let inferences = inferences_per_look(&measure, &history);
        let cut = cut(&measure, &baselines, inferences, &past(f64::INFINITY), groups.len());
        Ok(Self {
            baseline_allowance: baseline_allowance(&past(cut), cut),
            cut,
            swell: 1.0,
            wander: Wander::of(devices.1),
            excess: Running::default(),
            excesses: vec![Running::default(); groups.len()],
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
        let reach = self.cut * self.swell;
        let shown = groups::shown(&self.groups, &self.measure, &self.baselines, &values, reach);
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
        let excess = |group: &Shown| (group.group, (group.whole - margin(group) + guard).max(-scale));
        let excesses: Vec<_> = shown.iter().map(excess).collect();
        let mean = |of: &dyn Fn(&Shown) -> f64| shown.iter().map(of).sum::<f64>() / shown.len().max(1) as f64;
        let (margin_worse, margin_not_worse) = (mean(&room), mean(&margin) - guard);
        self.watch(&excesses, scale);
        Reading {
            groups: shown.len(),
            canaries: values.canaries.iter().flatten().count(),
            controls: values.controls.iter().flatten().count(),
            missing: values.missing,
            thin: values.thin,
            invalid: values.invalid,
            difference: mean(&|group| group.difference),
            margin_worse,
            margin_not_worse,
            scale,
            excess: self.excess.mean,
            beyond: self.excesses.iter().filter(|excess| excess.mean > 1.0).count(),
            e_worse: self.worse.value(),
            e_not_worse: self.not_worse.value(),
            looks: self.worse.looks(),
        }
    }

    /// What the bets cut off is kept in mind here: a few canaries that are many times worse are outvoted in the bets, and
    /// are a lot on average.
    fn watch(&mut self, excesses: &[(usize, f64)], scale: f64) {
        for &(group, excess) in excesses {
            self.excesses[group].record(excess / scale);
        }
        if !excesses.is_empty() {
            self.excess
                .record(excesses.iter().map(|(_, excess)| excess).sum::<f64>() / excesses.len() as f64);
        }
    }

    /// What the mean difference of so many groups may be by chance of history and wandering, known before the look.
    fn guard(&self, groups: usize) -> f64 {
        let fewer = self.groups.len() as f64 / groups.max(1) as f64;
        let baselines = self.baseline_allowance * fewer * self.swell * self.swell;
        (baselines + self.wander.allowance(groups)).sqrt()
    }

    /// What the next look may use of this one. No control weighs more than a cut difference, nor swells anything alone.
    fn learn(&mut self, values: &Values) {
        let (measure, baselines) = (&self.measure, &self.baselines);
        let middle = Middle::of(&self.groups, measure, baselines, values, self.cut * self.swell);
        let Some(middle) = middle else { return };
        for (device, (baseline, value)) in baselines.controls.iter().zip(&values.controls).enumerate() {
            let (Some(baseline), Some(value)) = (*baseline, *value) else { continue };
            let value = middle.held(measure, baselines.pooled, baseline, value);
            let difference = groups::difference(measure, baselines.pooled, baseline, value, middle.change);
            self.wander.record(device, difference);
        }
        self.swell = match measure.scale {
            Scale::Rate { .. } | Scale::Level => middle.change.max(1.0),
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

/// The square of what the error of the baselines may bring to the mean difference, from the means of blocks of the history.
fn baseline_allowance(past: &[Vec<Shown>], cut: f64) -> f64 {
    let looks: Vec<f64> = past
        .iter()
        .filter(|groups| !groups.is_empty())
        .map(|groups| {
            groups.iter().map(|group| group.difference.clamp(-cut, cut)).sum::<f64>() / groups.len() as f64
        })
        .collect();
    let mut blocks = Running::default();
    for block in looks.chunks(looks.len().div_ceil(HISTORY_BLOCKS).max(1)) {
        blocks.record(mean(block));
    }
    if blocks.count < 2 {
        return 0.0;
    }
    BASELINE_ERRORS * BASELINE_ERRORS * blocks.variance() / blocks.count as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The largest difference that counts: four standard deviations of one group in one look, and never less than two
/// events or some margins, or a fleet without any failure would have a test without any sense of proportion. The group
/// is the median one, so a device that broke in the history decides nothing.
fn cut(measure: &Measure, baselines: &Baselines, inferences: f64, past: &[Vec<Shown>], groups: usize) -> f64 {
    let mut squares = vec![Running::default(); groups];
    for shown in past.iter().flatten() {
        squares[shown.group].record(shown.difference * shown.difference);
    }
    let seen = squares.iter().filter(|group| group.count > 0).map(|group| group.mean);
    let deviation = groups::median(seen.collect()).unwrap_or(0.0).sqrt();
    let least = match measure.scale {
        Scale::Rate { .. } => 2.0 / (inferences * baselines.pooled),
        Scale::Level | Scale::Absolute => LEAST_CUT_MARGINS * measure.margin,
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
