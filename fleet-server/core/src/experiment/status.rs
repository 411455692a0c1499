//! An experiment as people and programs see it.

use serde::{Deserialize, Serialize};
use shared::{ExperimentId, ReleaseId, RolloutId, Timestamp};

use super::{Adoption, Arm, Arms, Assigned, AtEnd, Carrying, Experiment, LeftOut, Rules, Standing, State};
use crate::strategy::Strategy;

/// An experiment at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentStatus {
    /// Its name.
    pub id: ExperimentId,
    /// For whom, as written.
    pub selector: String,
    /// Percentage of the able devices that each arm gets.
    pub shares: Arms<u32>,
    /// What the devices were dealt by.
    pub seed: u64,
    /// How the arms are compared.
    pub rules: Rules,
    /// How devices are brought their release.
    pub strategy: Strategy,
    /// What becomes of the devices at the end.
    pub at_end: AtEnd,
    /// Who asked for it.
    pub author: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ends if nothing is shown before.
    pub deadline: Timestamp,
    /// Where it stands.
    pub state: State,
    /// Why it ended, as a sentence; `None` while it goes on.
    pub reason: Option<String>,
    /// What became of the winner.
    pub adoption: Adoption,
    /// The arms.
    pub arms: Arms<ArmStatus>,
    /// What all looks together show; `None` before the first.
    pub standing: Option<Standing>,
    /// Selected devices that are in no arm.
    pub left_out: Vec<LeftOut>,
}

/// An arm at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmStatus {
    /// What it runs.
    pub release: ReleaseId,
    /// Its devices.
    pub devices: Vec<Assigned>,
    /// The rollout that brings the release; none where all run it already.
    pub rollout: Option<RolloutId>,
    /// How that stands.
    pub carrying: Option<Carrying>,
}

impl Experiment {
    /// The experiment as people and programs see it.
    #[must_use]
    pub fn status(&self) -> ExperimentStatus {
        let arm = |arm: Arm| {
            let of = self.arms.get(arm);
            ArmStatus {
                release: self.spec.releases.get(arm).clone(),
                devices: of.devices.clone(),
                rollout: of.rollout.as_ref().map(|(id, _)| id.clone()),
                carrying: of.rollout.as_ref().map(|(_, how)| how.clone()),
            }
        };
        ExperimentStatus {
            id: self.spec.id.clone(),
            selector: self.spec.selector.to_string(),
            shares: self.spec.shares,
            seed: self.spec.seed,
            rules: self.spec.rules.clone(),
            strategy: self.spec.strategy.clone(),
            at_end: self.spec.at_end,
            author: self.spec.author.clone(),
            started_at: self.started_at,
            deadline: self.deadline(),
            state: self.state.clone(),
            reason: match &self.state {
                State::Ended { end, .. } => Some(end.to_string()),
                State::Preparing | State::Comparing { .. } => None,
            },
            adoption: self.adoption.clone(),
            arms: Arms { a: arm(Arm::A), b: arm(Arm::B) },
            standing: self.standing.clone(),
            left_out: self.left_out.clone(),
        }
    }
}
