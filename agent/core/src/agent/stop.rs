//! The end of an agent that is stopped in order.
//!
//! Starts and trials are counted before they begin, so that nothing that takes the machine down is tried for ever. One
//! that was alive until somebody stopped the agent has taken nothing down: its count is given back, and what it showed is kept.
//! The shell says so after the processes have ended; whatever happens before, a power cut too, counts.

use shared::ModelName;

use super::{Agent, Life};
use crate::{deployment::Deployment, ledger::Phase};

impl Agent {
    pub(super) fn stopped(&mut self) {
        let names: Vec<ModelName> = self.models.keys().cloned().collect();
        for name in names {
            let deployment = &self.models[&name].deployment;
            let in_trial = matches!(deployment, Deployment::SelfTesting { .. });
            let started =
                deployment.activated().is_some_and(|release| self.serving.slots.contains_key(release));
            self.interrupt(&name);
            if started || in_trial {
                self.give_back(&name);
            }
        }
        self.stop_challengers();
        self.serving.stop();
        self.life = Life::Stopped;
    }

    /// Takes back what was counted for a trial or a start that has taken nothing down.
    pub(super) fn give_back(&mut self, name: &ModelName) {
        let Some(candidate) = &mut self.ledger.record(name).candidate else { return };
        match &mut candidate.phase {
            Phase::SelfTesting { trials, .. } => *trials = trials.saturating_sub(1),
            Phase::Activating(watch) | Phase::Probation(watch) => {
                watch.starts = watch.starts.saturating_sub(1);
            }
            Phase::Transferring { .. } => {}
        }
    }
}
