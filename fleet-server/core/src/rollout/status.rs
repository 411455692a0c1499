//! A rollout as people and programs see it.

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp};

use super::{DriftAlarm, Freeze, Progress, Record, Restoration, Rollout, State, WaveState};
use crate::{
    plan::{Blocked, WaveKind},
    strategy::Strategy,
    verdict::MetricVerdict,
};

/// A rollout at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Which.
    pub id: RolloutId,
    /// What it installs.
    pub release: ReleaseId,
    /// For whom, as written.
    pub selector: String,
    /// How it proceeds.
    pub strategy: Strategy,
    /// Who asked for it.
    pub author: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// Why it stands there, or why the wave under way is held, as a sentence; `None` when there is nothing to explain.
    pub reason: Option<String>,
    /// The freeze because of which nobody new is asked, at the last turn.
    #[serde(default)]
    pub frozen: Option<Freeze>,
    /// What became of the devices.
    pub counts: Counts,
    /// Its waves.
    pub waves: Vec<WaveStatus>,
    /// Its devices, in the order of asking.
    pub devices: Vec<DeviceStatus>,
    /// Selected devices that were left out.
    pub blocked: Vec<Blocked>,
}

/// A wave at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaveStatus {
    /// Where it stands.
    pub state: WaveState,
    /// How long it is watched.
    pub bake_time_secs: u64,
    /// What it is for.
    pub kind: WaveKind,
    /// When its devices began to be asked.
    pub started_at: Option<Timestamp>,
    /// Who agreed to it; `None` also when nobody had to.
    pub approved_by: Option<String>,
    /// Who let it pass.
    pub promoted_by: Option<String>,
    /// Whether its metrics are compared with devices that were not asked.
    pub compared: bool,
    /// What the metrics said last.
    pub metrics: Option<MetricVerdict>,
    /// The first drift alarm about the release while the wave had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftAlarm>,
    /// What became of its devices.
    pub counts: Counts,
}

/// A device at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Who.
    pub device: DeviceId,
    /// Its wave, counted from 0.
    pub wave: usize,
    /// What it goes back to.
    pub from: Option<ReleaseId>,
    /// Most bytes that it will fetch.
    pub bytes: u64,
    /// How far it is.
    pub progress: Progress,
    /// Why it failed, as a sentence.
    pub reason: Option<String>,
    /// Since when it is there, by the server's clock.
    pub since: Timestamp,
    /// The last report that counted, by the device's clock.
    pub reported_at: Option<Timestamp>,
    /// When it was last heard of; `None` when it was never seen in this rollout.
    pub heard_at: Option<Timestamp>,
    /// Whether the release was taken away again.
    pub restoration: Restoration,
}

/// Devices by outcome. Each stands in exactly one of the fields from `waiting` to `not_seen`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub devices: usize,
    /// Their wave has not started.
    pub waiting: usize,
    /// Asked, and on the way.
    pub in_progress: usize,
    /// They keep the release.
    pub committed: usize,
    /// They refused it.
    pub rejected: usize,
    /// It did not arrive.
    pub failed: usize,
    /// They went back from it.
    pub rolled_back: usize,
    /// They fell silent.
    pub silent: usize,
    /// They belong to another rollout.
    pub superseded: usize,
    /// Asked, but never connected since.
    pub not_seen: usize,
    /// Of all, those from which the release was taken away again.
    pub restored: usize,
    /// Of these, those that confirmed it.
    pub restore_confirmed: usize,
}

impl Counts {
    pub(super) fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut counts = Self::default();
        records.for_each(|record| counts.add(record));
        counts
    }

    fn add(&mut self, record: &Record) {
        self.devices += 1;
        *self.place_of(record) += 1;
        match record.restoration {
            Restoration::None => {}
            Restoration::Ordered { .. } => self.restored += 1,
            Restoration::Confirmed { .. } => {
                self.restored += 1;
                self.restore_confirmed += 1;
            }
        }
    }

    fn place_of(&mut self, record: &Record) -> &mut usize {
        match &record.progress {
            Progress::Waiting => &mut self.waiting,
            Progress::Asked { .. } if record.heard_at.is_none() => &mut self.not_seen,
            Progress::Asked { .. }
            | Progress::Transferring { .. }
            | Progress::Staged { .. }
            | Progress::SelfTested(_)
            | Progress::Probation
            | Progress::Retrying { .. } => &mut self.in_progress,
            Progress::Committed { .. } => &mut self.committed,
            Progress::Rejected(_) => &mut self.rejected,
            Progress::Failed(_) => &mut self.failed,
            Progress::RolledBack(_) => &mut self.rolled_back,
            Progress::Silent => &mut self.silent,
            Progress::Superseded { .. } => &mut self.superseded,
        }
    }
}

impl Rollout {
    /// The rollout as people and programs see it.
    #[must_use]
    pub fn status(&self) -> RolloutStatus {
        let mut devices: Vec<_> = self.devices.iter().collect();
        devices.sort_by_key(|(_, record)| record.place);
        RolloutStatus {
            id: self.spec.id.clone(),
            release: self.spec.release.clone(),
            selector: self.spec.selector.to_string(),
            strategy: self.spec.strategy.clone(),
            author: self.spec.author.clone(),
            created_at: self.spec.created_at,
            started_at: self.started_at,
            state: self.state.clone(),
            reason: self.reason(),
            frozen: self.frozen.clone(),
            counts: self.counts(),
            waves: (0..self.waves.len()).map(|wave| self.wave_status(wave)).collect(),
            devices: devices.into_iter().map(|(device, record)| device_status(device, record)).collect(),
            blocked: self.blocked.clone(),
        }
    }

    /// What became of the devices.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::of(self.devices.values())
    }

    fn wave_status(&self, wave: usize) -> WaveStatus {
        let counts = Counts::of(self.records_of(wave));
        let wave = &self.waves[wave];
        WaveStatus {
            state: wave.state.clone(),
            bake_time_secs: wave.bake_time_secs,
            kind: wave.kind,
            started_at: wave.started_at,
            approved_by: wave.approved_by.clone(),
            promoted_by: wave.promoted_by.clone(),
            compared: wave.compared,
            metrics: wave.metrics.clone(),
            drift: wave.drift.clone(),
            counts,
        }
    }

    /// Why it stands where it stands, or why the wave under way is held.
    fn reason(&self) -> Option<String> {
        if let (State::AwaitingApproval { .. }, Some(alarm)) = (&self.state, self.alarm_to_weigh()) {
            return Some(format!("{}; {alarm}", self.state.reason().unwrap_or_default()));
        }
        self.state.reason().or_else(|| match &self.waves[self.active_wave()?].state {
            WaveState::Held { why, .. } => Some(format!("held: {why}")),
            _ => None,
        })
    }
}

fn device_status(device: &DeviceId, record: &Record) -> DeviceStatus {
    DeviceStatus {
        device: device.clone(),
        wave: record.wave,
        from: record.from.clone(),
        bytes: record.bytes,
        progress: record.progress.clone(),
        reason: match &record.progress {
            Progress::Retrying { attempt, why, .. } => Some(format!("try {} follows: {why}", attempt + 1)),
            other => other.failure(),
        },
        since: record.since,
        reported_at: record.reported_at,
        heard_at: record.heard_at,
        restoration: record.restoration,
    }
}
