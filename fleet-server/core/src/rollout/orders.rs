//! What people and newer rollouts ask of a rollout. An order that does not fit the state is refused.

use shared::{DeviceId, RolloutId, Timestamp};

use super::{Cause, Event, Progress, Refusal, Restoration, Rollout, State, Verdict, WaveState};

impl Rollout {
    pub(super) fn pause(&mut self, by: String) -> Result<(), Refusal> {
        let State::Running { wave } = self.state else { return Err(self.wrong_state("pause")) };
        self.state = State::Paused { by: by.clone(), wave };
        self.announce(Event::Paused { by });
        Ok(())
    }

    pub(super) fn resume(&mut self, by: String) -> Result<(), Refusal> {
        let State::Paused { wave, .. } = self.state else { return Err(self.wrong_state("resume")) };
        self.state = State::Running { wave };
        self.announce(Event::Resumed { by });
        Ok(())
    }

    pub(super) fn stop_by_order(&mut self, by: String, reason: String) -> Result<(), Refusal> {
        let (State::Running { wave } | State::Paused { wave, .. }) = self.state else {
            return Err(self.wrong_state("halt"));
        };
        self.halt(wave, Verdict::Ordered { by, reason });
        Ok(())
    }

    pub(super) fn roll_back_by_order(&mut self, by: String, now: Timestamp) -> Result<(), Refusal> {
        match self.state {
            State::Running { wave } | State::Paused { wave, .. } => {
                self.waves[wave].state = WaveState::Stopped
            }
            State::Halted { .. } | State::Completed { .. } => {}
            State::RollingBack { .. } | State::RolledBack { .. } => return Err(self.wrong_state("roll back")),
        }
        self.roll_back(Cause::Person { name: by }, now);
        Ok(())
    }

    /// The newer rollout writes the desired state, so there is nothing to restore here.
    pub(super) fn supersede(
        &mut self,
        device: &DeviceId,
        by: RolloutId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let record = self.record(device)?;
        if matches!(record.progress, Progress::Superseded { by: Some(_) }) {
            return Ok(());
        }
        record.restoration = Restoration::None;
        record.progress = Progress::Superseded { by: Some(by) };
        record.since = now;
        let progress = record.progress.clone();
        self.announce(Event::DeviceProgressed { device: device.clone(), progress });
        Ok(())
    }
}
