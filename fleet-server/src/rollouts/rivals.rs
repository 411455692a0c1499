//! Of several rollouts of one model, the one with the highest rank asks a device, and whoever asked it last speaks for it. The
//! machines know (`fleet_core::Rollout::tells`); here they are told of each other.

use fleet_core::{Effect, Input, Rollout};
use shared::{DeviceId, RolloutId, Timestamp};

use super::{
    RolloutError,
    entry::Entry,
    fleet::{Fleet, Turn},
};

impl Fleet {
    /// Tells all others that have devices which a rollout wants that begins, or took one in.
    pub(super) fn take_over(&self, turn: &mut Turn, id: &RolloutId) {
        let Some(own) = turn.drafts.get(id).filter(|own| own.machine.has_begun()) else { return };
        let contest = own.machine.contest(self.machines(turn));
        for (other, devices) in contest.taken {
            if let Some(other) = self.entries.get(&other) {
                turn.input(other, Input::Claimed { devices, by: id.clone() });
            }
        }
    }

    /// Leaves those devices to others that have them by a higher rank, before the rollout begins.
    pub(super) fn give_way(&self, own: &mut Entry, now: Timestamp) {
        let contest = own.machine.contest(self.entries.values().map(|entry| &entry.machine));
        for (by, devices) in contest.lost {
            // They are in the rollout, or nobody could have contested them.
            let _ = own.machine.handle(Input::Claimed { devices, by }, now);
        }
    }

    /// Everything that the drafts of a turn decided, and what follows from it in other rollouts, causes before effects: two of
    /// them may write the desired state of one device, and then the last one counts.
    pub(super) fn decisions(&self, turn: &mut Turn) -> Vec<(RolloutId, Effect)> {
        let mut decided = Vec::new();
        while let Some((id, effects)) = next_effects(turn) {
            let told = turn.drafts[&id].machine.tells(&effects, self.machines(turn));
            for (other, input) in told {
                match self.entries.get(&other) {
                    Some(other) => turn.input(other, input),
                    None => turn.input_to_new(&other, input),
                }
            }
            decided.extend(effects.into_iter().map(|effect| (id.clone(), effect)));
        }
        decided
    }

    /// A person wants no rollout to ask the device, or none of this model: those that still would are told.
    pub(super) async fn withdraw(
        &mut self,
        device: &DeviceId,
        model: Option<&shared::ModelName>,
        now: Timestamp,
    ) -> Result<(), RolloutError> {
        let mut turn = self.turn(now).await?;
        let concerned = |entry: &&Entry| {
            model.is_none_or(|model| entry.row.release.model == *model) && entry.machine.includes(device)
        };
        for entry in self.entries.values().filter(concerned) {
            turn.input(entry, Input::Withdrawn { device: device.clone() });
        }
        self.finish(turn).await?;
        Ok(())
    }

    /// Tells rollouts under way of all devices that people took out of them. Those that know it stay as they are.
    pub(super) async fn withdraw_marked(&self, turn: &mut Turn) -> Result<(), RolloutError> {
        for marked in self.app.store.marked_devices().await? {
            for entry in self.entries.values().filter(|entry| !entry.machine.state().is_final()) {
                let is_out = marked.quarantined || marked.pins.contains_key(&entry.row.release.model);
                if is_out && entry.machine.includes(&marked.device) {
                    turn.input(entry, Input::Withdrawn { device: marked.device.clone() });
                }
            }
        }
        Ok(())
    }

    /// The machines as they will be after the turn, also those that begin in it.
    pub(super) fn machines<'a>(&'a self, turn: &'a Turn) -> impl Iterator<Item = &'a Rollout> {
        let known = self.entries.iter().map(|(id, entry)| turn.drafts.get(id).unwrap_or(entry));
        let new = turn.drafts.iter().filter(|(id, _)| !self.entries.contains_key(*id));
        known.chain(new.map(|(_, entry)| entry)).map(|entry| &entry.machine)
    }
}

/// What one of the drafts has decided.
fn next_effects(turn: &mut Turn) -> Option<(RolloutId, Vec<Effect>)> {
    turn.drafts.iter_mut().find_map(|(id, draft)| {
        let effects: Vec<_> = std::iter::from_fn(|| draft.machine.poll_effect()).collect();
        (!effects.is_empty()).then(|| (id.clone(), effects))
    })
}
