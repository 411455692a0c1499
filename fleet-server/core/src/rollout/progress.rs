//! How far one device is. It has one place at a time, so it is never counted twice.

use serde::{Deserialize, Serialize};
use shared::{
    DeviceId, ReleaseId, RolloutId, Timestamp,
    report::{DeploymentEvent, FailReason, RejectReason, RollbackReason, TrialFigures},
};

use super::hold::{Hold, hold_of_any_age};
use crate::plan::{PlannedDevice, Reach};

/// How far a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Progress {
    /// Its wave has not started.
    Waiting,
    /// Its desired state names the release.
    Asked {
        /// Since when.
        at: Timestamp,
    },
    /// Blocks are being fetched.
    Transferring {
        /// Bytes that will travel.
        size_bytes: u64,
        /// Bytes that were there already.
        resumed_bytes: u64,
    },
    /// Every artifact is there and verified.
    Staged {
        /// Bytes that travelled.
        fetched_bytes: u64,
    },
    /// The trial process passed.
    SelfTested(TrialFigures),
    /// The release answers requests and is watched.
    Probation,
    /// The release is kept.
    Committed {
        /// Inferences seen in probation.
        inferences: u64,
        /// How many of them failed.
        failures: u64,
    },
    /// It was refused before it was activated.
    Rejected(RejectReason),
    /// It did not arrive, and the device is asked again later.
    Retrying {
        /// When.
        at: Timestamp,
        /// Which further try it will be, counted from 1.
        attempt: u32,
        /// Why the last one failed.
        why: String,
    },
    /// It did not arrive.
    Failed(FailReason),
    /// It was activated and went back.
    RolledBack(RollbackReason),
    /// Nothing was heard for too long.
    Silent,
    /// The device belongs to another rollout, or its desired state was changed by hand.
    Superseded {
        /// The newer rollout, if one is known.
        by: Option<RolloutId>,
    },
}

impl Progress {
    pub(super) fn of(event: DeploymentEvent) -> Self {
        match event {
            DeploymentEvent::Transferring { size_bytes, resumed_bytes } => {
                Self::Transferring { size_bytes, resumed_bytes }
            }
            DeploymentEvent::Staged { fetched_bytes } => Self::Staged { fetched_bytes },
            DeploymentEvent::SelfTested(figures) => Self::SelfTested(figures),
            DeploymentEvent::Probation => Self::Probation,
            DeploymentEvent::Committed { inferences, failures } => Self::Committed { inferences, failures },
            DeploymentEvent::Rejected(reason) => Self::Rejected(reason),
            DeploymentEvent::Failed(reason) => Self::Failed(reason),
            DeploymentEvent::RolledBack(reason) => Self::RolledBack(reason),
            DeploymentEvent::Superseded => Self::Superseded { by: None },
        }
    }

    /// True while the device has been asked and has not settled.
    #[must_use]
    pub fn is_open(&self) -> bool {
        (1..=5).contains(&self.rank())
    }

    /// True until the device is asked, or asked again.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Waiting | Self::Retrying { .. })
    }

    pub(super) fn is_superseded(&self) -> bool {
        matches!(self, Self::Superseded { .. })
    }

    /// Why the release failed on the device; `None` when it did not. A device asks for blocks again and again by
    /// itself before it reports that it could not fetch them, so that is a failure like the others.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Rejected(reason) => Some(reason.to_string()),
            Self::Failed(reason) => Some(reason.to_string()),
            // Going back by order says nothing about the release.
            Self::RolledBack(RollbackReason::Ordered) => None,
            Self::RolledBack(reason) => Some(reason.to_string()),
            Self::Waiting
            | Self::Asked { .. }
            | Self::Transferring { .. }
            | Self::Staged { .. }
            | Self::SelfTested(_)
            | Self::Probation
            | Self::Committed { .. }
            | Self::Retrying { .. }
            | Self::Silent
            | Self::Superseded { .. } => None,
        }
    }

    /// Whether `next` says something new. Steps only go forward. Of two outcomes the worse one stands, and a
    /// device that fell silent or failed to fetch may still get somewhere.
    pub(super) fn yields_to(&self, next: &Self) -> bool {
        match self {
            Self::Superseded { .. } => false,
            Self::Silent => true,
            Self::Failed(_) | Self::Retrying { .. } => {
                next.rank() > Self::ASKED_RANK && self.rank() != next.rank()
            }
            _ => self.rank() < next.rank(),
        }
    }

    const ASKED_RANK: u8 = 1;

    fn rank(&self) -> u8 {
        match self {
            Self::Waiting => 0,
            Self::Asked { .. } => Self::ASKED_RANK,
            Self::Transferring { .. } => 2,
            Self::Staged { .. } => 3,
            Self::SelfTested(_) => 4,
            Self::Probation => 5,
            Self::Silent => 6,
            Self::Failed(_) | Self::Retrying { .. } => 7,
            Self::Committed { .. } => 8,
            Self::Superseded { .. } => 9,
            Self::Rejected(_) => 10,
            Self::RolledBack(_) => 11,
        }
    }
}

/// Whether the release was taken away from a device again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Restoration {
    /// It was not.
    None,
    /// Its desired state names the previous release again.
    Ordered {
        /// Since when.
        at: Timestamp,
    },
    /// It runs the previous release.
    Confirmed {
        /// Since when.
        at: Timestamp,
    },
}

/// What a rollout keeps of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its wave, counted from 0.
    pub(super) wave: usize,
    /// Its place in the order of asking.
    pub(super) place: usize,
    /// What it goes back to.
    pub(super) from: Option<ReleaseId>,
    /// Most bytes that it will fetch.
    pub(super) bytes: u64,
    /// How far its local time is ahead of UTC.
    #[serde(default)]
    pub(super) utc_offset_secs: i32,
    /// How often it was asked again.
    #[serde(default)]
    pub(super) retries: u32,
    /// How far it is.
    pub(super) progress: Progress,
    /// Since when, by the server's clock.
    pub(super) since: Timestamp,
    /// The last report that counted, by the device's clock.
    pub(super) reported_at: Option<Timestamp>,
    /// When it was last heard of; `None` for a device that was never seen in this rollout.
    pub(super) heard_at: Option<Timestamp>,
    /// Whether the release was taken away again.
    pub(super) restoration: Restoration,
    /// Who has it.
    #[serde(default, alias = "left_for", deserialize_with = "hold_of_any_age")]
    pub(super) hold: Hold,
    /// How it waited to be asked, before another rollout wanted it or a person did not.
    #[serde(default)]
    pub(super) before: Option<Progress>,
    /// A person wants no rollout to ask it.
    #[serde(default)]
    pub(super) withdrawn: bool,
}

impl Record {
    /// True when the rollout waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.progress.is_open() && self.heard_at.is_some()
    }

    /// A device of the plan that was not asked yet.
    pub(super) fn of(planned: PlannedDevice, wave: usize, place: usize, now: Timestamp) -> (DeviceId, Self) {
        let record = Self {
            wave,
            place,
            from: planned.from,
            bytes: planned.bytes,
            utc_offset_secs: planned.utc_offset_secs,
            retries: 0,
            progress: Progress::Waiting,
            since: now,
            reported_at: None,
            heard_at: (planned.reach == Reach::Connected).then_some(now),
            restoration: Restoration::None,
            hold: Hold::Ours,
            before: None,
            withdrawn: false,
        };
        (planned.device, record)
    }

    /// True when it was seen and has not said that it is back.
    pub(super) fn owes_restoration(&self) -> bool {
        matches!(self.restoration, Restoration::Ordered { .. }) && self.heard_at.is_some()
    }
}
