//! What befalls a device: how busy it is, what its clock says, how its lives end and begin.

use agent_core::Input;
use shared::Timestamp;

use super::{Ending, Power, VirtualDevice, boot};

impl VirtualDevice {
    /// Requests that reach its model in a minute.
    #[must_use]
    pub fn traffic(&self) -> u32 {
        self.profile.traffic_per_minute
    }

    /// This many requests reach its model in a minute from now on.
    pub fn set_traffic(&mut self, per_minute: u32) {
        self.profile.traffic_per_minute = per_minute;
    }

    /// How far its clock is ahead from its next start on.
    pub fn set_clock(&mut self, ahead_ms: i64) {
        self.profile.clock_ahead_ms = ahead_ms;
    }

    /// Summer begins or ends, or somebody takes it elsewhere: it tells so with its next hello.
    pub fn set_local_time(&mut self, utc_offset_secs: i32) {
        self.profile.utc_offset_secs = utc_offset_secs;
        self.profile.inventory.utc_offset_secs = Some(utc_offset_secs);
    }

    /// The system kills its runner, whatever is loaded there.
    pub fn kill_runner(&mut self, now: Timestamp) {
        if self.is_on() {
            self.now = now;
            self.lose_runner();
            self.give(Input::RunnerExited { detail: "signal 9".into() });
        }
    }

    /// The disk changes every model that is kept.
    pub fn damage_disk(&mut self) {
        for record in self.agent.ledger().models.values() {
            if let Some(committed) = &record.committed {
                self.disk.published.remove(&committed.model);
            }
        }
    }

    /// Power fails after this many more effects, in the middle of whatever goes on then.
    pub fn cut_power_after(&mut self, effects: u32) {
        if self.is_on() {
            self.power = Power::FailsAfter(effects);
        }
    }

    /// Ends this life of the agent. It has no session and does nothing until it is started again.
    pub fn end(&mut self, ending: Ending, now: Timestamp) {
        if !self.is_on() {
            return;
        }
        self.now = now;
        if ending == Ending::Stopped {
            // Nothing follows a stop but the ledger.
            let _ = self.agent.handle(Input::Stopped, self.device_time());
            self.disk.save(&self.agent);
        }
        self.lose_memory();
    }

    /// Starts the agent again from what is on the disk. It connects when it is told that it is connected.
    pub fn restart(&mut self, now: Timestamp) {
        if self.is_on() {
            return;
        }
        self.now = now;
        self.clock_ahead_ms = self.profile.clock_ahead_ms;
        self.boots += 1;
        self.power = Power::On;
        self.disk.read_again();
        self.agent = boot(&self.profile, &self.disk, self.boots, self.device_time());
        self.pump();
    }
}
