//! The server in memory: the machines of `fleet-core` behind the same turns as the executor of the server has.
//!
//! A turn takes inputs, lets the machines decide, writes desired states with new generations and stores all of it at
//! once. A machine that is stored becomes JSON and is read back, at any moment that the world chooses.

mod drift;
mod effects;
mod entry;
mod flaw;
mod mailbox;
mod metrics;
mod people;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet_core::{
    DeviceFacts, DriftAlarm, Event, Freeze, Input, Plan, PlanError, Refusal, Rollout, RolloutSpec, State,
    plan,
};
use shared::{
    BootId, DeviceId, Generation, ModelName, ReleaseId, RolloutId, Timestamp, Version,
    device::{Inventory, Labels},
    message::Assignment,
    report::{ModelState, Report},
};
use thiserror::Error;

use crate::{catalog::Catalog, wire::Down};

pub use flaw::Flaw;
pub use metrics::Told;

use entry::Entry;
use metrics::Metrics;

/// The server.
#[derive(Debug, Clone)]
pub struct Server {
    catalog: Arc<Catalog>,
    rows: BTreeMap<DeviceId, Row>,
    /// Reports that were stored, each once.
    stored: BTreeSet<(DeviceId, BootId, u64)>,
    entries: BTreeMap<RolloutId, Entry>,
    /// Times in which nobody is asked.
    freezes: Vec<Freeze>,
    flaw: Option<Flaw>,
    /// The moment of this turn.
    now: Timestamp,
    rewrite: Rewrite,
    metrics: Metrics,
    /// Drift alarms that were raised.
    alarms: u64,

    // Outputs.
    messages: Vec<(DeviceId, Down)>,
    plans: Vec<(RolloutSpec, Plan)>,
    writes: Vec<Write>,
    reports: Vec<Report>,
    events: Vec<(RolloutId, Event)>,
    raised: Vec<(ReleaseId, DriftAlarm)>,
}

/// What the server knows of a device.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Its labels.
    pub labels: Labels,
    /// Whether it holds a connection.
    pub connected: bool,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// What it said it is.
    pub inventory: Inventory,
    /// What it said it runs.
    pub models: Vec<ModelState>,
    /// Taken out of every rollout by a person.
    pub quarantined: bool,
    /// Versions that a person wants it to keep.
    pub pins: BTreeMap<ModelName, Version>,
    /// Models of which a person ever wanted nobody to ask it; `None` for all of them.
    pub left_alone: BTreeSet<Option<ModelName>>,
    /// The newest desired state that it showed to know.
    pub seen: Generation,
    /// What it shall run.
    pub desired: Desired,
}

/// What a device shall run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Its number.
    pub generation: Generation,
    /// One entry for each model.
    pub assignments: Vec<Assignment>,
}

/// A desired state that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// For whom.
    pub device: DeviceId,
    /// By which rollout.
    pub rollout: RolloutId,
    /// What for.
    pub purpose: Purpose,
    /// The whole new state.
    pub desired: Desired,
    /// Where the rollout stood.
    pub state: State,
    /// When, by the clock of the server.
    pub at: Timestamp,
    /// How far the local time of the device is ahead of UTC, as far as the server knows.
    pub utc_offset_secs: i32,
}

/// What a desired state was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To ask for the release of the rollout.
    Ask,
    /// To take it away.
    Restore,
}

/// Whether machines are written down and read back in the middle of a turn, with effects that are still to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rewrite {
    Never,
    InThisTurn,
    /// A machine was not what was written.
    Failed(String),
}

/// Why a person's wish had no effect.
#[derive(Debug, Error)]
pub enum Unheard {
    /// There is no such release.
    #[error("there is no release {0}")]
    NoRelease(ReleaseId),
    /// There is no such rollout.
    #[error("there is no rollout {0}")]
    NoRollout(RolloutId),
    /// Nobody can be asked.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// It does not fit.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Server {
    /// A server that has published everything in the catalog.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, flaw: Option<Flaw>) -> Self {
        Self {
            catalog,
            rows: BTreeMap::new(),
            stored: BTreeSet::new(),
            entries: BTreeMap::new(),
            freezes: vec![],
            flaw,
            now: Timestamp(0),
            messages: vec![],
            plans: vec![],
            writes: vec![],
            reports: vec![],
            rewrite: Rewrite::Never,
            metrics: Metrics::default(),
            alarms: 0,
            events: vec![],
            raised: vec![],
        }
    }

    /// A device is enrolled, with what it shall run already.
    pub fn enrol(&mut self, device: DeviceId, labels: Labels, runs: Option<&ReleaseId>) {
        let published = runs.and_then(|release| self.catalog.get(release));
        let assignments: Vec<_> = published.map(|it| it.assignment(false)).into_iter().collect();
        let generation = Generation(u64::from(!assignments.is_empty()));
        let desired = Desired { generation, assignments };
        self.rows.insert(device, Row { labels, desired, ..Row::default() });
    }

    /// What is known of a device.
    #[must_use]
    pub fn row(&self, device: &DeviceId) -> Option<&Row> {
        self.rows.get(device)
    }

    /// Every rollout.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.entries.values().map(|entry| &entry.machine)
    }

    /// One rollout.
    #[must_use]
    pub fn rollout(&self, id: &RolloutId) -> Option<&Rollout> {
        self.entries.get(id).map(|entry| &entry.machine)
    }

    /// Messages to carry to devices.
    pub fn take_messages(&mut self) -> Vec<(DeviceId, Down)> {
        std::mem::take(&mut self.messages)
    }

    /// Plans that were made into rollouts since the last call.
    pub fn take_plans(&mut self) -> Vec<(RolloutSpec, Plan)> {
        std::mem::take(&mut self.plans)
    }

    /// Desired states that were written since the last call.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// Reports that were stored since the last call, each for the first time.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// What rollouts announced since the last call.
    pub fn take_events(&mut self) -> Vec<(RolloutId, Event)> {
        std::mem::take(&mut self.events)
    }

    /// Drift alarms that were raised since the last call, and about which release.
    pub fn take_alarms(&mut self) -> Vec<(ReleaseId, DriftAlarm)> {
        std::mem::take(&mut self.raised)
    }

    /// True when the turn under way stored anything.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.plans.is_empty()
            || !self.writes.is_empty()
            || !self.events.is_empty()
            || !self.reports.is_empty()
            || !self.raised.is_empty()
    }

    /// After a start nobody is connected.
    pub fn forget_connections(&mut self) {
        self.rows.values_mut().for_each(|row| row.connected = false);
    }

    /// True for a server that speaks before it has stored.
    #[must_use]
    pub fn is_hasty(&self) -> bool {
        self.flaw == Some(Flaw::SpeaksTooEarly)
    }

    /// When a machine next wants to hear that time has passed.
    #[must_use]
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(|entry| entry.machine.poll_timeout()).map(|(at, _)| at).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Timestamp) {
        let due = |entry: &Entry| entry.machine.poll_timeout().is_some_and(|(at, _)| at <= now);
        let due: Vec<_> =
            self.entries.iter().filter(|(_, entry)| due(entry)).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.input(&id, Input::Tick, now);
        }
        self.finish();
    }

    /// What a rollout would do.
    ///
    /// # Errors
    /// When there is no such release, or nobody can be asked.
    pub fn plan(&self, spec: &RolloutSpec, now: Timestamp) -> Result<Plan, Unheard> {
        let published = self.catalog.get(&spec.release);
        let published = published.ok_or_else(|| Unheard::NoRelease(spec.release.clone()))?;
        let others: Vec<_> = self.entries.values().map(|entry| entry.machine.summary()).collect();
        let needs = published.needs();
        let mut plan = plan(spec, &needs, &self.facts(), &others, now)?;
        plan.freezes.clone_from(&self.freezes);
        plan.expect(&spec.strategy, &needs);
        Ok(plan)
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// When there is no such release, or nobody can be asked.
    pub fn start(&mut self, spec: RolloutSpec, now: Timestamp) -> Result<(), Unheard> {
        let plan = self.plan(&spec, now)?;
        let id = spec.id.clone();
        self.plans.push((spec.clone(), plan.clone()));
        let (told, told_plan) = self.told(&spec, &plan);
        let entry = Entry::new(Rollout::start(told, told_plan, now));
        self.entries.insert(id.clone(), entry);
        self.take_over(&id, now);
        self.finish();
        Ok(())
    }

    /// A person gives an order.
    ///
    /// # Errors
    /// When there is no such rollout, or the order does not fit its state.
    pub fn order(&mut self, id: &RolloutId, order: Input, now: Timestamp) -> Result<(), Unheard> {
        let entry = self.entries.get(id).ok_or_else(|| Unheard::NoRollout(id.clone()))?;
        let mut machine = entry.machine.clone();
        if self.flaw != Some(Flaw::ForgetsFreezes) {
            machine.learn_freezes(self.freezes.clone());
        }
        let begins = !machine.has_begun();
        if begins {
            for (by, devices) in machine.contest(self.rollouts()).lost {
                machine.handle(Input::Claimed { devices, by }, now)?;
            }
        }
        machine.handle(order, now)?;
        if let Some(entry) = self.entries.get_mut(id) {
            entry.machine = machine;
        }
        if begins {
            self.take_over(id, now);
        }
        self.finish();
        Ok(())
    }

    /// As `fleet-server/src/rollouts/rivals.rs` does.
    fn take_over(&mut self, id: &RolloutId, now: Timestamp) {
        let Some(own) = self.rollout(id).filter(|own| own.has_begun()) else { return };
        for (other, devices) in own.contest(self.rollouts()).taken {
            self.input(&other, Input::Claimed { devices, by: id.clone() }, now);
        }
    }

    /// In the next turn every machine is written down and read back before its effects are performed.
    pub fn rewrite_in_next_turn(&mut self) {
        self.rewrite = Rewrite::InThisTurn;
    }

    /// Why a machine was not what was written, if that ever happened.
    #[must_use]
    pub fn misread(&self) -> Option<&str> {
        match &self.rewrite {
            Rewrite::Failed(why) => Some(why),
            Rewrite::Never | Rewrite::InThisTurn => None,
        }
    }

    /// Starts again from what is stored. What a machine had still to do is part of it.
    pub fn restart(&mut self) {
        self.rewrite = match self.write_and_read() {
            Ok(()) => Rewrite::Never,
            Err(why) => Rewrite::Failed(why),
        };
    }

    fn write_and_read(&mut self) -> Result<(), String> {
        for (id, entry) in &mut self.entries {
            if self.flaw == Some(Flaw::ForgetsAtRestart) {
                while entry.machine.poll_effect().is_some() {}
            }
            let text =
                serde_json::to_string(entry).map_err(|error| format!("{id} cannot be written: {error}"))?;
            let read: Entry =
                serde_json::from_str(&text).map_err(|error| format!("{id} cannot be read: {error}"))?;
            if read != *entry {
                return Err(format!("{id} is not what was written"));
            }
            *entry = read;
        }
        Ok(())
    }

    fn facts(&self) -> Vec<DeviceFacts> {
        let known = |release: &ReleaseId| self.catalog.get(release).is_some();
        self.rows.iter().map(|(id, row)| entry::facts(id, row, known)).collect()
    }

    /// Passes an input on, if it has a meaning there.
    fn input(&mut self, id: &RolloutId, input: Input, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(id) {
            let _ = entry.machine.handle(input, now);
        }
    }
}
