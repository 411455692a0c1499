//! The machines in memory, and one method for each kind of turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet_core::{
    Experiment, Input, Plan, PlanError, Refusal, ReleaseNeeds, RolloutSpec, RolloutSummary, after_report,
    plan,
};
use shared::{DeviceId, ExperimentId, RolloutId, Timestamp, report::Report};
use tokio::time::Instant;

use super::{
    Greeting, Order, RolloutError, Wanted, begin::new_id, effects, entry::Entry, experiments, facts, freezes,
    guard, verdicts::Looks,
};
use crate::{
    app::App,
    store::{ReleaseRow, Store, StoreError, Tx},
};

/// The rollouts of one server.
pub(super) struct Fleet {
    pub(super) app: Arc<App>,
    pub(super) entries: BTreeMap<RolloutId, Entry>,
    /// Experiments that are not over.
    pub(super) experiments: BTreeMap<ExperimentId, Experiment>,
    pub(super) looks: Looks,
    /// The change of rollouts up to which `entries` are the newest.
    pub(super) seen_change: u64,
    /// The change of experiments up to which `experiments` are the newest.
    pub(super) seen_experiment: u64,
    /// The number of the newest event of the drift check that rollouts were told of, as far as this server knows.
    pub(super) heard_alarm: u64,
    /// The change of desired states up to which the devices of this server were told.
    pub(super) told_change: u64,
}

/// A transaction and the rollouts and experiments as they will be after it.
pub(super) struct Turn {
    pub(super) tx: Tx,
    pub(super) now: Timestamp,
    pub(super) drafts: BTreeMap<RolloutId, Entry>,
    pub(super) experiments: BTreeMap<ExperimentId, Experiment>,
}

impl Turn {
    /// The draft of an entry, made on first use.
    pub(super) fn draft(&mut self, entry: &Entry) -> &mut Entry {
        self.drafts.entry(entry.row.id.clone()).or_insert_with(|| entry.clone())
    }

    /// Passes an input on, if it has a meaning there.
    pub(super) fn input(&mut self, entry: &Entry, input: Input) {
        let now = self.now;
        note(&entry.row.id, self.draft(entry).machine.handle(input, now));
    }

    /// The same for a rollout that begins in this turn.
    pub(super) fn input_to_new(&mut self, id: &RolloutId, input: Input) {
        let now = self.now;
        if let Some(draft) = self.drafts.get_mut(id) {
            note(id, draft.machine.handle(input, now));
        }
    }

    fn report(&mut self, entry: &Entry, report: &Report) {
        // What earlier reports of this turn changed stands in the draft.
        if self.drafts.get(&entry.row.id).unwrap_or(entry).concerns(report) {
            let now = self.now;
            note(&entry.row.id, self.draft(entry).report(report, now));
        }
    }

    fn greet(&mut self, entry: &Entry, greeting: &Greeting) {
        let Greeting { device, generation, holds, utc_offset_secs } = greeting;
        if !entry.row.finished && entry.machine.includes(device) {
            let (device, utc_offset_secs) = (device.clone(), *utc_offset_secs);
            self.input(entry, Input::DeviceConnected { device, utc_offset_secs });
        }
        if entry.addressed.is_confirmed_by(device, *generation) && !holds.contains(&entry.row.release) {
            self.input(entry, Input::Confirmed { device: device.clone() });
            // Also when a newer rollout has taken the device over meanwhile, or each hello would be news.
            self.draft(entry).addressed.restored(device);
        }
    }
}

fn note(id: &RolloutId, taken: Result<(), Refusal>) {
    if let Err(refusal) = taken {
        tracing::trace!(rollout.id = %id, %refusal, "an input has no meaning");
    }
}

impl Fleet {
    /// Reads the newest rollouts, running or not: finished ones still speak for their devices. One that is over and
    /// cannot be read is left out; one that runs may not be forgotten.
    pub(super) async fn load(app: Arc<App>) -> Result<Self, StoreError> {
        let mut entries = BTreeMap::new();
        let told_change = app.store.newest_desired_change().await?;
        let seen_change = app.store.newest_rollout_change().await?;
        let unfinished = app.store.unfinished_rollouts().await?;
        for row in app.store.rollouts(u32::MAX).await?.into_iter().chain(unfinished) {
            let (id, finished) = (row.id.clone(), row.finished);
            match Entry::read(row) {
                Ok(entry) => {
                    entries.insert(id, entry);
                }
                Err(error) if finished => {
                    tracing::error!(rollout.id = %id, error = &error as &dyn std::error::Error, "a finished rollout is left out");
                }
                Err(error) => return Err(error),
            }
        }
        let looks = Looks::every(app.look_every, app.clock.now());
        let seen_experiment = app.store.newest_experiment_change().await?;
        let experiments = experiments::load(&app.store, &mut entries).await?;
        Ok(Self {
            app,
            entries,
            experiments,
            looks,
            seen_change,
            seen_experiment,
            heard_alarm: 0,
            told_change,
        })
    }

    /// When a machine next wants to hear from this server that time has passed.
    pub(super) fn next_tick(&self) -> Option<Timestamp> {
        if !self.app.lease.is_ours(Instant::now()) {
            return None;
        }
        let rollouts =
            self.entries.values().filter_map(|entry| entry.machine.poll_timeout()).map(|(at, _)| at);
        rollouts.chain(self.experiments.values().filter_map(Experiment::poll_timeout)).min()
    }

    pub(super) async fn tick(&mut self, now: Timestamp) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let due = |entry: &Entry| entry.machine.poll_timeout().is_some_and(|(at, _)| at <= now);
        let mut turn = self.turn(now).await?;
        if !self.holds_lease(&mut turn.tx).await? {
            return Ok(BTreeSet::new());
        }
        for entry in self.entries.values().filter(|entry| due(entry)) {
            turn.input(entry, Input::Tick);
        }
        self.tick_experiments(&mut turn, now);
        self.finish(turn).await
    }

    pub(super) async fn hellos(
        &mut self,
        greetings: &[Greeting],
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        self.look_at_others().await?;
        let concerned = |entry: &&Entry| !entry.row.finished || entry.addressed.is_restoring();
        if !self.entries.values().any(|entry| concerned(&entry)) {
            return Ok(BTreeSet::new());
        }
        let mut turn = self.turn(now).await?;
        for greeting in greetings {
            for entry in self.entries.values().filter(concerned) {
                turn.greet(entry, greeting);
            }
        }
        self.take_in(&mut turn, greetings, now).await?;
        self.finish(turn).await
    }

    /// Stores reports together with what follows from them.
    pub(super) async fn reports(
        &mut self,
        reports: &[Report],
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let mut turn = self.turn(now).await?;
        for report in reports {
            if Store::insert_report(&mut turn.tx, report, now).await? {
                Store::saw_generation(&mut turn.tx, &report.device, report.generation).await?;
                Store::update_models(&mut turn.tx, &report.device, now, |models| {
                    after_report(models, report)
                })
                .await?;
                let model = &report.release.model;
                for entry in self.entries.values().filter(|entry| entry.row.release.model == *model) {
                    turn.report(entry, report);
                }
            }
        }
        self.finish(turn).await
    }

    pub(super) async fn plan(&mut self, wanted: &Wanted, now: Timestamp) -> Result<Plan, RolloutError> {
        self.look_at_others().await?;
        match self.plan_wanted(wanted, &self.summaries(), now).await {
            Ok((_, plan)) => Ok(plan),
            // Whoever plans wants to see why; only a start is refused.
            Err(RolloutError::Plan(PlanError::AllBlocked(blocked))) => Ok(Plan::of_nobody(blocked, now)),
            Err(error) => Err(error),
        }
    }

    /// The rollout that is asked for, with what it would do.
    pub(super) async fn plan_wanted(
        &self,
        wanted: &Wanted,
        others: &[RolloutSummary],
        now: Timestamp,
    ) -> Result<(RolloutSpec, Plan), RolloutError> {
        let (spec, release) = self.spec(wanted, now).await?;
        let plan = self.planned(&spec, &release, others, now).await?;
        Ok((spec, plan))
    }

    pub(super) async fn start(
        &mut self,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<(RolloutId, BTreeSet<DeviceId>), RolloutError> {
        let (turn, id) = self.started(wanted, now).await?;
        Ok((id, self.finish(turn).await?))
    }

    /// A turn in which a rollout begins.
    pub(super) async fn started(
        &mut self,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<(Turn, RolloutId), RolloutError> {
        // Planned while nobody else writes, so that what the plan says still holds when it is stored.
        let mut turn = self.turn(now).await?;
        let (spec, plan) = self.plan_wanted(wanted, &self.summaries(), now).await?;
        let id = self.begin(&mut turn, spec, plan, "").await?;
        Ok((turn, id))
    }

    pub(super) async fn order(
        &mut self,
        id: &RolloutId,
        order: Order,
        by: String,
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let turn = self.ordered(id, order, by, now).await?;
        self.finish(turn).await
    }

    /// A turn in which an order is carried out.
    pub(super) async fn ordered(
        &mut self,
        id: &RolloutId,
        order: Order,
        by: String,
        now: Timestamp,
    ) -> Result<Turn, RolloutError> {
        let mut turn = self.turn(now).await?;
        let entry = self.entries.get(id).ok_or_else(|| RolloutError::NoRollout(id.clone()))?;
        let action = order.action();
        let input = order.input(by.clone());
        let mut draft = entry.clone();
        // Freezes may have changed while nobody asked anybody.
        let freezes = self.freezes().await?;
        draft.machine.learn_freezes(freezes);
        let begins = !draft.machine.has_begun();
        if begins {
            self.give_way(&mut draft, now);
            self.give_way_to_experiments(&mut draft, now);
        }
        draft.machine.handle(input, now)?;
        Store::audit(&mut turn.tx, now, &by, action, id.as_str(), "").await?;
        turn.drafts.insert(id.clone(), draft);
        if begins {
            self.take_over(&mut turn, id);
        }
        Ok(turn)
    }

    /// Begins a transaction, in which nobody else writes, with what other servers wrote before it.
    pub(super) async fn turn(&mut self, now: Timestamp) -> Result<Turn, StoreError> {
        let mut tx = self.app.store.begin().await?;
        self.catch_up(&mut tx).await?;
        Ok(Turn { tx, now, drafts: BTreeMap::new(), experiments: BTreeMap::new() })
    }

    /// Stores every draft and commits; only then the drafts take the place of what was there. Whatever fails, memory
    /// and database agree afterwards.
    pub(super) async fn finish(&mut self, mut turn: Turn) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let mut decided = self.decisions(&mut turn);
        // What experiments want of rollouts may concern further rollouts, and the other way round.
        while self.move_experiments(&mut turn).await? {
            decided.extend(self.decisions(&mut turn));
        }
        let Turn { mut tx, now, mut drafts, experiments } = turn;
        let changed = effects::perform_all(&self.app.store, &mut tx, &mut drafts, decided, now).await?;
        for draft in drafts.values_mut() {
            match effects::save(&mut tx, draft, now).await {
                Ok(()) => {}
                Err(RolloutError::Outdated) => {
                    drop(tx);
                    self.reload(drafts.into_keys()).await?;
                    return Err(RolloutError::Outdated);
                }
                Err(error) => return Err(error),
            }
        }
        let newest_experiment = Self::save_experiments(&mut tx, &experiments, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        self.keep_experiments(experiments, newest_experiment);
        self.seen_change = drafts.values().map(|entry| entry.row.change).fold(self.seen_change, u64::max);
        self.entries.append(&mut drafts);
        self.app.metrics.effects.inc_by(changed.len() as u64);
        Ok(changed)
    }

    /// Reads again what another process changed.
    async fn reload(&mut self, ids: impl Iterator<Item = RolloutId>) -> Result<(), RolloutError> {
        for id in ids {
            match self.app.store.rollout(&id).await? {
                Some(row) => self.entries.insert(id, Entry::read(row)?),
                None => self.entries.remove(&id),
            };
        }
        Ok(())
    }

    /// What planning must know of every rollout, and of experiments.
    pub(super) fn summaries(&self) -> Vec<RolloutSummary> {
        let rollouts = self.entries.values().map(|entry| entry.machine.summary());
        rollouts.chain(self.held_by_experiments()).collect()
    }

    async fn spec(&self, wanted: &Wanted, now: Timestamp) -> Result<(RolloutSpec, ReleaseRow), RolloutError> {
        let release = self.app.store.release(&wanted.release).await?;
        let release = release.ok_or_else(|| RolloutError::NoRelease(wanted.release.clone()))?;
        let spec = RolloutSpec {
            id: new_id(now),
            release: wanted.release.clone(),
            selector: wanted.selector.clone(),
            strategy: wanted.strategy.clone(),
            author: wanted.by.clone(),
            created_at: now,
        };
        Ok((spec, release))
    }

    async fn planned(
        &self,
        spec: &RolloutSpec,
        release: &ReleaseRow,
        others: &[RolloutSummary],
        now: Timestamp,
    ) -> Result<Plan, RolloutError> {
        let needs = ReleaseNeeds::of(&release.manifest()?);
        let fleet = facts::facts(&self.app.store).await?;
        let mut plan = plan(spec, &needs, &fleet, others, now)?;
        plan.freezes = freezes::freezes(&self.app.store, &fleet).await?;
        guard::approval(&mut plan, &fleet, &self.app.approval);
        plan.expect(&spec.strategy, &needs);
        Ok(plan)
    }
}
