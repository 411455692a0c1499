//! When a tested version may begin to answer: the maintenance window, by the clock on the device's wall.
//!
//! Fetching and trying go on at any time, since nobody notices them. Only the first activation waits: a version that
//! answered before a restart answers again at once, and nothing on the way back ever waits.

use shared::{ModelName, Timestamp, maintenance};

use super::{Agent, Model};
use crate::{
    deployment::Deployment,
    ledger::{Hold, Record},
    port::Wakeup,
};

impl Agent {
    /// The director's windows are in force before the device's own.
    fn windows(&self) -> Option<&maintenance::MaintenanceWindows> {
        self.ledger.orders.maintenance.as_ref().or(self.settings.maintenance.as_ref())
    }

    fn window_opens(&self) -> Timestamp {
        let offset = self.settings.utc_offset_secs;
        self.windows().map_or(self.now, |windows| windows.opens_at(self.now, offset))
    }

    /// Lets every tested candidate go on while a window is open.
    pub(super) fn advance_windows(&mut self) {
        if self.window_opens() > self.now {
            return;
        }
        for model in self.models.values_mut() {
            if let Deployment::Waiting { manifest } = &model.deployment {
                model.deployment = Deployment::Activating { manifest: manifest.clone() };
            }
        }
    }

    pub(super) fn window_timer(&self) -> Option<(Timestamp, Wakeup)> {
        let waits = |model: &Model| matches!(model.deployment, Deployment::Waiting { .. });
        let (first, _) = self.models.iter().find(|(_, model)| waits(model))?;
        Some((self.window_opens(), Wakeup::Window(first.clone())))
    }

    /// What a model waits for, or why it takes nothing, for people.
    pub(super) fn detail(
        &self,
        name: &ModelName,
        record: &Record,
        deployment: Option<&Deployment>,
    ) -> String {
        let repair = self.models.get(name).and_then(|model| model.repair.as_ref());
        match deployment {
            None | Some(Deployment::Idle) if let Some(repair) = repair => {
                format!("the committed version is damaged on the disk and fetched again: {}", repair.detail())
            }
            Some(Deployment::Waiting { .. }) => self.window_detail(),
            None | Some(Deployment::Idle) => self.restraint_detail(name, record),
            Some(deployment) => deployment.detail(),
        }
    }

    fn window_detail(&self) -> String {
        let Some(windows) = self.windows() else { return String::new() };
        let opens = maintenance::local_time(self.window_opens(), self.settings.utc_offset_secs);
        format!("tested; waits for its maintenance window {windows}, which opens on {opens} local time")
    }

    fn restraint_detail(&self, name: &ModelName, record: &Record) -> String {
        match (&self.ledger.orders.quarantine, record.hold, &record.committed) {
            (Some(quarantine), _, _) => {
                format!("the device is in quarantine and takes nothing new: {}", quarantine.reason)
            }
            (None, Hold::Pinned, Some(committed)) => format!("{name} is pinned to {}", committed.release),
            (None, Hold::Pinned, None) => format!("{name} is pinned to the first version that is committed"),
            (None, Hold::Free, _) => String::new(),
        }
    }
}
