//! What goes into an experiment and what comes out of it.

use serde::{Deserialize, Serialize};
use shared::{ExperimentId, RolloutId};
use thiserror::Error;

use super::{Arm, Arms, Carrying, End, Standing};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    /// The rollout of an arm came to stand differently.
    Carried {
        /// Which arm.
        arm: Arm,
        /// How it stands now.
        how: Carrying,
    },
    /// The arms were looked at once more.
    Judged {
        /// What all looks together show.
        standing: Box<Standing>,
    },
    /// Time has passed.
    Tick,
    /// A person ends it.
    Stop {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// Whether the devices that it moved go back, whatever was said at the start.
        restore: bool,
    },
    /// A person stops everything: it ends, and its devices stay as they are, whatever was said at the start.
    Emergency {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The rollout of the winner was started.
    Adopted {
        /// Which.
        rollout: RolloutId,
    },
    /// The rollout of the winner could not be started.
    NotAdopted {
        /// Why.
        why: String,
    },
}

/// What the shell shall do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// Compare the arms from now on, and say [`Input::Judged`] after every look.
    Compare,
    /// Take the release away from an arm again, by the ordinary rollback of its rollout.
    RollBack {
        /// Which arm.
        arm: Arm,
    },
    /// Stop the rollout of an arm; its devices stay as they are.
    Halt {
        /// Which arm.
        arm: Arm,
    },
    /// Start an ordinary rollout of the release of this arm to everybody whom the experiment selected, and say
    /// [`Input::Adopted`] or [`Input::NotAdopted`].
    Adopt {
        /// Which arm.
        arm: Arm,
    },
    /// Tell people and other systems, and keep it in the audit trail.
    Announce(Event),
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It was started.
    #[serde(rename = "experiment_started")]
    Started {
        /// Devices of each arm.
        devices: Arms<usize>,
    },
    /// Both arms have begun; they are compared from now on.
    #[serde(rename = "experiment_comparing")]
    Comparing,
    /// It is over.
    #[serde(rename = "experiment_ended")]
    Ended {
        /// How.
        end: End,
    },
    /// The winner is rolled out.
    #[serde(rename = "experiment_adoption_started")]
    AdoptionStarted {
        /// By which rollout.
        rollout: RolloutId,
    },
    /// The winner is not rolled out.
    #[serde(rename = "experiment_not_adopted")]
    NotAdopted {
        /// Why.
        why: String,
    },
}

/// An input that has no meaning here; it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It does not fit the state.
    #[error("cannot {order} experiment {experiment}: it is {state}")]
    WrongState {
        /// What was asked.
        order: &'static str,
        /// Which experiment.
        experiment: ExperimentId,
        /// Its state in a word.
        state: &'static str,
    },
}
