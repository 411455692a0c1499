//! Where a rollout and its waves stand.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared::{RolloutId, Timestamp};

use super::{Cause, DriftAlarm, HoldReason, Verdict};
use crate::{
    plan::{WaveKind, WavePlan},
    verdict::MetricVerdict,
};

/// Where a rollout stands. Waves count from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    /// Somebody other than the author has to agree before a wave is asked.
    AwaitingApproval {
        /// Which.
        wave: usize,
        /// Since when.
        since: Timestamp,
    },
    /// A wave is asked or watched.
    Running {
        /// Which.
        wave: usize,
    },
    /// Every wave passed, and devices that come to match are asked too.
    Watching {
        /// Since when.
        since: Timestamp,
    },
    /// A person wants nobody new to be asked.
    Paused {
        /// Who.
        by: String,
        /// Where it goes on.
        wave: usize,
    },
    /// It stopped for good; devices stay as they are.
    Halted {
        /// Why.
        verdict: Verdict,
    },
    /// Devices are brought back.
    RollingBack {
        /// Why.
        cause: Cause,
        /// Since when.
        since: Timestamp,
    },
    /// Every device that can be reached is back.
    RolledBack {
        /// Why.
        cause: Cause,
        /// Since when.
        at: Timestamp,
    },
    /// Every wave passed.
    Completed {
        /// When.
        at: Timestamp,
    },
    /// Nobody was left to it: other rollouts took every device over, or people took them out.
    Superseded {
        /// When.
        at: Timestamp,
        /// Those that took devices over.
        by: BTreeSet<RolloutId>,
    },
}

/// What a rollout keeps of a wave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Wave {
    pub(super) bake_time_secs: u64,
    pub(super) state: WaveState,
    #[serde(default)]
    pub(super) kind: WaveKind,
    /// Somebody other than the author has to agree.
    #[serde(default)]
    pub(super) approve: bool,
    #[serde(default)]
    pub(super) approved_by: Option<String>,
    #[serde(default)]
    pub(super) promoted_by: Option<String>,
    #[serde(default)]
    pub(super) started_at: Option<Timestamp>,
    /// When all that could be reached had settled first. Those that come back later are waited for, but the wave is not
    /// watched anew for them.
    #[serde(default)]
    pub(super) settled_at: Option<Timestamp>,
    /// Whether metrics are compared.
    #[serde(default)]
    pub(super) compared: bool,
    /// What they said last.
    #[serde(default)]
    pub(super) metrics: Option<MetricVerdict>,
    /// The first drift alarm about the release while this wave had it.
    #[serde(default)]
    pub(super) drift: Option<DriftAlarm>,
}

/// Where a wave stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WaveState {
    /// It is not its turn.
    Waiting,
    /// Its devices are asked.
    Updating,
    /// Its reachable devices have settled; it is watched.
    Baking {
        /// Until when.
        until: Timestamp,
    },
    /// It neither passes nor stops the rollout: a person decides, or what is missing comes.
    Held {
        /// Since when.
        since: Timestamp,
        /// Why.
        why: HoldReason,
    },
    /// It is done.
    Passed {
        /// Since when.
        at: Timestamp,
    },
    /// The rollout stopped in it.
    Stopped,
}

impl Wave {
    pub(super) fn of(plan: &WavePlan) -> Self {
        Self {
            bake_time_secs: plan.bake_time_secs,
            state: WaveState::Waiting,
            kind: plan.kind,
            approve: plan.approve,
            approved_by: None,
            promoted_by: None,
            started_at: None,
            settled_at: None,
            compared: false,
            metrics: None,
            drift: None,
        }
    }
}

impl State {
    /// The state in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::AwaitingApproval { .. } => "awaiting approval",
            Self::Running { .. } => "running",
            Self::Watching { .. } => "watching",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::RollingBack { .. } => "rolling back",
            Self::RolledBack { .. } => "rolled back",
            Self::Completed { .. } => "completed",
            Self::Superseded { .. } => "superseded",
        }
    }

    /// True when nothing will happen any more unless a person asks for it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Halted { .. }
            | Self::RolledBack { .. }
            | Self::Completed { .. }
            | Self::Superseded { .. } => true,
            Self::AwaitingApproval { .. }
            | Self::Running { .. }
            | Self::Watching { .. }
            | Self::Paused { .. }
            | Self::RollingBack { .. } => false,
        }
    }

    /// Why it stands there, as a sentence.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Running { .. } | Self::Watching { .. } | Self::Completed { .. } => None,
            Self::AwaitingApproval { wave, .. } => {
                Some(format!("wave {} waits for the approval of somebody other than its author", wave + 1))
            }
            Self::Paused { by, .. } => Some(format!("paused by {by}")),
            Self::Halted { verdict } => Some(verdict.to_string()),
            Self::Superseded { by, .. } if by.is_empty() => {
                Some("people took every device out of it before it was through".into())
            }
            Self::Superseded { by, .. } => {
                let names: Vec<_> = by.iter().map(ToString::to_string).collect();
                let names = names.join(", ");
                Some(format!("every device was taken over before it was through, by {names}"))
            }
            Self::RollingBack { cause, .. } | Self::RolledBack { cause, .. } => Some(cause.to_string()),
        }
    }
}
