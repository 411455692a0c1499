//! Is a canary worse than the rest of the fleet? One metric, asked at every look, with a bounded chance of a wrong yes.
//!
//! # What is compared
//! The unit is the device, never the inference: ten cameras are ten units, however many frames they count. Each
//! device is compared with **its own** period before the change, and that difference with the same difference of
//! devices that did not change (difference in differences). Unlike devices cancel out in the first step, the time
//! of day and shocks that hit everybody in the second. Canaries are matched with controls of a like baseline into
//! groups that share no device, so the groups of a look err independently of each other.
//!
//! # The guarantee
//! [`EProcess`] bets at every look, on every group, that the canaries are worse than the margin. Where they are
//! not, its value exceeds `1/alpha` **at any look, however many there are**, with probability at most `alpha`
//! (Ville 1939). One may look at any moment, stop at any moment and go on afterwards. A second process bets that
//! they are *not* worse than the margin, with the same guarantee. All payoffs `y` of a look enter with one stake `λ`,
//! fixed before the look, and the product of their expected factors `1 + λE[y]` is at most `exp(λ ΣE[y])`. So it is enough
//! that the groups are not worse than the margin **on average**: single unlucky devices are allowed.
//!
//! # What it assumes
//! 1. Given the past and what hits everybody, the groups of a look are independent of each other.
//! 2. Without an effect, a canary's expected figure is its baseline times (or plus) what the controls show. Two things
//!    that break this in the field are measured: the error of the baselines, three standard errors from blocks of the
//!    history, and how far devices wander away from their own history by themselves, from the controls, with more
//!    standard errors the fewer controls there are. What exceeds half the margin is added to it for the first process,
//!    and all of it is taken from the margin for the second ([`Reading::margin_worse`], [`Reading::margin_not_worse`]).
//!    So candidates that are worse by up to half a margin are protected from such errors; that this suffices is checked
//!    by simulation, not proven.
//! 3. Whether a device reports does not depend on what it would have reported. Devices that fall silent are a
//!    matter of the rollout's counts, not of this test.
//! 4. Differences further from the margin than [`Reading::scale`] count as that much (winsorised: four standard
//!    deviations of the history, at least two events or eight margins), so the tests are about the mean of the clipped
//!    difference. A burst of failures on one device in one look therefore weighs little, and many small ones weigh all
//!    they are. Controls are cut likewise, around the median of the groups. What the cut hides, a few canaries that are
//!    many times worse, is told beside the bets ([`Reading::excess`], [`Reading::beyond`]) and has no guarantee.
//!
//! # Sources
//! Betting: Waudby-Smith & Ramdas 2023, *Estimating means of bounded random variables by betting*. Validity at every
//! look: Ville 1939, *Étude critique de la notion de collectif*; Howard, Ramdas, McAuliffe & Sekhon 2021,
//! *Time-uniform, nonparametric, nonasymptotic confidence sequences*. Evidence that starts late: Shin, Ramdas &
//! Rinaldo 2022, *E-detectors*; here the starts share one capital, so that the bound is on the whole life of a rollout
//! and not on the time between alarms.

mod baseline;
mod comparison;
mod e_process;
mod groups;
mod measure;
mod running;
mod student;
mod wander;

#[cfg(test)]
mod tests;

pub use comparison::{Comparison, NoComparison, Reading};
pub use e_process::{E_VALUE_CAP, EProcess};
pub use measure::{Measure, Sample, Scale, Worse};

/// What the devices of a rollout measured in one look, in the order in which the comparison was started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    /// Devices that changed. `None` is a device that said nothing.
    pub canaries: Vec<Option<Sample>>,
    /// Devices that did not.
    pub controls: Vec<Option<Sample>>,
}
