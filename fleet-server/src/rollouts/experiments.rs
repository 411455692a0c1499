//! Experiments: started together with the rollouts of their arms, moved on in every turn that changes one of those.
//!
//! An experiment decides nothing by itself here. In the transaction that stores what rollouts became it hears how the rollouts
//! of its arms stand, and what it wants of them is done in the same transaction ([`Fleet::move_experiments`]).

mod carry;
mod looks;
mod start;

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{
    Experiment, Input, RolloutSummary, Selector, Strategy,
    experiment::{self, Arm, Arms, AtEnd, ExperimentSpec, ExperimentStatus, Rules, seed_of},
};
use shared::{DeviceId, ExperimentId, ModelName, ReleaseId, RolloutId, Timestamp};

use super::{
    RolloutError,
    entry::Entry,
    fleet::{Fleet, Turn},
};
use crate::store::{ExperimentRow, Store, StoreError, Tx};

/// Experiments that may be under way, at most: each has its own judge, which takes a part of every look.
const MAX_UNDER_WAY: usize = 32;

/// An experiment that is asked for.
#[derive(Debug, Clone)]
pub struct WantedExperiment {
    /// Its name.
    pub id: ExperimentId,
    /// What each arm shall run.
    pub releases: Arms<ReleaseId>,
    /// Whose devices are dealt.
    pub selector: Selector,
    /// Percentage of the able devices that each arm gets.
    pub shares: Arms<u32>,
    /// Decides who is in which arm; made of the name when absent.
    pub seed: Option<u64>,
    /// How the arms are compared.
    pub rules: Rules,
    /// How long it lasts at most.
    pub max_duration_secs: u64,
    /// What becomes of the devices at the end.
    pub at_end: AtEnd,
    /// How devices are brought their release.
    pub strategy: Strategy,
    /// Who asks.
    pub by: String,
}

/// A person ends an experiment.
#[derive(Debug, Clone)]
pub struct StopExperiment {
    /// Which.
    pub id: ExperimentId,
    /// Why.
    pub reason: String,
    /// Whether the devices that it moved go back, whatever was said at the start.
    pub restore: bool,
    /// Who asks.
    pub by: String,
}

impl WantedExperiment {
    fn spec(&self, now: Timestamp) -> ExperimentSpec {
        ExperimentSpec {
            id: self.id.clone(),
            releases: self.releases.clone(),
            selector: self.selector.clone(),
            shares: self.shares,
            seed: self.seed.unwrap_or_else(|| seed_of(&self.id)),
            rules: self.rules.clone(),
            max_duration_secs: self.max_duration_secs,
            at_end: self.at_end,
            strategy: self.strategy.clone(),
            author: self.by.clone(),
            created_at: now,
        }
    }
}

/// The experiment of a row as people and programs see it.
///
/// # Errors
/// When a newer program wrote the row.
pub fn experiment_status(row: &ExperimentRow) -> Result<ExperimentStatus, StoreError> {
    Ok(read_experiment(row)?.status())
}

/// The experiment of a row.
///
/// # Errors
/// When a newer program wrote the row.
pub fn read_experiment(row: &ExperimentRow) -> Result<Experiment, StoreError> {
    serde_json::from_str(&row.state)
        .map_err(|error| StoreError::Corrupt { what: "experiment", detail: error.to_string() })
}

/// Reads the experiments that are not over, and those rollouts of their arms that are older than what is kept in memory: they may
/// still have to go back.
pub(super) async fn load(
    store: &Store,
    entries: &mut BTreeMap<RolloutId, Entry>,
) -> Result<BTreeMap<ExperimentId, Experiment>, StoreError> {
    let mut experiments = BTreeMap::new();
    for row in store.unfinished_experiments().await? {
        let experiment = read_experiment(&row)?;
        for id in Arm::BOTH.into_iter().filter_map(|arm| experiment.rollout(arm)) {
            if !entries.contains_key(id)
                && let Some(row) = store.rollout(id).await?
            {
                entries.insert(id.clone(), Entry::read(row)?);
            }
        }
        experiments.insert(row.id, experiment);
    }
    Ok(experiments)
}

/// The text of the column `state`.
fn document(experiment: &Experiment) -> String {
    serde_json::to_string(experiment).expect("a machine is texts, numbers and collections")
}

impl Fleet {
    /// Ends an experiment; a trial only says what it would be then.
    pub(super) async fn stop_experiment(
        &mut self,
        stop: &StopExperiment,
        trial: bool,
        now: Timestamp,
    ) -> Result<(ExperimentStatus, BTreeSet<DeviceId>), RolloutError> {
        let mut turn = self.turn(now).await?;
        let StopExperiment { id, reason, restore, by } = stop.clone();
        let Some(known) = self.experiments.get(&id) else { return Err(self.over_or_missing(&id).await) };
        let mut draft = known.clone();
        let stop = experiment::Input::Stop { by: by.clone(), reason: reason.clone(), restore };
        draft.handle(stop, now).map_err(RolloutError::ExperimentRefused)?;
        let status = draft.status();
        if trial {
            return Ok((status, BTreeSet::new()));
        }
        Store::audit(&mut turn.tx, now, &by, "experiment.stop", id.as_str(), &reason).await?;
        turn.experiments.insert(id, draft);
        Ok((status, self.finish(turn).await?))
    }

    /// Only those under way are at hand.
    async fn over_or_missing(&self, id: &ExperimentId) -> RolloutError {
        match self.app.store.experiment(id).await {
            Ok(None) => RolloutError::NoExperiment(id.clone()),
            Ok(Some(row)) => RolloutError::ExperimentOver { id: id.clone(), phase: row.phase },
            Err(error) => error.into(),
        }
    }

    /// What planning a rollout must know of experiments that are not over: the devices of their arms.
    pub(super) fn held_by_experiments(&self) -> impl Iterator<Item = RolloutSummary> {
        self.experiments.values().filter_map(Experiment::summary)
    }

    /// The same as it will be after the turn.
    fn held_in<'a>(&'a self, turn: &'a Turn) -> impl Iterator<Item = RolloutSummary> + 'a {
        let known = self.experiments.iter().filter(|(id, _)| !turn.experiments.contains_key(*id));
        known.map(|(_, known)| known).chain(turn.experiments.values()).filter_map(Experiment::summary)
    }

    /// Devices of experiments with a model.
    fn in_experiments(&self, model: &ModelName) -> BTreeMap<DeviceId, ExperimentId> {
        let of_model = self.experiments.values().filter(|experiment| experiment.spec().model() == model);
        let devices = |experiment: &Experiment| {
            let id = experiment.id().clone();
            experiment.devices().map(|device| (device.clone(), id.clone())).collect::<Vec<_>>()
        };
        of_model.flat_map(devices).collect()
    }

    /// Has a rollout that begins leave out the devices of experiments of a higher rank.
    pub(super) fn give_way_to_experiments(&self, own: &mut Entry, now: Timestamp) {
        let (priority, created_at, id) = own.machine.rank();
        let (rank, id) = ((priority, created_at), id.clone());
        let model = own.row.release.model.clone();
        let stronger = |experiment: &&Experiment| {
            let is_own = Arm::BOTH.iter().any(|arm| experiment.rollout(*arm) == Some(&id));
            !is_own && *experiment.spec().model() == model && experiment.rank() > rank
        };
        for experiment in self.experiments.values().filter(stronger) {
            for device in experiment.devices() {
                if own.machine.includes(device) {
                    // It takes part, or nobody would have to leave it out.
                    let _ = own.machine.handle(Input::Withdrawn { device: device.clone() }, now);
                }
            }
        }
    }

    /// Reads what other servers changed.
    pub(super) async fn catch_up_experiments(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        for row in Store::experiments_changed(tx, self.seen_experiment).await? {
            self.seen_experiment = row.change;
            if row.finished {
                self.experiments.remove(&row.id);
            } else {
                self.experiments.insert(row.id.clone(), read_experiment(&row)?);
            }
        }
        Ok(())
    }

    /// Stores what became of experiments in a turn.
    pub(super) async fn save_experiments(
        tx: &mut Tx,
        drafts: &BTreeMap<ExperimentId, Experiment>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut newest = 0;
        for (id, draft) in drafts {
            let next = (&*document(draft), draft.state().word(), draft.is_over());
            newest = Store::save_experiment(tx, id, next, now).await?;
        }
        Ok(newest)
    }

    /// Puts what was stored in the place of what was there. What is over is not needed any more.
    pub(super) fn keep_experiments(&mut self, mut drafts: BTreeMap<ExperimentId, Experiment>, newest: u64) {
        self.seen_experiment = self.seen_experiment.max(newest);
        self.experiments.append(&mut drafts);
        self.experiments.retain(|_, experiment| !experiment.is_over());
    }

    /// Tells experiments that the time is over.
    pub(super) fn tick_experiments(&self, turn: &mut Turn, now: Timestamp) {
        let due = |experiment: &&Experiment| experiment.poll_timeout().is_some_and(|at| at <= now);
        for experiment in self.experiments.values().filter(due) {
            turn.experiment_input(experiment, experiment::Input::Tick);
        }
    }
}

impl Turn {
    /// Passes an input on to an experiment, if it has a meaning there.
    pub(super) fn experiment_input(&mut self, experiment: &Experiment, input: experiment::Input) {
        let now = self.now;
        let draft = self.experiments.entry(experiment.id().clone()).or_insert_with(|| experiment.clone());
        if let Err(refusal) = draft.handle(input, now) {
            tracing::trace!(experiment.id = %experiment.id(), %refusal, "an input has no meaning");
        }
    }
}
