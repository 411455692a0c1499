//! The emergency stop.

use std::collections::BTreeSet;

use fleet_core::{Input, experiment};
use shared::{DeviceId, RolloutId, Timestamp};

use super::{RolloutError, fleet::Fleet};
use crate::store::Store;

impl Fleet {
    /// Halts every rollout that is under way, all in one transaction, and ends every experiment, or one could start another
    /// rollout. What is being brought back goes on.
    pub(super) async fn stop_everything(
        &mut self,
        reason: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<(Vec<RolloutId>, BTreeSet<DeviceId>), RolloutError> {
        let mut turn = self.turn(now).await?;
        let mut stopped = Vec::new();
        for (id, entry) in self.entries.iter().filter(|(_, entry)| !entry.machine.state().is_final()) {
            let mut draft = entry.clone();
            let halt = Input::Halt { by: by.to_owned(), reason: reason.to_owned() };
            if draft.machine.handle(halt, now).is_ok() {
                turn.drafts.insert(id.clone(), draft);
                stopped.push(id.clone());
            }
        }
        let stop = experiment::Input::Emergency { by: by.to_owned(), reason: reason.to_owned() };
        for experiment in self.experiments.values() {
            turn.experiment_input(experiment, stop.clone());
        }
        let detail = format!("{} rollouts, {} experiments; {reason}", stopped.len(), self.experiments.len());
        Store::audit(&mut turn.tx, now, by, "stop_everything", "", &detail).await?;
        let changed = self.finish(turn).await?;
        Ok((stopped, changed))
    }
}
