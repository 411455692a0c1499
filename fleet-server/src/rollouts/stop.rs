//! The emergency stop.

use std::collections::BTreeSet;

use fleet_core::{Input, experiment};
use shared::{DeviceId, ExperimentId, RolloutId, Timestamp};

use super::{RolloutError, fleet::Fleet};
use crate::store::{Store, StoreError};

/// What the emergency stop ended.
#[derive(Debug)]
pub struct Ended {
    /// Rollouts that were under way.
    pub rollouts: Vec<RolloutId>,
    /// Experiments that were under way.
    pub experiments: Vec<ExperimentId>,
}

impl Fleet {
    /// Halts every rollout that is under way, all in one transaction, and ends every experiment, or one could start another
    /// rollout. What is being brought back goes on. A trial only says what would be stopped.
    pub(super) async fn stop_everything(
        &mut self,
        reason: &str,
        by: &str,
        trial: bool,
        now: Timestamp,
    ) -> Result<(Ended, BTreeSet<DeviceId>), RolloutError> {
        let mut turn = self.turn(now).await?;
        let mut rollouts = Vec::new();
        for (id, entry) in self.entries.iter().filter(|(_, entry)| !entry.machine.state().is_final()) {
            let mut draft = entry.clone();
            let halt = Input::Halt { by: by.to_owned(), reason: reason.to_owned() };
            if draft.machine.handle(halt, now).is_ok() {
                turn.drafts.insert(id.clone(), draft);
                rollouts.push(id.clone());
            }
        }
        let stop = experiment::Input::Emergency { by: by.to_owned(), reason: reason.to_owned() };
        for experiment in self.experiments.values() {
            turn.experiment_input(experiment, stop.clone());
        }
        let ended = Ended { rollouts, experiments: self.experiments.keys().cloned().collect() };
        if trial {
            turn.tx.rollback().await.map_err(StoreError::from)?;
            return Ok((ended, BTreeSet::new()));
        }
        let Ended { rollouts, experiments } = &ended;
        let detail = format!("{} rollouts, {} experiments; {reason}", rollouts.len(), experiments.len());
        Store::audit(&mut turn.tx, now, by, "stop_everything", "", &detail).await?;
        let changed = self.finish(turn).await?;
        Ok((ended, changed))
    }
}
