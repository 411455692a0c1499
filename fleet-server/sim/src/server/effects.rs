//! Carries out what the machines decided, as `fleet-server/src/rollouts/effects.rs` does.

use fleet_core::{Effect, Event};
use shared::{DeviceId, Generation, RolloutId, message::Assignment};

use super::{Desired, Flaw, Purpose, Rewrite, Server, Write};

impl Server {
    /// Carries out every effect, and tells devices what is new for them.
    pub(super) fn finish(&mut self) {
        if self.rewrite == Rewrite::InThisTurn {
            self.restart();
        }
        let mut changed = Vec::new();
        while let Some((id, effects)) = self.next_effects() {
            if self.flaw != Some(Flaw::ForgetsRivals) {
                self.tell_rivals(&id, &effects);
            }
            for effect in effects {
                changed.extend(self.perform(&id, effect));
            }
        }
        changed.sort();
        changed.dedup();
        for device in changed {
            self.send_desired(&device);
        }
    }

    /// What one of the machines has decided.
    fn next_effects(&mut self) -> Option<(RolloutId, Vec<Effect>)> {
        self.entries.iter_mut().find_map(|(id, entry)| {
            let effects: Vec<_> = std::iter::from_fn(|| entry.machine.poll_effect()).collect();
            (!effects.is_empty()).then(|| (id.clone(), effects))
        })
    }

    fn tell_rivals(&mut self, id: &RolloutId, effects: &[Effect]) {
        let Some(own) = self.rollout(id) else { return };
        for (other, input) in own.tells(effects, self.rollouts()) {
            self.input(&other, input, self.now);
        }
    }

    fn perform(&mut self, id: &RolloutId, effect: Effect) -> Option<DeviceId> {
        match effect {
            Effect::Assign { device, release, retry } => {
                let assignment = self.catalog.get(&release)?.assignment(retry);
                let generation = self.write(id, &device, Purpose::Ask, Some(assignment))?;
                self.entries.get_mut(id)?.addressed.asked(&device, generation);
                self.ask_more_than_decided(id);
                Some(device)
            }
            Effect::Restore { device: _, previous: _ } if self.flaw == Some(Flaw::ForgetsToRestore) => None,
            Effect::Restore { device, previous } => {
                let published = previous.and_then(|release| self.catalog.get(&release));
                let assignment = published.map(|it| it.assignment(false));
                let generation = self.write(id, &device, Purpose::Restore, assignment)?;
                self.entries.get_mut(id)?.addressed.restoring(&device, generation);
                Some(device)
            }
            Effect::Compare { wave, cohorts, policy } => {
                self.compare(id, wave, cohorts, policy);
                None
            }
            Effect::Announce(event) => {
                if let Event::DeviceRestored { device } = &event {
                    self.entries.get_mut(id)?.addressed.restored(device);
                }
                self.events.push((id.clone(), event));
                None
            }
        }
    }

    pub(super) fn write(
        &mut self,
        id: &RolloutId,
        device: &DeviceId,
        purpose: Purpose,
        assignment: Option<Assignment>,
    ) -> Option<Generation> {
        let entry = self.entries.get(id)?;
        let (model, state) = (entry.release().model.clone(), entry.machine.state().clone());
        let reuses = self.flaw == Some(Flaw::ReusesGenerations) && purpose == Purpose::Restore;
        let row = self.rows.get_mut(device)?;
        let mut assignments = row.desired.assignments.clone();
        assignments.retain(|named| named.release.model != model);
        assignments.extend(assignment);
        assignments.sort_by(|a, b| a.release.cmp(&b.release));
        let generation = if reuses { row.desired.generation } else { row.desired.generation.next() };
        row.desired = Desired { generation, assignments };
        let utc_offset_secs = row.inventory.utc_offset_secs.unwrap_or(0);
        let (device, rollout, at) = (device.clone(), id.clone(), self.now);
        self.writes.push(Write {
            device,
            rollout,
            purpose,
            desired: row.desired.clone(),
            state,
            at,
            utc_offset_secs,
        });
        Some(generation)
    }
}
