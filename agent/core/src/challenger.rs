//! A release that runs beside the champion of its model: what survives power loss, and what is only true meanwhile.
//!
//! A challenger has a passage of its own, not that of a deployment: it is never activated, reports no deployment, and
//! whatever becomes of it changes nothing for its champion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::{ModelName, Timestamp, challenger::Terms, manifest::Manifest};

use crate::{
    deployment::Transferring,
    ledger::{Installed, Intake},
};

/// The challengers of a device, as the newest document that was verified names them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challengers {
    /// The number of that document.
    pub revision: u64,
    /// How far it was taken in.
    pub intake: Intake,
    /// At most one for each model.
    pub by_model: BTreeMap<ModelName, Challenge>,
}

/// One challenger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Which version.
    pub installed: Installed,
    /// Which order it follows.
    pub order: u64,
    /// On which terms it runs.
    pub terms: Terms,
    /// How far it came.
    pub phase: ChallengePhase,
}

/// How far a challenger came, as far as it matters after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum ChallengePhase {
    /// Its artifacts are not all here.
    Transferring,
    /// Its artifacts are here; it is tried.
    SelfTesting {
        /// Trials that were begun, counted before each.
        trials: u32,
    },
    /// It passed; it runs whenever nothing has the right of way.
    Tested {
        /// Starts of its process, counted before each; forgiven when one lived for long.
        starts: u32,
    },
    /// Nothing follows unless somebody asks once more. It holds nothing on the disk.
    Over {
        /// Why.
        detail: String,
    },
}

impl Challengers {
    pub(crate) fn is_untouched(&self) -> bool {
        *self == Self::default()
    }
}

impl Challenge {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, ChallengePhase::Over { .. })
    }
}

/// What a challenger does while the process lives.
#[derive(Debug)]
pub(crate) struct Live {
    /// `None` when the store has lost it.
    pub(crate) manifest: Option<Box<Manifest>>,
    pub(crate) activity: Activity,
    /// Failures in a row; each makes the rest after it longer.
    pub(crate) failures: u32,
    pub(crate) room: Room,
}

/// What it does.
#[derive(Debug)]
pub(crate) enum Activity {
    /// Nothing, at least until a moment.
    Resting { until: Timestamp, why: String },
    /// Artifacts are on their way.
    Transferring(Box<Transferring>),
    /// The trial process runs.
    SelfTesting,
    /// Its own process loads it.
    Starting,
    /// It gets samples.
    Running { since: Timestamp },
}

/// Whether it may keep what it has on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Kept,
    GivenUp,
}

impl Live {
    pub(crate) fn new(manifest: Option<Box<Manifest>>, now: Timestamp) -> Self {
        Self { manifest, activity: Activity::resting(now), failures: 0, room: Room::Kept }
    }

    pub(crate) fn transferring(&mut self) -> Option<&mut Transferring> {
        match &mut self.activity {
            Activity::Transferring(transferring) => Some(transferring),
            Activity::Resting { .. }
            | Activity::SelfTesting
            | Activity::Starting
            | Activity::Running { .. } => None,
        }
    }
}

impl Activity {
    /// Ready for the next thing.
    pub(crate) fn resting(now: Timestamp) -> Self {
        Self::Resting { until: now, why: String::new() }
    }

    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Resting { .. } => "waiting",
            Self::Transferring(_) => "transferring",
            Self::SelfTesting => "self_testing",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
        }
    }
}
