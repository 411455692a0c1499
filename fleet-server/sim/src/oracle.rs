//! What may never be, and what must come to pass.
//!
//! The oracle looks after every event, knows nothing of how cores decide and keeps books of its own: plans as they were
//! made, desired states as they were written, reports as they were stored, and what honest devices have.
//!
//! **Safety.** Generations grow, and each names one version of a model · only devices of waves that were reached are asked,
//! once, and none that the plan left out · nobody is asked unless the rollout runs · a wave begins only after the one before it
//! bore its failures, kept something and was watched · drift of a release stops its rollouts, or nobody new is asked before a
//! person has decided, as their strategies want · every device stands in exactly one outcome, and none without a
//! report that says so · a device takes only what was asked of it, never an older generation, keeps nothing bad, condemns
//! nothing good, and is never without its committed version.
//!
//! **Liveness.** Once faults have ceased, within the time that the story gives: every rollout has ended or says what it waits
//! for, every device that can be reached has what it shall have or has said why not, the books of the server agree with the devices,
//! and nobody is left on a release that was rolled back.
//!
//! **Rivals.** Of each device it keeps the list of the rollouts that asked it, newest last, without those that gave it back. What
//! it goes back to stands in that list or was there at its enrolment, and no weaker rollout asks while a stronger one wants it.

mod books;
mod device;
mod drift;
mod end;
mod rivals;
mod rollout;

use std::{collections::BTreeMap, fmt};

use fleet_core::{DriftAlarm, Event, Plan, RolloutSpec};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp, report::Report};

use crate::{
    device::VirtualDevice,
    server::{Server, Write},
    story::Character,
};

use books::{Account, Dossier};

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// By whom and how.
    pub detail: String,
}

/// What a turn of the server brought.
#[derive(Debug)]
pub struct News {
    pub(crate) plans: Vec<(RolloutSpec, Plan)>,
    pub(crate) writes: Vec<Write>,
    pub(crate) events: Vec<(RolloutId, Event)>,
    pub(crate) reports: Vec<Report>,
    pub(crate) alarms: Vec<(ReleaseId, DriftAlarm)>,
}

/// Looks at a world.
#[derive(Debug)]
pub struct Oracle {
    rollouts: BTreeMap<RolloutId, Account>,
    devices: BTreeMap<DeviceId, Dossier>,
}

impl Violation {
    pub(crate) fn new(rule: &'static str, detail: String) -> Self {
        Self { rule, detail }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}; {}", self.rule, self.detail)
    }
}

impl News {
    pub(crate) fn of(server: &mut Server) -> Self {
        Self {
            plans: server.take_plans(),
            writes: server.take_writes(),
            events: server.take_events(),
            reports: server.take_reports(),
            alarms: server.take_alarms(),
        }
    }

    fn is_empty(&self) -> bool {
        self.plans.is_empty()
            && self.writes.is_empty()
            && self.events.is_empty()
            && self.reports.is_empty()
            && self.alarms.is_empty()
    }
}

impl Oracle {
    /// Knows a world at its beginning.
    pub fn new<'a>(
        server: &Server,
        devices: impl Iterator<Item = (&'a DeviceId, &'a VirtualDevice, Character)>,
    ) -> Self {
        let dossier = |(id, device, character): (&DeviceId, &VirtualDevice, Character)| {
            (id.clone(), Dossier::new(server, id, device, character))
        };
        Self { rollouts: BTreeMap::new(), devices: devices.map(dossier).collect() }
    }

    /// A device was enrolled.
    pub fn note_enrolment(&mut self, server: &Server, id: &DeviceId) {
        if let Some(dossier) = self.devices.get_mut(id) {
            dossier.note_enrolment(server, id);
        }
    }

    /// A turn of the server is over.
    ///
    /// # Errors
    /// When a rule was broken.
    pub fn look_at_server(&mut self, server: &Server, news: &News, now: Timestamp) -> Result<(), Violation> {
        if let Some(why) = server.misread() {
            return Err(Violation::new("a machine is what was written of it", why.into()));
        }
        if news.is_empty() {
            return Ok(());
        }
        for (spec, plan) in &news.plans {
            self.note_plan(spec, plan);
        }
        for report in &news.reports {
            self.note_report(report);
        }
        for (id, event) in &news.events {
            self.note_event(id, event);
        }
        for account in self.rollouts.values_mut() {
            account.freezes = server.freezes().to_vec();
        }
        for write in &news.writes {
            self.check_write(server, write)?;
        }
        for (id, event) in &news.events {
            self.check_event(server, id, event, now)?;
        }
        for (release, alarm) in &news.alarms {
            self.check_alarm(server, release, alarm)?;
        }
        self.check_outcomes(server)
    }
}
