//! Devices that come to match a continuous rollout after its start are taken in when they say hello.

use fleet_core::{Input, ReleaseNeeds, plan_late};

use super::{
    Greeting, RolloutError, facts,
    fleet::{Fleet, Turn},
};

impl Fleet {
    /// Takes those in who said hello and are in no wave yet. Whoever cannot take the release is passed over without a
    /// word: the next hello may find it able.
    pub(super) async fn take_in(&self, turn: &mut Turn, greetings: &[Greeting]) -> Result<(), RolloutError> {
        let others = self.summaries();
        for entry in self.entries.values().filter(|entry| entry.machine.takes_late_devices()) {
            let mut needs = None;
            for Greeting { device, .. } in greetings {
                if entry.machine.includes(device) {
                    continue;
                }
                let Some(facts) = facts::facts_of_device(&self.app.store, device).await? else { continue };
                if needs.is_none() {
                    let release = self.app.store.release(&entry.row.release).await?;
                    needs = release.map(|row| row.manifest()).transpose()?.map(|m| ReleaseNeeds::of(&m));
                }
                let Some(needs) = &needs else { continue };
                if let Some(Ok(planned)) = plan_late(entry.machine.spec(), needs, &facts, &others) {
                    turn.input(entry, Input::Join { planned });
                }
            }
        }
        Ok(())
    }
}
