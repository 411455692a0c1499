//! What follows from the state and the time: silence, verdicts, the next wave, the end.
//!
//! A wave passes when every device of it that was seen has settled, at least one keeps the release, and the bake
//! time is over. Without a single commit there is no evidence, and a wave without evidence waits. Devices that
//! were never seen hold nothing up.

use std::time::Duration;

use shared::{DeviceId, Timestamp};

use super::{
    Cause, Counts, Effect, Event, FirstFailure, Progress, RESTORE_PATIENCE, Record, Rollout, State, Verdict,
    Wakeup, WaveState,
};
use crate::strategy::StopAction;

impl Rollout {
    /// When to call again with [`Input::Tick`](super::Input::Tick), and for what.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, Wakeup)> {
        match &self.state {
            State::Running { wave } => earliest(self.silence_due(), self.bake_due(*wave)),
            State::Paused { .. } => self.silence_due(),
            State::RollingBack { since, .. } => Some((*since + RESTORE_PATIENCE, Wakeup::RestoreOverdue)),
            State::Halted { .. } | State::RolledBack { .. } | State::Completed { .. } => None,
        }
    }

    /// Draws the consequences. Ends, because each step either leaves Running or goes to a later wave.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.mark_silent(now);
        self.judge(now);
        while let State::Running { wave } = self.state {
            if !self.wave_passes(wave, now) {
                break;
            }
            self.next_wave(wave, now);
        }
        self.finish_rollback(now);
    }

    pub(super) fn ask_wave(&mut self, wave: usize, now: Timestamp) {
        self.waves[wave].state = WaveState::Updating;
        let asked = self.in_order(|record| record.wave == wave && record.progress == Progress::Waiting);
        self.announce(Event::WaveStarted { wave, devices: asked.len() });
        for device in asked {
            if let Some(record) = self.devices.get_mut(&device) {
                record.progress = Progress::Asked { at: now };
                record.since = now;
                // Silence counts from the question on.
                record.heard_at = record.heard_at.map(|_| now);
            }
            let (release, retry) = (self.spec.release.clone(), self.spec.strategy.retry);
            self.effects.push_back(Effect::Assign { device, release, retry });
        }
    }

    /// Stops for good; devices stay as they are.
    pub(super) fn halt(&mut self, wave: usize, verdict: Verdict) {
        self.waves[wave].state = WaveState::Stopped;
        self.state = State::Halted { verdict: verdict.clone() };
        self.announce(Event::Halted { verdict });
    }

    /// Takes the release away from every device that was asked, newest first.
    pub(super) fn roll_back(&mut self, cause: Cause, now: Timestamp) {
        let asked = self.in_order(Record::can_restore);
        self.state = State::RollingBack { cause: cause.clone(), since: now };
        self.announce(Event::RollingBack { cause, devices: asked.len() });
        for device in asked.iter().rev() {
            self.restore(device, now);
        }
    }

    fn mark_silent(&mut self, now: Timestamp) {
        if !matches!(self.state, State::Running { .. } | State::Paused { .. }) {
            return;
        }
        let patience = self.patience();
        let overdue = |record: &Record| {
            record.is_awaited() && record.heard_at.is_some_and(|heard| heard + patience <= now)
        };
        for device in self.in_order(overdue) {
            self.advance(&device, Progress::Silent, None, now);
        }
    }

    /// Stops when a wave has more failures than it bears, in whatever wave they are.
    fn judge(&mut self, now: Timestamp) {
        let (State::Running { wave } | State::Paused { wave, .. }) = self.state else { return };
        let Some(verdict) = (0..=wave).find_map(|wave| self.verdict(wave)) else { return };
        self.halt(wave, verdict.clone());
        match self.spec.strategy.on_halt {
            StopAction::Rollback => self.roll_back(Cause::Verdict { verdict }, now),
            StopAction::Pause => {}
        }
    }

    fn verdict(&self, wave: usize) -> Option<Verdict> {
        let of = self.records_of(wave).filter(|record| record.heard_at.is_some()).count();
        let limit = self.spec.strategy.max_failed.limit(of);
        let failed = || {
            let ours = self.devices.iter().filter(|(_, record)| record.wave == wave);
            ours.filter_map(|(device, record)| Some((record.since, device, record.progress.failure()?)))
        };
        let count = failed().count();
        if count <= limit {
            return None;
        }
        let (_, device, reason) = failed().min_by_key(|(since, device, _)| (*since, *device))?;
        let first = FirstFailure { device: device.clone(), reason };
        Some(Verdict::TooManyFailures { wave, failed: count, of, limit, first })
    }

    /// Moves the wave between updating and baking; true when it was watched long enough.
    fn wave_passes(&mut self, wave: usize, now: Timestamp) -> bool {
        if !self.wave_settled(wave) {
            self.waves[wave].state = WaveState::Updating;
            return false;
        }
        let until = match self.waves[wave].state {
            WaveState::Baking { until } => until,
            _ => self.bake(wave, now),
        };
        until <= now
    }

    fn wave_settled(&self, wave: usize) -> bool {
        let counts = Counts::of(self.records_of(wave));
        let evidence = counts.committed > 0 || counts.superseded == counts.devices;
        evidence && !self.records_of(wave).any(Record::is_awaited)
    }

    fn bake(&mut self, wave: usize, now: Timestamp) -> Timestamp {
        let until = now + Duration::from_secs(self.waves[wave].bake_time_secs);
        self.waves[wave].state = WaveState::Baking { until };
        self.announce(Event::WaveBaking { wave, until });
        until
    }

    fn next_wave(&mut self, wave: usize, now: Timestamp) {
        self.waves[wave].state = WaveState::Passed { at: now };
        self.announce(Event::WavePassed { wave });
        if wave + 1 < self.waves.len() {
            self.state = State::Running { wave: wave + 1 };
            self.ask_wave(wave + 1, now);
        } else {
            self.state = State::Completed { at: now };
            self.announce(Event::Completed { counts: self.counts() });
        }
    }

    fn finish_rollback(&mut self, now: Timestamp) {
        let State::RollingBack { cause, since } = &self.state else { return };
        let overdue = *since + RESTORE_PATIENCE <= now;
        if overdue || !self.devices.values().any(Record::owes_restoration) {
            self.state = State::RolledBack { cause: cause.clone(), at: now };
            self.announce(Event::RolledBack { counts: self.counts() });
        }
    }

    fn silence_due(&self) -> Option<(Timestamp, Wakeup)> {
        let awaited = self.devices.values().filter(|record| record.is_awaited());
        let heard = awaited.filter_map(|record| record.heard_at).min()?;
        Some((heard + self.patience(), Wakeup::Silence))
    }

    fn bake_due(&self, wave: usize) -> Option<(Timestamp, Wakeup)> {
        match self.waves[wave].state {
            WaveState::Baking { until } => Some((until, Wakeup::BakeOver)),
            WaveState::Waiting | WaveState::Updating | WaveState::Passed { .. } | WaveState::Stopped => None,
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.spec.strategy.silent_after_secs)
    }

    /// Devices that fit, in the order of asking.
    fn in_order(&self, fits: impl Fn(&Record) -> bool) -> Vec<DeviceId> {
        let mut found: Vec<_> = self.devices.iter().filter(|(_, record)| fits(record)).collect();
        found.sort_by_key(|(_, record)| record.place);
        found.into_iter().map(|(device, _)| device.clone()).collect()
    }
}

fn earliest(a: Option<(Timestamp, Wakeup)>, b: Option<(Timestamp, Wakeup)>) -> Option<(Timestamp, Wakeup)> {
    [a, b].into_iter().flatten().min_by_key(|(at, _)| *at)
}
