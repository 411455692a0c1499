//! What a person asks for.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use shared::{ExperimentId, ModelName, ReleaseId, Timestamp};
use thiserror::Error;

use crate::{
    selector::Selector,
    strategy::{InvalidStrategy, Strategy, WaveShare},
    verdict::{InvalidPolicy, Metric, MetricPolicy, VerdictPolicy},
};

/// Longest experiment: every look is kept as evidence, and what fourteen days do not show is too small to matter.
pub const MAX_DURATION_SECS: u64 = 14 * 86_400;

/// Shortest one: fewer looks than that decide nothing.
const MIN_DURATION_SECS: u64 = 60;

/// Longest name: what speaks for its devices is named after it, and names end at 64 characters.
pub(super) const MAX_NAME: usize = 64 - NAME_PREFIX.len();

/// Before the name, where an experiment speaks for devices as rollouts do.
pub(super) const NAME_PREFIX: &str = "experiment-";

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// Usually what runs.
    A,
    /// Usually what is tried.
    B,
}

/// Something of each arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arms<T> {
    /// Of arm A.
    pub a: T,
    /// Of arm B.
    pub b: T,
}

/// An experiment as it is asked for. It never changes once it is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentSpec {
    /// Its name.
    pub id: ExperimentId,
    /// What each arm shall run: two versions of one model.
    pub releases: Arms<ReleaseId>,
    /// Whose devices are dealt to the arms.
    pub selector: Selector,
    /// Percentage of the able devices that each arm gets; together at most 100.
    pub shares: Arms<u32>,
    /// Decides who is in which arm; the same seed and devices give the same arms.
    pub seed: u64,
    /// How the arms are compared.
    pub rules: Rules,
    /// How long it lasts at most, from the start.
    pub max_duration_secs: u64,
    /// What becomes of the devices at the end.
    pub at_end: AtEnd,
    /// How devices are brought their release, and how a winner is.
    pub strategy: Strategy,
    /// Who asked for it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
}

/// What becomes of the devices at the end. An arm that was found worse and was brought its release by the experiment goes back in
/// any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// They keep what they run.
    #[default]
    Leave,
    /// They go back to what they ran before.
    Restore,
    /// The better release, if one is, is rolled out to everybody whom the experiment selected.
    Adopt,
}

/// How the arms are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Probability that an arm is called better although neither is beyond a margin, over all metrics, looks and both
    /// directions. Above 0, at most 0.5.
    pub alpha: f64,
    /// Probability that an arm is called not worse although it is worse by more than a margin. So also that of calling arms
    /// equal which are not.
    pub alpha_equal: f64,
    /// Devices of each arm with a history, at least; fewer cannot tell how far devices move by themselves.
    pub min_devices: u32,
    /// Nothing is called equal before so many looks.
    pub min_looks: u64,
    /// The metrics, as in a verdict; a margin counts in both directions.
    pub metrics: BTreeMap<Metric, MetricPolicy>,
}

impl Default for Rules {
    fn default() -> Self {
        let VerdictPolicy { min_controls, min_looks, metrics, .. } = VerdictPolicy::default();
        Self { alpha: 0.05, alpha_equal: 0.05, min_devices: min_controls, min_looks, metrics }
    }
}

/// Why an experiment cannot be carried out.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum InvalidExperiment {
    /// The names of what belongs to it would be too long.
    #[error("the name has {0} characters; write 1 to {MAX_NAME}")]
    Name(usize),
    /// The releases are the same, or of two models.
    #[error("{a} and {b} cannot be compared: write two versions of one model")]
    Releases {
        /// Of arm A.
        a: ReleaseId,
        /// Of arm B.
        b: ReleaseId,
    },
    /// The shares do not fit.
    #[error(
        "the arms get {a} % and {b} % of the devices; write at least 1 for each, and together at most 100"
    )]
    Shares {
        /// Of arm A.
        a: u32,
        /// Of arm B.
        b: u32,
    },
    /// It takes no time, or too much.
    #[error("it lasts {0} s; write {MIN_DURATION_SECS} to {MAX_DURATION_SECS}")]
    Duration(u64),
    /// A probability of errors out of range.
    #[error("{name} is {value}; write a probability above 0 and at most 0.5")]
    Alpha {
        /// Which.
        name: &'static str,
        /// What it says.
        value: f64,
    },
    /// The metrics cannot be compared by these rules.
    #[error("the metrics cannot be compared: {0}")]
    Metrics(#[from] InvalidPolicy),
    /// The strategy cannot be followed.
    #[error("the strategy cannot be followed: {0}")]
    Strategy(#[from] InvalidStrategy),
    /// The strategy says something that an experiment says itself.
    #[error("the strategy of an experiment takes no {0}: {1}")]
    NotHere(&'static str, &'static str),
}

impl ExperimentSpec {
    /// The model of both arms.
    #[must_use]
    pub fn model(&self) -> &ModelName {
        &self.releases.a.model
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first thing that cannot be carried out.
    pub fn check(&self) -> Result<(), InvalidExperiment> {
        let name = self.id.as_str().len();
        if name > MAX_NAME {
            return Err(InvalidExperiment::Name(name));
        }
        let Arms { a, b } = self.releases.clone();
        if a.model != b.model || a.version == b.version {
            return Err(InvalidExperiment::Releases { a, b });
        }
        let Arms { a, b } = self.shares;
        if a == 0 || b == 0 || a.saturating_add(b) > 100 {
            return Err(InvalidExperiment::Shares { a, b });
        }
        if !(MIN_DURATION_SECS..=MAX_DURATION_SECS).contains(&self.max_duration_secs) {
            return Err(InvalidExperiment::Duration(self.max_duration_secs));
        }
        self.rules.check()?;
        check_strategy(&self.strategy)
    }
}

/// The strategy brings releases to devices; who takes part and how they are compared is said by the experiment.
fn check_strategy(strategy: &Strategy) -> Result<(), InvalidExperiment> {
    if strategy.metrics.is_some() {
        return Err(InvalidExperiment::NotHere("metrics", "the arms are compared with each other"));
    }
    strategy.check()?;
    if strategy.control_percent > 0 {
        return Err(InvalidExperiment::NotHere(
            "control_percent",
            "arm A is the control; write smaller shares instead",
        ));
    }
    if strategy.continuous {
        return Err(InvalidExperiment::NotHere(
            "continuous",
            "devices that come later have no history to compare with",
        ));
    }
    if strategy.waves.last().is_none_or(|wave| wave.share != WaveShare::All) {
        return Err(InvalidExperiment::NotHere(
            "end before `all`",
            "every device of an arm gets its release",
        ));
    }
    Ok(())
}

impl Rules {
    /// As a policy for one direction: both directions share the false alarms.
    pub(super) fn policy(&self) -> VerdictPolicy {
        VerdictPolicy {
            alpha_rollback: self.alpha / 2.0,
            alpha_promote: self.alpha_equal,
            min_canaries: self.min_devices,
            min_controls: self.min_devices,
            min_looks: self.min_looks,
            metrics: self.metrics.clone(),
        }
    }

    fn check(&self) -> Result<(), InvalidExperiment> {
        for (name, value) in [("alpha", self.alpha), ("alpha_equal", self.alpha_equal)] {
            if !(value > 0.0 && value <= 0.5) {
                return Err(InvalidExperiment::Alpha { name, value });
            }
        }
        Ok(self.policy().check()?)
    }
}

/// The seed of an experiment whose author gave none: other experiments deal otherwise, and a plan deals as the start does.
/// FNV-1a of the name (Fowler, Noll, Vo), cut to the 53 bits that every reader of JSON keeps.
#[must_use]
pub fn seed_of(id: &ExperimentId) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, step) >> 11
}

impl Arm {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl<T> Arms<T> {
    /// That of one arm.
    #[must_use]
    pub fn get(&self, arm: Arm) -> &T {
        match arm {
            Arm::A => &self.a,
            Arm::B => &self.b,
        }
    }

    /// That of one arm, to be changed.
    pub fn get_mut(&mut self, arm: Arm) -> &mut T {
        match arm {
            Arm::A => &mut self.a,
            Arm::B => &mut self.b,
        }
    }

    /// References to both.
    #[must_use]
    pub fn as_ref(&self) -> Arms<&T> {
        Arms { a: &self.a, b: &self.b }
    }

    /// Something else of each.
    #[must_use]
    pub fn map<U>(self, mut of: impl FnMut(T) -> U) -> Arms<U> {
        Arms { a: of(self.a), b: of(self.b) }
    }
}

impl<T> IntoIterator for Arms<T> {
    type Item = (Arm, T);
    type IntoIter = std::array::IntoIter<(Arm, T), 2>;

    fn into_iter(self) -> Self::IntoIter {
        [(Arm::A, self.a), (Arm::B, self.b)].into_iter()
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}
