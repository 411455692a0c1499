//! Of several rollouts of one model, the one with the highest rank has a device; the others are told.

use fleet_core::{Input, Rollout};
use shared::{DeviceId, RolloutId, Timestamp};

use super::{
    RolloutError,
    entry::Entry,
    fleet::{Fleet, Turn},
};

impl Fleet {
    /// Takes the devices of a rollout that begins, or took one in, from all others that have them.
    pub(super) fn take_over(&self, turn: &mut Turn, id: &RolloutId) {
        let Some(own) = turn.drafts.get(id).filter(|own| own.machine.has_begun()) else { return };
        let contest = own.machine.contest(self.machines(turn));
        for (other, devices) in contest.taken {
            if let Some(other) = self.entries.get(&other) {
                turn.input(other, Input::Superseded { devices, by: id.clone() });
            }
        }
    }

    /// Leaves those devices to others that have them by a higher rank, before the rollout begins.
    pub(super) fn give_way(&self, own: &mut Entry, now: Timestamp) {
        let contest = own.machine.contest(self.entries.values().map(|entry| &entry.machine));
        for (by, devices) in contest.lost {
            // They are in the rollout, or nobody could have contested them.
            let _ = own.machine.handle(Input::Superseded { devices, by }, now);
        }
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

    /// The machines as they will be after the turn.
    pub(super) fn machines<'a>(&'a self, turn: &'a Turn) -> impl Iterator<Item = &'a Rollout> {
        self.entries.iter().map(|(id, entry)| &turn.drafts.get(id).unwrap_or(entry).machine)
    }
}
