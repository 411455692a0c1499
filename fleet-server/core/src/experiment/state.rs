//! Where an experiment stands, and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::{RolloutId, Timestamp};

use super::{Arm, Decision};
use crate::rollout::{self, Rollout};

/// Where an experiment stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    /// A rollout of an arm waits for somebody to agree.
    Preparing,
    /// The arms are compared.
    Comparing {
        /// Since when.
        since: Timestamp,
    },
    /// It is over.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        end: End,
    },
}

/// How an experiment ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum End {
    /// The evidence sufficed.
    Decided {
        /// For what.
        decision: Decision,
    },
    /// The time was over before anything was shown.
    Deadline,
    /// A person ended it.
    Stopped {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// Whether the devices that it moved go back.
        restore: bool,
    },
    /// A person stopped everything.
    Emergency {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The rollout of an arm stopped: devices failed, a person stopped it, or others took its devices.
    ArmStopped {
        /// Which arm.
        arm: Arm,
        /// Why.
        why: String,
    },
}

/// How the rollout of an arm stands, as far as the experiment cares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Carrying {
    /// It waits for its first approval.
    Waiting,
    /// Devices are asked, watched or held.
    UnderWay,
    /// Every wave passed.
    Done,
    /// It was halted, is rolled back, or lost all of its devices.
    Stopped {
        /// Why.
        why: String,
    },
}

/// What became of the winner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Adoption {
    /// Nobody asked for it, nobody won, or the winner is what ran before.
    None,
    /// It is about to be rolled out.
    Ordered,
    /// It is rolled out.
    Started {
        /// By which rollout.
        rollout: RolloutId,
    },
    /// It is not rolled out.
    Refused {
        /// Why.
        why: String,
    },
}

impl State {
    /// The state in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Comparing { .. } => "comparing",
            Self::Ended { end, .. } => match end {
                End::Decided { .. } => "decided",
                End::Deadline => "undecided",
                End::Stopped { .. } | End::Emergency { .. } | End::ArmStopped { .. } => "stopped",
            },
        }
    }
}

impl End {
    /// The arm that is better.
    #[must_use]
    pub fn winner(&self) -> Option<Arm> {
        match self {
            Self::Decided { decision: Decision::Better { arm, .. } } => Some(*arm),
            Self::Decided { .. }
            | Self::Deadline
            | Self::Stopped { .. }
            | Self::Emergency { .. }
            | Self::ArmStopped { .. } => None,
        }
    }

    /// True when the arm was found worse in something.
    #[must_use]
    pub fn condemns(&self, arm: Arm) -> bool {
        match self {
            Self::Decided { decision } => decision.condemns(arm),
            Self::Deadline | Self::Stopped { .. } | Self::Emergency { .. } | Self::ArmStopped { .. } => false,
        }
    }
}

impl Carrying {
    /// How `rollout` stands.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Self {
        let counts = rollout.counts();
        match rollout.state() {
            rollout::State::Halted { .. }
            | rollout::State::RollingBack { .. }
            | rollout::State::RolledBack { .. } => {
                let word = rollout.state().word();
                let reason = rollout.state().reason().unwrap_or_default();
                Self::Stopped { why: format!("rollout {} is {word}: {reason}", rollout.id()) }
            }
            _ if counts.superseded == counts.devices => {
                Self::Stopped { why: format!("other rollouts took all devices of {}", rollout.id()) }
            }
            rollout::State::Completed { .. } => Self::Done,
            _ if rollout.has_begun() => Self::UnderWay,
            _ => Self::Waiting,
        }
    }

    /// True when it stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }

    /// True when it could ask somebody.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Waiting | Self::UnderWay)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided { decision } => decision.fmt(f),
            Self::Deadline => f.write_str("undecided: the time was over before anything was shown"),
            Self::Stopped { by, reason, restore } => {
                let back = if *restore { ", and devices go back" } else { "" };
                write!(f, "stopped by {by}: {reason}{back}")
            }
            Self::Emergency { by, reason } => write!(f, "stopped with everything else by {by}: {reason}"),
            Self::ArmStopped { arm, why } => write!(f, "arm {arm} stopped: {why}"),
        }
    }
}

impl fmt::Display for Carrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waits for approval"),
            Self::UnderWay => f.write_str("is under way"),
            Self::Done => f.write_str("is complete"),
            Self::Stopped { why } => f.write_str(why),
        }
    }
}

impl fmt::Display for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing is adopted"),
            Self::Ordered => f.write_str("the winner is about to be rolled out"),
            Self::Started { rollout } => write!(f, "the winner is rolled out by {rollout}"),
            Self::Refused { why } => f.write_str(why),
        }
    }
}
