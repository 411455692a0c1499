//! Deliberate mistakes of a server, with which the oracle shows that it can find them.

use fleet_core::{Plan, RolloutSpec, State};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, RolloutId};

use super::{Purpose, Server};

/// A mistake that somebody could make in the executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// Reports that answer older desired states count.
    IgnoresGenerations,
    /// Devices go on being asked while a rollout is paused.
    AsksWhilePaused,
    /// With every device that is asked, the first of the next wave is asked too.
    AsksAhead,
    /// Devices that planning blocked are asked as well.
    AsksBlocked,
    /// The release is not taken away from anybody.
    ForgetsToRestore,
    /// Taking a release away does not raise the generation.
    ReusesGenerations,
    /// A restart loses what a rollout had decided and not yet written.
    ForgetsAtRestart,
    /// Devices are asked as fast as they can be.
    ForgetsRamps,
    /// Waves begin without anybody agreeing.
    ForgetsApprovals,
    /// Devices are asked in freezes.
    ForgetsFreezes,
    /// Devices are asked outside of their windows.
    ForgetsWindows,
    /// Rollouts do not hear of pins.
    ForgetsPins,
    /// Whatever the metrics say is taken for good.
    FlattersMetrics,
    /// Rollouts do not hear of drift alarms.
    ForgetsDrift,
    /// Rollouts do not hear of what others of their model do.
    ForgetsRivals,
    /// A device is told of its desired state once, and never again.
    TellsOnce,
    /// Devices are told before what they are told is stored.
    SpeaksTooEarly,
}

impl Server {
    /// What the machine is told of a plan.
    pub(super) fn told(&self, spec: &RolloutSpec, plan: &Plan) -> (RolloutSpec, Plan) {
        let (mut spec, mut plan) = (spec.clone(), plan.clone());
        match self.flaw {
            Some(Flaw::ForgetsRamps) => spec.strategy.ramp = None,
            Some(Flaw::ForgetsWindows) => spec.strategy.windows = None,
            Some(Flaw::ForgetsApprovals) => plan.waves.iter_mut().for_each(|wave| wave.approve = false),
            Some(Flaw::ForgetsFreezes) => plan.freezes.clear(),
            _ => {}
        }
        (spec, plan)
    }

    pub(super) fn ask_more_than_decided(&mut self, id: &RolloutId) {
        match self.flaw {
            Some(Flaw::AsksAhead) => {
                if let Some(device) = self.first_waiting(id) {
                    self.ask_wrongly(id, &device);
                }
            }
            Some(Flaw::AsksBlocked) => {
                let blocked = self.rollout(id).map(|rollout| rollout.status().blocked).unwrap_or_default();
                if let Some(blocked) = blocked.first() {
                    self.ask_wrongly(id, &blocked.device);
                }
            }
            _ => {}
        }
    }

    /// Asks the next device of every paused rollout, for a server that does not know what a pause is.
    pub fn ask_while_paused(&mut self) {
        if self.flaw != Some(Flaw::AsksWhilePaused) {
            return;
        }
        let paused: Vec<RolloutId> = (self.entries.iter())
            .filter(|(_, entry)| matches!(entry.machine.state(), State::Paused { .. }))
            .map(|(id, _)| id.clone())
            .collect();
        for id in paused {
            if let Some(device) = self.first_waiting(&id) {
                self.ask_wrongly(&id, &device);
            }
        }
    }

    fn first_waiting(&self, id: &RolloutId) -> Option<DeviceId> {
        let entry = self.entries.get(id)?;
        let status = entry.machine.status();
        let mut devices = status.devices.into_iter().map(|status| status.device);
        devices.find(|device| !entry.addressed.has_asked(device))
    }

    fn ask_wrongly(&mut self, id: &RolloutId, device: &DeviceId) {
        let Some(entry) = self.entries.get(id) else { return };
        let Some(published) = self.catalog.get(entry.release()) else { return };
        let assignment = published.assignment(false);
        if let Some(generation) = self.write(id, device, Purpose::Ask, Some(assignment))
            && let Some(entry) = self.entries.get_mut(id)
        {
            entry.addressed.asked(device, generation);
            self.send_desired(device);
        }
    }
}
