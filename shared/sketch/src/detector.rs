//! Has a feature's distribution moved away from its baseline, where, and how sure is that? Asked at every check, for
//! years, at a stated rate of false alarms.
//!
//! # What is bet
//! A [`Scores`] holds score functions on the bins of one feature: the rank's first three Legendre polynomials, the tails,
//! what is outside the reference's range, eight regions; of a category whether it was that one. For each in both
//! directions (regions upwards only) and eight stakes `b`, a sample pays
//! `(1 + b·(score − reference's mean)) · exp(−b·(baseline's mean − reference's mean + zone))`. Where the true mean
//! is not further from the baseline's than the zone, that is at most 1 on average, since `1 + y ≤ exp(y)`. The log-payoff of a
//! batch is a dot product of its bin counts with a table made from the reference, so batches of any size, merged from any
//! number of windows, give the evidence of the samples one by one ([`Payoff`]).
//!
//! # The guarantee
//! [`Detector`] keeps `R ← (R + 1)·e` for every bet, `e` being its payoff of a check, and raises an alarm when the mean of
//! all `R` reaches the threshold A. While nothing has left its zone, `R − checks` is a supermartingale, so the
//! mean number of checks between false alarms is at least A, and the chance of one within T checks at most T/A, at
//! any look and any size of batch (Shin, Ramdas & Rinaldo 2022, *E-detectors*, arXiv 2203.03532; the sum is that of Shiryaev
//! and Roberts). [`Threshold`] makes A from a rate that people can mean.
//!
//! # What it assumes
//! 1. Samples are independent given the past. Frames of a video are not: count every k-th, [`Thinning`] says which.
//! 2. The baseline's own error is within the [`Zone`]. Three standard errors are the least; of many baselines some are
//!    further off, so [`Zone::for_baselines`] makes zones so wide that the chance of any outside is about 5 %. One that
//!    is outside nevertheless may raise more false alarms than stated.
//! 3. What comes back every day is in the baseline. A baseline of the morning makes the evening a drift.
//!
//! # Scopes
//! Every device is compared with its own first samples ([`DeviceWatch`]). Of a group the e-values are multiplied,
//! with the strongest twentieth of the devices held at 1 ([`Fleet`]), so that a broken sensor is not taken for the world.
//! The verdict says which of them moved ([`Scope`]). Every version of a model has a fleet of its own, held against those of the others
//! ([`Fleet::against`]). A device that was broken from its first day has a broken
//! baseline, and only the comparison with its siblings shows that ([`odd_baselines`]).
//!
//! # Numbers
//! Logarithm and exponential are made from exactly rounded operations here, so the same counts in the same order give
//! the same bits everywhere. Gains are added as logarithms. `R` is a plain number, cut at
//! [`E_VALUE_CAP`](crate::canary::E_VALUE_CAP): far beyond any decision, and a cut can only make evidence smaller.

mod baseline;
mod device;
pub(crate) mod elementary;
mod evidence;
mod first_day;
mod fleet;
mod payoff;
mod rule;
mod scores;
mod thinning;

#[cfg(test)]
mod tests;

pub use baseline::Baseline;
pub use device::{DeviceWatch, Watched};
pub use evidence::{Alarm, Detector};
pub use first_day::{OddBaseline, Oddity, odd_baselines};
pub use fleet::{
    Checked, Contrast, Finding, Fleet, FleetBatch, FleetError, FleetRule, FleetSize, Group, LeftOut,
    MAX_DEVICES, MAX_GROUPS, MIN_GROUP_DEVICES, Scope, Shift,
};
pub use payoff::Payoff;
pub use rule::{BadRule, MIN_STANDARD_ERRORS, Rule, Threshold, Zone};
pub use scores::{BadCounts, Direction, MAX_CATEGORY_SCORES, MIN_ROWS, ScoreName, Scores, Sign, Vocabulary};
pub use thinning::{MAX_THINNING, NoThinning, Thinning};
