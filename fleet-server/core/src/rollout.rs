//! One rollout as a state machine: inputs and the time go in, effects come out.
//!
//! | state | input | next | effects |
//! |---|---|---|---|
//! | – | `start` | Running{0}, or AwaitingApproval{0} if the wave wants it | Assign, Compare |
//! | AwaitingApproval | Approve, not by the author | Running{wave} | Assign, Compare |
//! | Running | report, connect | Running | the device moves on; a failed one gets Restore |
//! | Running | the network did not carry it, tries are left | Running | Assign again, later |
//! | Running | failures of a wave > limit, its metrics are degraded, or its release drifts | RollingBack, or Halted if `on_halt` is halt | Restore, newest first |
//! | Running | the gate of the wave lets it pass, or Promote | Running{next}, AwaitingApproval{next}, Completed | Assign the next wave |
//! | Running | every wave passed, and it is continuous | Watching | |
//! | Watching | Join | Watching | Assign |
//! | Watching | failures of late devices > limit | Halted | |
//! | Running, Watching | Pause | Paused | |
//! | Paused | Resume | Running, Watching | |
//! | Paused, AwaitingApproval | as Running: failures, degraded metrics, drift | as in Running | |
//! | all of these | Halt | Halted | |
//! | Running, Watching, Completed | Retry | Running | Assign, to those that failed or fell silent |
//! | all but RollingBack, RolledBack | Rollback | RollingBack | Restore, newest first |
//! | RollingBack | every seen device confirmed, or [`RESTORE_PATIENCE`] over | RolledBack | |
//! | all of these | the last device is taken over | Superseded | |
//! | any | Claimed, Superseded, LetGo, GivenBack, TakenBack (`hold.rs`) | same | who waits again is asked |
//!
//! The gate of a wave stands in `gate.rs`: who has settled, how many were seen, fell silent and keep the release, how
//! long it was watched, and what the metrics say. A wave that it neither passes nor stops is Held, with the reason.
//! What a drift alarm does stands in `drift.rs`.
//! Within a wave, devices are asked as the ramp, their windows, freezes and retries allow (`ask.rs`).
//!
//! What other rollouts of the model must hear of all this, they are told in the same turn ([`Rollout::tells`]).
//!
//! Every other order is a [`Refusal`] and changes nothing. Reports are welcome in every state: late ones are
//! recorded, but only Running and Watching ask anybody, so a stopped rollout never assigns again.
//!
//! The shell's turn: `handle`, then `poll_effect` until it is empty, store the effects (outbox) and this state
//! in one transaction, then perform them. Effects that are not polled are part of the state and survive.

mod addressed;
mod ask;
mod contest;
mod drift;
mod freeze;
mod gate;
mod hold;
mod message;
mod orders;
mod progress;
mod reason;
mod report;
mod rivals;
mod settle;
mod state;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, RolloutId, Timestamp};

use crate::plan::{Blocked, BlockedWhy, Plan, RolloutSpec, RolloutSummary, Stay, WaveKind, WavePlan};
use hold::Hold;
use progress::Record;
use state::Wave;

pub use addressed::Addressed;
pub use contest::Contest;
pub use drift::DriftAlarm;
pub use freeze::Freeze;
pub use hold::{FurtherBack, LetGo};
pub use message::{Effect, Event, Input, Wakeup};
pub use progress::{Progress, Restoration};
pub use reason::{Cause, FirstFailure, HoldReason, Refusal, Verdict};
pub use state::{State, WaveState};
pub use status::{Counts, DeviceStatus, RolloutStatus, WaveStatus};

/// How long a rollback waits for devices to confirm: going back needs no network and takes seconds, so who is
/// still quiet after ten minutes is unreachable. Its desired state waits for it.
pub const RESTORE_PATIENCE: Duration = Duration::from_secs(600);

/// A started rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

    /// Times in which nobody new is asked.
    #[serde(default)]
    freezes: Vec<Freeze>,
    /// The one that held at the last turn.
    #[serde(default)]
    frozen: Option<Freeze>,
    /// The moment up to which the pace is used up.
    #[serde(default)]
    paced_at: Timestamp,
    /// When somebody who waits to be asked, or to be brought back, may be; after the last turn.
    #[serde(default)]
    ask_at: Option<Timestamp>,
    /// When the wave under way is held if nothing more is heard; after the last turn.
    #[serde(default)]
    hold_at: Option<Timestamp>,

    /// The numbers of the drift alarms that were held against it, which are told again while they are there.
    #[serde(default)]
    heard_alarms: BTreeSet<u64>,
    /// The numbers of those that other releases explained when they were heard of first.
    #[serde(default)]
    excused_alarms: BTreeSet<u64>,

    /// Not yet polled; at most two effects for each device and a few for each change of state in a turn.
    effects: VecDeque<Effect>,
}

impl Rollout {
    /// Starts a planned rollout: the first wave is asked, or waits for somebody to agree.
    #[must_use]
    pub fn start(spec: RolloutSpec, plan: Plan, now: Timestamp) -> Self {
        let continuous = spec.strategy.continuous;
        let late = WavePlan { devices: vec![], bake_time_secs: 0, approve: false, kind: WaveKind::Late };
        let plans: Vec<_> = plan.waves.into_iter().chain(continuous.then_some(late)).collect();
        let mut rollout = Self {
            spec,
            started_at: now,
            blocked: plan.blocked,
            state: State::Running { wave: 0 },
            waves: plans.iter().map(Wave::of).collect(),
            devices: records(plans, now),
            freezes: plan.freezes,
            frozen: None,
            paced_at: Timestamp::default(),
            ask_at: None,
            hold_at: None,
            heard_alarms: BTreeSet::new(),
            excused_alarms: BTreeSet::new(),
            effects: VecDeque::new(),
        };
        rollout.begin_wave(0, now);
        // Nobody may ever be heard of, and then only the time moves it on.
        rollout.settle(now);
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

    /// True when devices that come to match its selector are to be passed in.
    #[must_use]
    pub fn takes_late_devices(&self) -> bool {
        self.spec.strategy.continuous && self.active_wave().is_some()
    }

    /// True when this device is to be passed in if it matches: it takes no part yet, and is not one of those that the
    /// waves of the strategy leave out.
    #[must_use]
    pub fn takes_in(&self, device: &DeviceId) -> bool {
        let left_out =
            |blocked: &Blocked| blocked.device == *device && blocked.why == BlockedWhy::BeyondLastWave;
        self.takes_late_devices() && !self.includes(device) && !self.blocked.iter().any(left_out)
    }

    /// True when somebody other than its author agreed to it.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.waves.first().is_some_and(|first| first.approved_by.is_some())
    }

    /// True when somebody was asked, or could have been.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.waves.first().is_some_and(|first| first.started_at.is_some())
    }

    /// Its rank among the rollouts of its model: the higher one holds a device. One that is over holds by its age alone, or a
    /// release that was important once could never be replaced.
    #[must_use]
    pub fn rank(&self) -> (u8, Timestamp, &RolloutId) {
        let priority = if self.state.is_final() { 0 } else { self.spec.strategy.priority };
        (priority, self.spec.created_at, &self.spec.id)
    }

    /// The wave under way, counted from 0, if its metrics are compared: its devices have the release, or get it, and
    /// those they are compared with do not.
    #[must_use]
    pub fn compared_wave(&self) -> Option<usize> {
        self.active_wave().filter(|&wave| self.waves[wave].compared)
    }

    /// Since when all devices of the wave that could be reached have settled and it is watched; `None` while it is not.
    /// Its metrics are judged for [`MAX_JUDGED_SECS`](crate::strategy::MAX_JUDGED_SECS) from then on.
    #[must_use]
    pub fn watched_since(&self, wave: usize) -> Option<Timestamp> {
        self.waves.get(wave)?.settled_at
    }

    /// The freezes that concern it, as they were last passed in.
    #[must_use]
    pub fn freezes(&self) -> &[Freeze] {
        &self.freezes
    }

    /// What planning another rollout must know of this one: the devices whose desired state it speaks for. One that
    /// waits for its first approval speaks for none.
    #[must_use]
    pub fn summary(&self) -> RolloutSummary {
        let held = self.devices.keys().filter(|device| self.has_begun() && self.claims(device));
        let asked = self.devices.iter().filter(|(_, record)| record.was_asked());
        RolloutSummary {
            id: self.spec.id.clone(),
            release: self.spec.release.clone(),
            priority: self.rank().0,
            created_at: self.spec.created_at,
            devices: held.cloned().collect(),
            restored: self.restored().cloned().collect(),
            asked: asked.map(|(device, record)| (device.clone(), self.stay(record))).collect(),
        }
    }

    /// True when it speaks for the device: it asked it last, will ask it, or may be told to ask it again.
    fn claims(&self, device: &DeviceId) -> bool {
        let Some(record) = self.devices.get(device) else { return false };
        let may_ask = record.hold == Hold::Ours && !record.withdrawn;
        let will_ask = *record.own_progress() == Progress::Waiting && self.active_wave().is_some();
        let may_ask_again = record.restoration != Restoration::None && !self.has_stopped();
        record.can_restore() || (may_ask && (will_ask || may_ask_again))
    }

    /// Devices from which it took the release away, and that no other rollout has taken over since.
    fn restored(&self) -> impl Iterator<Item = &DeviceId> {
        let restored = |record: &Record| record.restoration != Restoration::None && record.hold == Hold::Ours;
        self.devices.iter().filter(move |(_, record)| restored(record)).map(|(device, _)| device)
    }

    /// Whether a device that was asked may keep the release.
    fn stay(&self, record: &Record) -> Stay {
        if record.restoration != Restoration::None || self.takes_all_back() {
            Stay::GoesBack { to: record.from.clone() }
        } else {
            Stay::Keeps
        }
    }

    /// True when it takes the release away from everybody, or has.
    fn takes_all_back(&self) -> bool {
        matches!(self.state, State::RollingBack { .. } | State::RolledBack { .. })
    }

    /// Takes an input. The same input twice changes nothing the second time.
    ///
    /// # Errors
    /// When the input has no meaning here; then nothing changed.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<(), Refusal> {
        match input {
            Input::Report { device, at, release, event } => self.report(&device, at, &release, event, now)?,
            Input::DeviceConnected { device, utc_offset_secs } => {
                self.connected(&device, utc_offset_secs, now)?;
            }
            Input::Confirmed { device } => self.confirmed(&device, now)?,
            Input::Join { planned } => self.join(planned, now)?,
            Input::Tick => {}
            Input::Judged { wave, verdict } => self.judged(wave, verdict)?,
            Input::Drifted { alarm } => self.drifted(alarm)?,
            Input::Freezes { freezes } => self.learn_freezes(freezes),
            Input::Pause { by } => self.pause(by)?,
            Input::Resume { by } => self.resume(by, now)?,
            Input::Approve { wave, by } => self.approve(wave, by, now)?,
            Input::Promote { wave, by } => self.promote(wave, by)?,
            Input::Retry { by } => self.retry(by, now)?,
            Input::Halt { by, reason } => self.stop_by_order(by, reason)?,
            Input::Rollback { by } => self.roll_back_by_order(by, now)?,
            Input::Withdrawn { device } => self.withdraw(&device, now)?,
            Input::Claimed { devices, by } => self.claimed(&devices, &by, now)?,
            Input::Superseded { devices, by } => self.supersede_all(&devices, &by, now)?,
            Input::LetGo { devices } => self.let_go(devices, now)?,
            Input::GivenBack { devices } => self.given_back(devices, now)?,
            Input::TakenBack { release, devices } => self.go_further_back(&release, devices)?,
        }
        self.settle(now);
        Ok(())
    }

    /// What freezes there are by now, for a rollout that a person wants something of: it may have asked nobody for long, and
    /// must not begin to before it has heard what they want.
    pub fn learn_freezes(&mut self, freezes: Vec<Freeze>) {
        self.freezes = freezes;
    }

    /// The next thing to do, oldest first.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The wave that is asked, watched or waited for; `None` when the rollout has stopped or is complete.
    #[must_use]
    pub fn active_wave(&self) -> Option<usize> {
        match self.state {
            State::AwaitingApproval { wave, .. } | State::Running { wave } | State::Paused { wave, .. } => {
                Some(wave)
            }
            State::Watching { .. } => self.waves.len().checked_sub(1),
            State::Halted { .. }
            | State::RollingBack { .. }
            | State::RolledBack { .. }
            | State::Superseded { .. }
            | State::Completed { .. } => None,
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

    /// Devices that fit, in the order of asking.
    fn in_order(&self, fits: impl Fn(&Record) -> bool) -> Vec<DeviceId> {
        let mut found: Vec<_> = self.devices.iter().filter(|(_, record)| fits(record)).collect();
        found.sort_by_key(|(_, record)| record.place);
        found.into_iter().map(|(device, _)| device.clone()).collect()
    }

    fn announce(&mut self, event: Event) {
        self.effects.push_back(Effect::Announce(event));
    }

    fn wrong_state(&self, order: &'static str) -> Refusal {
        Refusal::WrongState { order, rollout: self.spec.id.clone(), state: self.state.word() }
    }
}

fn records(plans: Vec<WavePlan>, now: Timestamp) -> BTreeMap<DeviceId, Record> {
    let waves = plans.into_iter().enumerate();
    let devices = waves.flat_map(|(wave, plan)| plan.devices.into_iter().map(move |device| (wave, device)));
    devices.enumerate().map(|(place, (wave, planned))| Record::of(planned, wave, place, now)).collect()
}

#[cfg(test)]
mod tests;
