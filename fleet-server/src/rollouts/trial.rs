//! What an order would do: carried out in a turn that is never stored.

use fleet_core::RolloutStatus;
use shared::{RolloutId, Timestamp};

use super::{
    Order, RolloutError, Wanted,
    fleet::{Fleet, Turn},
};
use crate::store::StoreError;

/// A rollout as it would be.
#[derive(Debug)]
pub struct Tried {
    /// The revision that it has; 1 for one that would be new.
    pub revision: u64,
    /// Nothing would happen any more.
    pub finished: bool,
    /// State, waves, devices, counts and reasons.
    pub status: RolloutStatus,
}

impl Fleet {
    /// What starting a rollout would do.
    pub(super) async fn try_start(
        &mut self,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Box<Tried>, RolloutError> {
        let (turn, id) = self.started(wanted, now).await?;
        self.tried(turn, &id).await
    }

    /// What an order would do.
    pub(super) async fn try_order(
        &mut self,
        id: &RolloutId,
        order: Order,
        by: String,
        now: Timestamp,
    ) -> Result<Box<Tried>, RolloutError> {
        let turn = self.ordered(id, order, by, now).await?;
        self.tried(turn, id).await
    }

    /// What becomes of other rollouts and of experiments is decided too: it may come back to this one.
    async fn tried(&self, mut turn: Turn, id: &RolloutId) -> Result<Box<Tried>, RolloutError> {
        self.decisions(&mut turn);
        while self.move_experiments(&mut turn).await? {
            self.decisions(&mut turn);
        }
        let Turn { tx, drafts, .. } = turn;
        tx.rollback().await.map_err(StoreError::from)?;
        let entry = drafts.get(id).ok_or_else(|| RolloutError::NoRollout(id.clone()))?;
        let finished = entry.machine.state().is_final();
        Ok(Box::new(Tried { revision: entry.row.revision, finished, status: entry.machine.status() }))
    }
}
