//! Who may be asked now: the pace of the ramp, windows in the device's local time, freezes, and tries that follow.

use std::time::Duration;

use shared::{DeviceId, Timestamp};

use super::{Effect, Event, Progress, Record, Restoration, Rollout, State, WaveState};
use crate::{
    plan::WaveKind,
    strategy::MetricGate,
    verdict::{Cohorts, VerdictPolicy},
};

/// Devices of one cohort whose metrics are compared, at most. More sharpen the verdict little, and their figures are kept as
/// evidence.
const MAX_COHORT: usize = 200;

/// A pace is kept in steps of this much: so many devices share a turn of the shell and a commit.
pub(super) const STEP: Duration = Duration::from_millis(250);

/// A turn that comes late may catch up with so much of the pace.
const CREDIT: Duration = Duration::from_secs(1);

impl Rollout {
    /// Opens a wave, if nobody has to agree first.
    pub(super) fn begin_wave(&mut self, wave: usize, now: Timestamp) {
        if self.waves[wave].approve && self.waves[wave].approved_by.is_none() {
            self.state = State::AwaitingApproval { wave, since: now };
            self.announce(Event::ApprovalNeeded { wave });
            return;
        }
        self.state = State::Running { wave };
        self.waves[wave].state = WaveState::Updating;
        // One that is gone through once more, because devices are asked again, was compared when it mattered.
        let is_new = self.waves[wave].started_at.replace(now).is_none();
        let devices = self.records_of(wave).filter(|record| record.progress == Progress::Waiting).count();
        self.announce(Event::WaveStarted { wave, devices });
        if is_new {
            self.compare(wave);
        }
        self.ask_due(wave, now);
    }

    /// Asks everybody up to `wave` who may be asked now, in order, and notes when the next one may be.
    pub(super) fn ask_due(&mut self, wave: usize, now: Timestamp) {
        (self.ask_at, self.frozen) = (None, None);
        if self.holding_alarm(wave).is_some() {
            return;
        }
        if !self.devices.values().any(|record| record.wave <= wave && record.progress.is_pending()) {
            return;
        }
        let interval = self.interval();
        for device in self.in_order(|record| record.wave <= wave && record.progress.is_pending()) {
            if let Some(freeze) = self.freezes.iter().find(|freeze| freeze.holds(&device, now)) {
                let until = freeze.until;
                self.frozen = Some(freeze.clone());
                self.wake_for_ask(until);
                continue;
            }
            let due = self.devices.get(&device).map_or(now, |record| self.due(record, now));
            if due > now {
                self.wake_for_ask(due);
            } else if self.paced_at + interval <= now {
                self.ask(&device, now);
                self.pace(interval, now);
            } else {
                self.wake_for_ask((self.paced_at + interval).max(now + STEP));
                break;
            }
        }
    }

    /// Takes the release away from everybody who has it, newest first, at the pace of the ramp.
    pub(super) fn restore_due(&mut self, now: Timestamp) {
        self.ask_at = None;
        if !self.devices.values().any(Record::can_restore) {
            return;
        }
        let interval = self.interval();
        for device in self.in_order(Record::can_restore).iter().rev() {
            if self.paced_at + interval > now {
                self.wake_for_ask((self.paced_at + interval).max(now + STEP));
                break;
            }
            self.restore(device, now);
            self.pace(interval, now);
        }
    }

    fn ask(&mut self, device: &DeviceId, now: Timestamp) {
        let Some(record) = self.devices.get_mut(device) else { return };
        let again = match &record.progress {
            Progress::Retrying { attempt, .. } => Some(*attempt),
            _ => None,
        };
        record.retries = again.unwrap_or(record.retries);
        record.progress = Progress::Asked { at: now };
        record.restoration = Restoration::None;
        record.since = now;
        // Silence counts from the question on.
        record.heard_at = record.heard_at.map(|_| now);
        let retry = self.spec.strategy.retry || again.is_some();
        let release = self.spec.release.clone();
        self.effects.push_back(Effect::Assign { device: device.clone(), release, retry });
    }

    /// When the device itself allows to be asked: `now` or later.
    fn due(&self, record: &Record, now: Timestamp) -> Timestamp {
        let from = match &record.progress {
            Progress::Retrying { at, .. } => (*at).max(now),
            _ => now,
        };
        let windows = self.spec.strategy.windows.as_ref();
        windows.map_or(from, |windows| windows.opens_at(from, record.utc_offset_secs))
    }

    fn interval(&self) -> Duration {
        let committed = |record: &&Record| matches!(record.progress, Progress::Committed { .. });
        let ramp = self.spec.strategy.ramp;
        ramp.map_or(Duration::ZERO, |ramp| ramp.interval(self.devices.values().filter(committed).count()))
    }

    fn pace(&mut self, interval: Duration, now: Timestamp) {
        let earliest = Timestamp(now.as_millis().saturating_sub(CREDIT.as_millis() as u64));
        self.paced_at = earliest.max(self.paced_at + interval);
    }

    fn wake_for_ask(&mut self, at: Timestamp) {
        self.ask_at = Some(self.ask_at.map_or(at, |known| known.min(at)));
    }

    /// Has the metrics of a wave compared with devices that nobody asks before it is over. Without such devices there is
    /// nothing to compare.
    fn compare(&mut self, wave: usize) {
        // A strategy that cannot be followed was refused when it was planned.
        let Some(Ok(policy)) = self.spec.strategy.metrics.as_ref().map(MetricGate::rules) else { return };
        let step = self.waves[wave].kind == WaveKind::Step;
        let waits = |record: &Record| record.wave > wave && record.progress == Progress::Waiting;
        let controls = self.in_order(waits).into_iter().rev().take(MAX_COHORT).collect();
        let cohorts = Cohorts {
            canaries: self.in_order(|record| record.wave == wave).into_iter().take(MAX_COHORT).collect(),
            controls,
        };
        if !step || cohorts.controls.is_empty() {
            return;
        }
        self.waves[wave].compared = true;
        // Any of the waves may condemn, so each gets its share of the rollout's false alarms.
        let steps = self.waves.iter().filter(|wave| wave.kind == WaveKind::Step).count();
        let policy = VerdictPolicy { alpha_rollback: policy.alpha_rollback / steps as f64, ..policy };
        self.effects.push_back(Effect::Compare { wave, cohorts, policy });
    }
}
