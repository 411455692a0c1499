//! Devices that come to match a continuous rollout after its start are taken in when they say hello.

use fleet_core::{DeviceFacts, Input, ReleaseNeeds, plan_late};
use shared::{RolloutId, Timestamp};

use super::{
    Greeting, RolloutError, facts,
    fleet::{Fleet, Turn},
};

impl Fleet {
    /// Takes those in who said hello and are in no wave yet. Whoever cannot take the release is passed over without a
    /// word: the next hello may find it able.
    pub(super) async fn take_in(
        &self,
        turn: &mut Turn,
        greetings: &[Greeting],
        now: Timestamp,
    ) -> Result<(), RolloutError> {
        for Greeting { device, .. } in greetings {
            // The strongest first, so that a weaker one finds the device taken.
            let mut takers: Vec<_> = self
                .machines(turn)
                .filter(|machine| machine.takes_in(device))
                .map(|m| (m.rank(), m.id()))
                .collect();
            takers.sort_by(|a, b| b.cmp(a));
            let takers: Vec<RolloutId> = takers.into_iter().map(|(_, id)| id.clone()).collect();
            if takers.is_empty() {
                continue;
            }
            let Some(facts) = facts::facts_of_device(&self.app.store, device).await? else { continue };
            for id in takers {
                self.join(turn, &id, &facts, now).await?;
            }
        }
        Ok(())
    }

    async fn join(
        &self,
        turn: &mut Turn,
        id: &RolloutId,
        facts: &DeviceFacts,
        now: Timestamp,
    ) -> Result<(), RolloutError> {
        let Some(entry) = self.entries.get(id) else { return Ok(()) };
        let machine = &turn.drafts.get(id).unwrap_or(entry).machine;
        // What a second person did not see when they agreed, or nobody agreed to, is not asked.
        let is_guarded =
            self.app.approval.iter().any(|s| s.matches(&facts.id, &facts.labels, &facts.inventory));
        if is_guarded && !machine.is_approved() {
            return Ok(());
        }
        let Some(release) = self.app.store.release(&entry.row.release).await? else { return Ok(()) };
        let needs = ReleaseNeeds::of(&release.manifest()?);
        let rollouts = self.machines(turn).map(fleet_core::Rollout::summary);
        let others: Vec<_> = rollouts.chain(self.held_by_experiments()).collect();
        let Some(Ok(planned)) = plan_late(machine.spec(), &needs, facts, &others) else { return Ok(()) };
        let freezes = self.freezes().await?;
        turn.input(entry, Input::Freezes { freezes });
        turn.input(entry, Input::Join { planned });
        self.take_over(turn, id);
        tracing::debug!(rollout.id = %id, device.id = %facts.id, at = %now, "a device joins");
        Ok(())
    }
}
