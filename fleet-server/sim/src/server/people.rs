//! What people lay down beside rollouts: freezes, quarantine and pins, as `fleet-server/src/api` takes them.

use fleet_core::{Freeze, Input};
use shared::{DeviceId, ModelName, Timestamp};

use super::{Flaw, Server, entry::Entry};

impl Server {
    /// A person does not want anybody new to be asked for a while. Rollouts that are under way are told.
    pub fn freeze(&mut self, freeze: Freeze, now: Timestamp) {
        self.freezes.push(freeze);
        if self.flaw == Some(Flaw::ForgetsFreezes) {
            return;
        }
        for entry in self.entries.values_mut().filter(|entry| !entry.is_finished()) {
            let _ = entry.machine.handle(Input::Freezes { freezes: self.freezes.clone() }, now);
        }
        self.finish();
    }

    /// Times in which nobody is asked.
    #[must_use]
    pub fn freezes(&self) -> &[Freeze] {
        &self.freezes
    }

    /// A person takes a device out of every rollout, or lets it in again.
    pub fn quarantine(&mut self, device: &DeviceId, quarantined: bool, now: Timestamp) {
        if let Some(row) = self.rows.get_mut(device) {
            row.quarantined = quarantined;
        }
        if quarantined {
            self.withdraw(device, None, now);
        }
    }

    /// A person wants a device to keep what it has of a model, or no longer. One that has nothing of it cannot be pinned.
    pub fn pin(&mut self, device: &DeviceId, model: &ModelName, lifted: bool, now: Timestamp) {
        let Some(row) = self.rows.get_mut(device) else { return };
        let mut committed = row.models.iter().filter_map(|state| state.committed.as_ref());
        let Some(kept) = committed.find(|release| release.model == *model) else { return };
        if lifted {
            row.pins.remove(model);
        } else {
            row.pins.insert(model.clone(), kept.version);
            self.withdraw(device, Some(model), now);
        }
    }

    /// As `fleet-server/src/rollouts/rivals.rs` does.
    fn withdraw(&mut self, device: &DeviceId, model: Option<&ModelName>, now: Timestamp) {
        if let Some(row) = self.rows.get_mut(device) {
            row.left_alone.insert(model.cloned());
        }
        if self.flaw == Some(Flaw::ForgetsPins) && model.is_some() {
            return;
        }
        let concerned = |entry: &&Entry| model.is_none_or(|model| entry.release().model == *model);
        let ids: Vec<_> =
            self.entries.values().filter(concerned).map(|entry| entry.machine.id().clone()).collect();
        for id in ids {
            self.input(&id, Input::Withdrawn { device: device.clone() }, now);
        }
        self.finish();
    }
}
