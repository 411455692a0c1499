//! One rollout as a state machine: inputs and the time go in, effects come out.
//!
//! | state | input | next | effects |
//! |---|---|---|---|
//! | – | `start` | Running{0} | Assign the first wave |
//! | Running | report, connect | Running | the device moves on; a failed one gets Restore |
//! | Running | failures of a wave > limit | RollingBack, or Halted if `on_halt` is pause | Restore, newest first |
//! | Running | wave settled, at least one committed, bake time over | Running{next}, Completed | Assign the next wave |
//! | Running | Pause | Paused | |
//! | Paused | Resume | Running | |
//! | Paused | failures of a wave > limit | as in Running | |
//! | Running, Paused | Halt | Halted | |
//! | Running, Paused, Halted, Completed | Rollback | RollingBack | Restore, newest first |
//! | RollingBack | every seen device confirmed, or [`RESTORE_PATIENCE`] over | RolledBack | |
//! | any | Superseded | same | none: the newer rollout writes the desired state |
//!
//! Every other order is a [`Refusal`] and changes nothing. Reports are welcome in every state: late ones are
//! recorded, but only Running asks anybody, so a stopped rollout never assigns again.
//!
//! The shell's turn: `handle`, then `poll_effect` until it is empty, store the effects (outbox) and this state
//! in one transaction, then perform them. Effects that are not polled are part of the state and survive.

mod gate;
mod message;
mod orders;
mod progress;
mod status;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp, report::DeploymentEvent};

use crate::plan::{Blocked, Plan, Reach, RolloutSpec, RolloutSummary};
use progress::Record;

pub use message::{Cause, Effect, Event, FirstFailure, Input, Refusal, Verdict, Wakeup};
pub use progress::{Progress, Restoration};
pub use status::{Counts, DeviceStatus, RolloutStatus, WaveStatus};

/// How long a rollback waits for devices to confirm: going back needs no network and takes seconds, so who is
/// still quiet after ten minutes is unreachable. Its desired state waits for it.
pub const RESTORE_PATIENCE: Duration = Duration::from_secs(600);

/// A started rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What was asked for.
    spec: RolloutSpec,
    /// When it was started.
    started_at: Timestamp,
    /// Selected devices that were left out.
    blocked: Vec<Blocked>,

    /// Where it stands.
    state: State,
    /// Its waves.
    waves: Vec<Wave>,
    /// Its devices.
    devices: BTreeMap<DeviceId, Record>,

    /// Not yet polled; at most two effects for each device and one for each change of state in a turn.
    effects: VecDeque<Effect>,
}

/// Where a rollout stands. Waves count from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    /// A wave is asked or watched.
    Running {
        /// Which.
        wave: usize,
    },
    /// A person wants nobody new to be asked.
    Paused {
        /// Who.
        by: String,
        /// Where it goes on.
        wave: usize,
    },
    /// It stopped for good; devices stay as they are.
    Halted {
        /// Why.
        verdict: Verdict,
    },
    /// Devices are brought back.
    RollingBack {
        /// Why.
        cause: Cause,
        /// Since when.
        since: Timestamp,
    },
    /// Every device that can be reached is back.
    RolledBack {
        /// Why.
        cause: Cause,
        /// Since when.
        at: Timestamp,
    },
    /// Every wave passed.
    Completed {
        /// When.
        at: Timestamp,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wave {
    bake_time_secs: u64,
    state: WaveState,
}

/// Where a wave stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WaveState {
    /// It is not its turn.
    Waiting,
    /// Its devices are asked.
    Updating,
    /// Its reachable devices have settled; it is watched.
    Baking {
        /// Until when.
        until: Timestamp,
    },
    /// It is done.
    Passed {
        /// Since when.
        at: Timestamp,
    },
    /// The rollout stopped in it.
    Stopped,
}

impl Rollout {
    /// Starts a planned rollout: the first wave is asked.
    #[must_use]
    pub fn start(spec: RolloutSpec, plan: Plan, now: Timestamp) -> Self {
        let waves = plan.waves.iter();
        let waves =
            waves.map(|w| Wave { bake_time_secs: w.bake_time_secs, state: WaveState::Waiting }).collect();
        let mut rollout = Self {
            spec,
            started_at: now,
            blocked: plan.blocked.clone(),
            state: State::Running { wave: 0 },
            waves,
            devices: records(plan, now),
            effects: VecDeque::new(),
        };
        rollout.ask_wave(0, now);
        rollout
    }

    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &RolloutSpec {
        &self.spec
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &RolloutId {
        &self.spec.id
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// True when the device takes part in it.
    #[must_use]
    pub fn includes(&self, device: &DeviceId) -> bool {
        self.devices.contains_key(device)
    }

    /// What planning another rollout must know of this one: the devices whose desired state it speaks for.
    #[must_use]
    pub fn summary(&self) -> RolloutSummary {
        let speaks_for = |record: &Record| {
            record.restoration == Restoration::None && !matches!(record.progress, Progress::Superseded { .. })
        };
        let held = self.devices.iter().filter(|(_, record)| speaks_for(record));
        RolloutSummary {
            id: self.spec.id.clone(),
            release: self.spec.release.clone(),
            created_at: self.spec.created_at,
            devices: held.map(|(device, _)| device.clone()).collect(),
        }
    }

    /// Takes an input. The same input twice changes nothing the second time.
    ///
    /// # Errors
    /// When the input has no meaning here; then nothing changed.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<(), Refusal> {
        match input {
            Input::Report { device, at, release, event } => self.report(&device, at, &release, event, now)?,
            Input::DeviceConnected { device } => self.connected(&device, now)?,
            Input::Confirmed { device } => self.confirmed(&device, now)?,
            Input::Tick => {}
            Input::Pause { by } => self.pause(by)?,
            Input::Resume { by } => self.resume(by)?,
            Input::Halt { by, reason } => self.stop_by_order(by, reason)?,
            Input::Rollback { by } => self.roll_back_by_order(by, now)?,
            Input::Superseded { device, by } => self.supersede(&device, by, now)?,
        }
        self.settle(now);
        Ok(())
    }

    /// The next thing to do, oldest first.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn report(
        &mut self,
        device: &DeviceId,
        at: Timestamp,
        release: &ReleaseId,
        event: DeploymentEvent,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (ours, id) = (*release == self.spec.release, self.spec.id.clone());
        let record = self.record(device)?;
        if !ours {
            let previous = record.from.as_ref() == Some(release);
            if !previous || record.restoration == Restoration::None {
                return Err(Refusal::OtherRelease {
                    device: device.clone(),
                    release: release.clone(),
                    rollout: id,
                });
            }
            record.heard_at = Some(now);
            if matches!(event, DeploymentEvent::Committed { .. }) {
                self.confirm_restoration(device, now);
            }
            return Ok(());
        }
        if record.progress == Progress::Waiting {
            return Err(Refusal::NotAsked { device: device.clone(), release: release.clone() });
        }
        record.heard_at = Some(now);
        // A device that failed to fetch may start again, but a late report of the failed attempt is no start.
        let is_late = record.reported_at.is_some_and(|last| at <= last);
        if !(is_late && matches!(record.progress, Progress::Failed(_))) {
            self.advance(device, Progress::of(event), Some(at), now);
        }
        Ok(())
    }

    /// A silent device that is back is waited for again.
    fn connected(&mut self, device: &DeviceId, now: Timestamp) -> Result<(), Refusal> {
        let record = self.record(device)?;
        record.heard_at = Some(now);
        if record.progress == Progress::Silent {
            self.advance(device, Progress::Asked { at: now }, None, now);
        }
        Ok(())
    }

    /// A device that goes back to nothing has no release to report about, so its word is enough.
    fn confirmed(&mut self, device: &DeviceId, now: Timestamp) -> Result<(), Refusal> {
        self.record(device)?.heard_at = Some(now);
        self.confirm_restoration(device, now);
        Ok(())
    }

    /// Moves a device on, if `next` says something new.
    fn advance(&mut self, device: &DeviceId, next: Progress, at: Option<Timestamp>, now: Timestamp) {
        let Some(record) = self.devices.get_mut(device) else { return };
        let restoring = record.restoration != Restoration::None;
        let gone = matches!(
            next,
            Progress::RolledBack(_)
                | Progress::Rejected(_)
                | Progress::Failed(_)
                | Progress::Superseded { .. }
        );
        // When we took the release away, "superseded" is the answer to that and not an outcome.
        let is_answer = restoring && matches!(next, Progress::Superseded { by: None });
        if record.progress.yields_to(&next) && !is_answer {
            record.progress = next.clone();
            record.since = now;
            record.reported_at = at.or(record.reported_at);
            let failed = next.failure().is_some();
            self.announce(Event::DeviceProgressed { device: device.clone(), progress: next });
            if failed {
                self.restore(device, now);
            }
        }
        if gone {
            self.confirm_restoration(device, now);
        }
    }

    /// Takes the release out of the desired state of a device.
    fn restore(&mut self, device: &DeviceId, now: Timestamp) {
        let Some(record) = self.devices.get_mut(device).filter(|record| record.can_restore()) else { return };
        // A device that refused the release or went back from it runs the previous one already.
        let back = record.progress.failure().is_some();
        record.restoration = Restoration::Ordered { at: now };
        let previous = record.from.clone();
        self.effects.push_back(Effect::Restore { device: device.clone(), previous });
        if back {
            self.confirm_restoration(device, now);
        }
    }

    fn confirm_restoration(&mut self, device: &DeviceId, now: Timestamp) {
        let Some(record) = self.devices.get_mut(device) else { return };
        if matches!(record.restoration, Restoration::Ordered { .. }) {
            record.restoration = Restoration::Confirmed { at: now };
            self.announce(Event::DeviceRestored { device: device.clone() });
        }
    }

    fn record(&mut self, device: &DeviceId) -> Result<&mut Record, Refusal> {
        let rollout = &self.spec.id;
        let missing = || Refusal::NotInRollout { device: device.clone(), rollout: rollout.clone() };
        self.devices.get_mut(device).ok_or_else(missing)
    }

    fn records_of(&self, wave: usize) -> impl Iterator<Item = &Record> {
        self.devices.values().filter(move |record| record.wave == wave)
    }

    fn announce(&mut self, event: Event) {
        self.effects.push_back(Effect::Announce(event));
    }

    fn wrong_state(&self, order: &'static str) -> Refusal {
        Refusal::WrongState { order, rollout: self.spec.id.clone(), state: self.state.word() }
    }
}

fn records(plan: Plan, now: Timestamp) -> BTreeMap<DeviceId, Record> {
    let waves = plan.waves.into_iter().enumerate();
    let devices = waves.flat_map(|(wave, spec)| spec.devices.into_iter().map(move |device| (wave, device)));
    let record = |(place, (wave, planned)): (usize, (usize, crate::plan::PlannedDevice))| {
        let heard_at = match planned.reach {
            Reach::Connected => Some(now),
            Reach::Offline => None,
        };
        let record = Record {
            wave,
            place,
            from: planned.from,
            bytes: planned.bytes,
            progress: Progress::Waiting,
            since: now,
            reported_at: None,
            heard_at,
            restoration: Restoration::None,
        };
        (planned.device, record)
    };
    devices.enumerate().map(record).collect()
}

impl State {
    /// The state in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::RollingBack { .. } => "rolling back",
            Self::RolledBack { .. } => "rolled back",
            Self::Completed { .. } => "completed",
        }
    }

    /// Why it stands there, as a sentence.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Running { .. } | Self::Completed { .. } => None,
            Self::Paused { by, .. } => Some(format!("paused by {by}")),
            Self::Halted { verdict } => Some(verdict.to_string()),
            Self::RollingBack { cause, .. } | Self::RolledBack { cause, .. } => Some(cause.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
