//! Why a rollout stopped, why a wave is held, and why an input was refused: as data, and in words.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId};
use thiserror::Error;

use super::DriftAlarm;
use crate::verdict::{Degradation, Gap, MetricVerdict};

/// Why a rollout stopped for good, with the evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// More devices of a wave failed than it bears.
    TooManyFailures {
        /// Which wave, counted from 0.
        wave: usize,
        /// Devices that refused the release or went back from it.
        failed: usize,
        /// Devices of the wave that were seen.
        of: usize,
        /// How many it would have borne.
        limit: usize,
        /// The first of them.
        first: FirstFailure,
    },
    /// The devices of a wave are worse than those that were not asked.
    Degraded {
        /// Which wave, counted from 0.
        wave: usize,
        /// In what, and on what evidence.
        degradation: Degradation,
    },
    /// What goes into the release, or comes out of it, drifts.
    Drifted {
        /// Which wave had it, counted from 0.
        wave: usize,
        /// What was found.
        alarm: DriftAlarm,
    },
    /// A person stopped it.
    Ordered {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// The first failure of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstFailure {
    /// Who.
    pub device: DeviceId,
    /// What the device gave as its reason.
    pub reason: String,
}

/// Why a wave neither passes nor stops the rollout: a person decides, or what is missing comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HoldReason {
    /// Too few of its devices have been seen since they were asked.
    TooFewSeen {
        /// How many were.
        seen: usize,
        /// Of how many.
        of: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Too many of its devices fell silent.
    TooManySilent {
        /// How many did.
        silent: usize,
        /// Of how many that were seen.
        of: usize,
        /// How many it bears.
        limit: usize,
    },
    /// Too few of its devices keep the release, though few enough failed.
    TooFewCommitted {
        /// How many do.
        committed: usize,
        /// Of how many that can be reached.
        of: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The metrics neither pass nor condemn, and the wave was watched as long as the strategy allows.
    Insufficient {
        /// What is missing; empty when nothing was compared yet.
        gaps: Vec<Gap>,
    },
    /// What goes into the release, or comes out of it, drifts, and a person decides what that means.
    Drifted {
        /// What was found.
        alarm: DriftAlarm,
    },
}

/// Why devices are brought back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Cause {
    /// The rollout stopped itself.
    Verdict {
        /// Why.
        verdict: Verdict,
    },
    /// A person asked for it.
    Person {
        /// Who.
        name: String,
    },
}

/// An input that has no meaning here; it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The device is not part of it.
    #[error("device {device} is not in rollout {rollout}")]
    NotInRollout {
        /// Who.
        device: DeviceId,
        /// Which rollout.
        rollout: RolloutId,
    },
    /// The report is about something else.
    #[error("device {device} reports about {release}, which rollout {rollout} does not install")]
    OtherRelease {
        /// Who.
        device: DeviceId,
        /// What it reports about.
        release: ReleaseId,
        /// Which rollout.
        rollout: RolloutId,
    },
    /// Its wave has not started.
    #[error("device {device} reports about {release} before its wave was asked")]
    NotAsked {
        /// Who.
        device: DeviceId,
        /// What it reports about.
        release: ReleaseId,
    },
    /// An order does not fit the state.
    #[error("cannot {order} rollout {rollout}: it is {state}")]
    WrongState {
        /// What was asked.
        order: &'static str,
        /// Which rollout.
        rollout: RolloutId,
        /// Its state in a word.
        state: &'static str,
    },
    /// An order is about a wave that is not under way.
    #[error("cannot {order} wave {} of rollout {rollout}: wave {} is under way", .wave + 1, .active + 1)]
    OtherWave {
        /// What was asked.
        order: &'static str,
        /// Which wave, counted from 0.
        wave: usize,
        /// The wave under way.
        active: usize,
        /// Which rollout.
        rollout: RolloutId,
    },
    /// The author cannot agree with themselves.
    #[error("{by} started rollout {rollout} and cannot approve it; somebody else has to")]
    AuthorApproves {
        /// Who.
        by: String,
        /// Which rollout.
        rollout: RolloutId,
    },
    /// There is nothing to try again.
    #[error("rollout {rollout} has no device that failed or fell silent")]
    NothingToRetry {
        /// Which rollout.
        rollout: RolloutId,
    },
    /// The metrics of this wave are not compared, or the wave is over.
    #[error("wave {wave} of rollout {rollout} takes no verdict on metrics")]
    NotCompared {
        /// Which wave, counted from 0.
        wave: usize,
        /// Which rollout.
        rollout: RolloutId,
    },
    /// A drift alarm says nothing about the release in this rollout.
    #[error("drift alarm {number} is not held against rollout {rollout}: {why}")]
    NotItsDrift {
        /// Which.
        number: u64,
        /// Which rollout.
        rollout: RolloutId,
        /// In words.
        why: &'static str,
    },
    /// The rollout does not take devices that come later, or has this one already.
    #[error("rollout {rollout} does not take device {device} in")]
    TakesNoneIn {
        /// Who.
        device: DeviceId,
        /// Which rollout.
        rollout: RolloutId,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyFailures { wave, failed, of, limit, first } => write!(
                f,
                "{failed} of {of} devices of wave {} failed, {limit} allowed; first {}: {}",
                wave + 1,
                first.device,
                first.reason
            ),
            Self::Degraded { wave, degradation } => {
                write!(f, "wave {} is {}", wave + 1, MetricVerdict::Degraded(degradation.clone()))
            }
            Self::Drifted { wave, alarm } => write!(f, "wave {}: {alarm}", wave + 1),
            Self::Ordered { by, reason } => write!(f, "stopped by {by}: {reason}"),
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewSeen { seen, of, needed } => {
                write!(f, "{seen} of {of} devices were seen since they were asked, {needed} are needed")
            }
            Self::TooManySilent { silent, of, limit } => {
                write!(f, "{silent} of {of} devices fell silent, {limit} are allowed")
            }
            Self::TooFewCommitted { committed, of, needed } => {
                write!(f, "{committed} of {of} devices keep it, {needed} are needed")
            }
            Self::Insufficient { gaps } if gaps.is_empty() => f.write_str("nothing was compared yet"),
            Self::Insufficient { gaps } => MetricVerdict::Insufficient { gaps: gaps.clone() }.fmt(f),
            Self::Drifted { alarm } => alarm.fmt(f),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { verdict } => verdict.fmt(f),
            Self::Person { name } => write!(f, "ordered by {name}"),
        }
    }
}
