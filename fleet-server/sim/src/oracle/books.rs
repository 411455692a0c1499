//! What the oracle writes down.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{Freeze, Plan, RolloutSpec, State};
use shared::{
    DeviceId, Generation, ModelName, ReleaseId, RolloutId, Timestamp,
    report::{DeploymentEvent, Report, RollbackReason},
};

use super::Oracle;
use crate::{
    device::VirtualDevice,
    server::{Purpose, Server, Write},
    story::Character,
};

/// A rollout.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) spec: RolloutSpec,
    /// Wave of each device.
    pub(super) waves: BTreeMap<DeviceId, usize>,
    /// Devices of each wave.
    pub(super) sizes: Vec<usize>,
    pub(super) bake_secs: Vec<u64>,
    pub(super) blocked: BTreeSet<DeviceId>,
    /// The desired state by which each device was asked.
    pub(super) asked: BTreeMap<DeviceId, Generation>,
    /// What devices said of it since they were asked.
    pub(super) said: BTreeMap<DeviceId, Said>,
    /// The latest wave that was reached.
    pub(super) reached: usize,
    /// How often each device was asked.
    pub(super) times: BTreeMap<DeviceId, u32>,
    /// How often a person wanted devices to be asked again.
    pub(super) retried: u32,
    /// Devices that joined late.
    pub(super) late: BTreeSet<DeviceId>,
    /// When devices were asked in the last minute.
    pub(super) pace: Vec<Timestamp>,
    /// Times in which nobody is asked.
    pub(super) freezes: Vec<Freeze>,
    /// Waves that need approval, and those that have it.
    pub(super) approvals: BTreeSet<usize>,
    pub(super) approved: BTreeSet<usize>,
    /// Waves that a person let pass.
    pub(super) promoted: BTreeSet<usize>,
    /// Waves that had the release when it was found to drift.
    pub(super) alarmed: BTreeSet<usize>,
    /// Until when a wave is watched.
    pub(super) baking: BTreeMap<usize, Timestamp>,
}

/// What a device said of a release since it was asked.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) committed: bool,
    pub(super) rejected: bool,
    pub(super) failed: bool,
    pub(super) rolled_back: bool,
    /// Refused it or went back from it, for a reason that speaks against it.
    pub(super) condemned: bool,
    pub(super) superseded: bool,
    /// A newer rollout took it over.
    pub(super) left: bool,
}

/// A device.
#[derive(Debug)]
pub(super) struct Dossier {
    pub(super) character: Character,
    /// What each desired state of it named, by its number.
    pub(super) desired: BTreeMap<Generation, Vec<ReleaseId>>,
    /// What it had when it was enrolled.
    pub(super) enrolled_with: Vec<ReleaseId>,
    /// The rollouts that asked it and did not give it back, newest last, and what each of them brought.
    pub(super) asks: Vec<(RolloutId, ReleaseId)>,
    /// The newest generation that it has verified.
    pub(super) generation: Generation,
    pub(super) committed: Vec<ReleaseId>,
    pub(super) candidates: Vec<ReleaseId>,
    pub(super) wakes: (Timestamp, u32),
}

impl Account {
    pub(super) fn new(spec: &RolloutSpec, plan: &Plan) -> Self {
        let numbered = plan.waves.iter().enumerate();
        let waves = numbered.flat_map(|(wave, it)| it.devices.iter().map(move |d| (d.device.clone(), wave)));
        Self {
            spec: spec.clone(),
            waves: waves.collect(),
            sizes: plan.waves.iter().map(|wave| wave.devices.len()).collect(),
            bake_secs: plan.waves.iter().map(|wave| wave.bake_time_secs).collect(),
            blocked: plan.blocked.iter().map(|blocked| blocked.device.clone()).collect(),
            asked: BTreeMap::new(),
            said: BTreeMap::new(),
            reached: 0,
            times: BTreeMap::new(),
            retried: 0,
            late: BTreeSet::new(),
            pace: vec![],
            freezes: plan.freezes.clone(),
            approvals: (0..plan.waves.len()).filter(|wave| plan.waves[*wave].approve).collect(),
            approved: BTreeSet::new(),
            promoted: BTreeSet::new(),
            alarmed: BTreeSet::new(),
            baking: BTreeMap::new(),
        }
    }

    pub(super) fn members(&self, wave: usize) -> impl Iterator<Item = &DeviceId> {
        self.waves.iter().filter(move |(_, of)| **of == wave).map(|(device, _)| device)
    }

    fn note(&mut self, report: &Report) {
        let since = self.asked.get(&report.device);
        if report.release != self.spec.release || since.is_none_or(|since| report.generation < *since) {
            return;
        }
        self.said.entry(report.device.clone()).or_default().note(&report.event);
    }
}

impl Said {
    fn note(&mut self, event: &DeploymentEvent) {
        match event {
            DeploymentEvent::Committed { .. } => self.committed = true,
            DeploymentEvent::Rejected(_) => {
                self.rejected = true;
                self.condemn();
            }
            DeploymentEvent::Failed(_) => self.failed = true,
            DeploymentEvent::RolledBack(reason) => {
                self.rolled_back = true;
                if *reason != RollbackReason::Ordered {
                    self.condemn();
                }
            }
            DeploymentEvent::Superseded => self.superseded = true,
            DeploymentEvent::Transferring { .. }
            | DeploymentEvent::Staged { .. }
            | DeploymentEvent::SelfTested(_)
            | DeploymentEvent::Probation => {}
        }
    }

    /// Who said that it is no longer asked has left the rollout, and its later failures are no business of it.
    fn condemn(&mut self) {
        self.condemned |= !self.superseded && !self.left;
    }
}

impl Dossier {
    pub(super) fn new(server: &Server, id: &DeviceId, device: &VirtualDevice, character: Character) -> Self {
        let mut dossier = Self {
            character,
            desired: BTreeMap::new(),
            enrolled_with: vec![],
            asks: vec![],
            generation: device.agent().ledger().generation,
            committed: committed(device),
            candidates: vec![],
            wakes: (Timestamp(0), 0),
        };
        dossier.note_enrolment(server, id);
        dossier
    }

    pub(super) fn note_enrolment(&mut self, server: &Server, id: &DeviceId) {
        if let Some(row) = server.row(id) {
            let named = row.desired.assignments.iter().map(|named| named.release.clone());
            self.enrolled_with = named.collect();
            self.desired.insert(row.desired.generation, self.enrolled_with.clone());
        }
    }

    /// What it should have of a model: what the newest rollout brought that asked it and was not rolled back, or what it
    /// had before all of them.
    pub(super) fn in_force(&self, server: &Server, model: &ModelName) -> Option<&ReleaseId> {
        let of_model = |release: &&ReleaseId| release.model == *model;
        let stands = |id: &RolloutId| server.rollout(id).is_some_and(|rollout| !takes_back(rollout.state()));
        let asks = self.asks.iter().rev().filter(|(id, _)| stands(id)).map(|(_, release)| release);
        asks.chain(&self.enrolled_with).find(of_model)
    }

    pub(super) fn note_write(&mut self, write: &Write, release: &ReleaseId) {
        let named = write.desired.assignments.iter().map(|named| named.release.clone());
        self.desired.insert(write.desired.generation, named.collect());
        self.asks.retain(|(id, _)| *id != write.rollout);
        if write.purpose == Purpose::Ask {
            self.asks.push((write.rollout.clone(), release.clone()));
        }
    }
}

/// True for a rollout that takes its release away from everybody.
pub(super) fn takes_back(state: &State) -> bool {
    matches!(state, State::RollingBack { .. } | State::RolledBack { .. })
}

impl Oracle {
    pub(super) fn note_plan(&mut self, spec: &RolloutSpec, plan: &Plan) {
        self.rollouts.insert(spec.id.clone(), Account::new(spec, plan));
    }

    /// Who is asked by one rollout has left the others of its model, and is theirs again when it is given back.
    pub(super) fn note_who_has(&mut self, write: &Write, release: &ReleaseId) {
        let named = |account: &Account| {
            write.desired.assignments.iter().any(|named| named.release == account.spec.release)
        };
        let others = self.rollouts.values_mut().filter(|account| account.spec.id != write.rollout);
        for account in others.filter(|account| account.spec.release.model == release.model) {
            let is_back = write.purpose == Purpose::Restore && named(account);
            if let Some(said) = account.said.get_mut(&write.device) {
                said.left = (said.left || write.purpose == Purpose::Ask) && !is_back;
            } else if write.purpose == Purpose::Ask && account.asked.contains_key(&write.device) {
                account.said.entry(write.device.clone()).or_default().left = true;
            }
        }
    }

    pub(super) fn note_report(&mut self, report: &Report) {
        self.rollouts.values_mut().for_each(|account| account.note(report));
    }
}

/// What a device keeps.
pub(super) fn committed(device: &VirtualDevice) -> Vec<ReleaseId> {
    let records = device.agent().ledger().models.values();
    records.filter_map(|record| Some(record.committed.as_ref()?.release.clone())).collect()
}

/// What is on its way to a device.
pub(super) fn candidates(device: &VirtualDevice) -> Vec<ReleaseId> {
    let records = device.agent().ledger().models.values();
    records.filter_map(|record| Some(record.candidate.as_ref()?.installed.release.clone())).collect()
}
