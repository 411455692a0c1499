//! The machines in memory, and one method for each kind of turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet_core::{Input, Plan, ReleaseNeeds, Rollout, RolloutSpec, plan};
use shared::{DeviceId, RolloutId, Timestamp, report::Report};
use uuid::Uuid;

use super::{
    Order, RolloutError, Wanted, effects,
    entry::{Entry, document},
    facts,
};
use crate::{
    app::App,
    store::{NewRollout, ReleaseRow, Store, StoreError, Tx},
};

/// The rollouts of one server.
pub(super) struct Fleet {
    pub(super) app: Arc<App>,
    entries: BTreeMap<RolloutId, Entry>,
}

/// Rollouts that a turn has changed in memory and not yet stored.
type Touched = BTreeSet<RolloutId>;

impl Fleet {
    /// Reads the newest rollouts, running or not: finished ones still speak for their devices.
    pub(super) async fn load(app: Arc<App>) -> Result<Self, StoreError> {
        let mut entries = BTreeMap::new();
        let unfinished = app.store.unfinished_rollouts().await?;
        for row in app.store.rollouts().await?.into_iter().chain(unfinished) {
            entries.insert(row.id.clone(), Entry::read(row)?);
        }
        Ok(Self { app, entries })
    }

    /// When a machine next wants to hear that time has passed.
    pub(super) fn next_tick(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(|entry| entry.machine.poll_timeout()).map(|(at, _)| at).min()
    }

    pub(super) async fn tick(&mut self, now: Timestamp) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let due = |entry: &Entry| entry.machine.poll_timeout().is_some_and(|(at, _)| at <= now);
        let touched: Touched =
            self.entries.iter().filter(|(_, entry)| due(entry)).map(|(id, _)| id.clone()).collect();
        let tx = self.app.store.begin().await?;
        for id in &touched {
            self.input(id, Input::Tick, now);
        }
        self.finish(tx, touched, now).await
    }

    pub(super) async fn connected(
        &mut self,
        devices: &[DeviceId],
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        if self.running().is_empty() {
            return Ok(BTreeSet::new());
        }
        let tx = self.app.store.begin().await?;
        let mut touched = Touched::new();
        for device in devices {
            for id in self.running() {
                let input = Input::DeviceConnected { device: device.clone() };
                if self.input(&id, input, now) {
                    touched.insert(id);
                }
            }
        }
        self.finish(tx, touched, now).await
    }

    /// Stores reports together with what follows from them.
    pub(super) async fn reports(
        &mut self,
        reports: &[Report],
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let mut tx = self.app.store.begin().await?;
        let mut touched = Touched::new();
        for report in reports {
            if Store::insert_report(&mut tx, report, now).await? {
                Store::saw_generation(&mut tx, &report.device, report.generation).await?;
                Store::update_models(&mut tx, &report.device, now, |models| {
                    facts::after_report(models, report)
                })
                .await?;
                touched.extend(self.feed(report, now));
            }
        }
        self.finish(tx, touched, now).await
    }

    fn feed(&mut self, report: &Report, now: Timestamp) -> Vec<RolloutId> {
        let model = &report.release.model;
        let mut touched = Vec::new();
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.row.release.model == *model) {
            match entry.report(report, now) {
                Ok(()) => touched.push(id.clone()),
                Err(refusal) => {
                    tracing::trace!(rollout.id = %id, %refusal, "a report is about something else")
                }
            }
        }
        touched
    }

    pub(super) async fn plan(&self, wanted: &Wanted, now: Timestamp) -> Result<Plan, RolloutError> {
        let (spec, release) = self.spec(wanted, now).await?;
        self.planned(&spec, &release, now).await
    }

    pub(super) async fn start(
        &mut self,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<(RolloutId, BTreeSet<DeviceId>), RolloutError> {
        let (spec, release) = self.spec(wanted, now).await?;
        let plan = self.planned(&spec, &release, now).await?;
        let id = spec.id.clone();
        let supersedes = plan.supersedes.clone();
        let machine = Rollout::start(spec, plan, now);
        let new = NewRollout {
            id: id.clone(),
            release: wanted.release.clone(),
            state: document(&machine, &BTreeMap::new()),
            phase: machine.state().word().to_owned(),
            created_by: wanted.by.clone(),
        };
        let mut tx = self.app.store.begin().await?;
        Store::insert_rollout(&mut tx, &new, now).await?;
        let detail = format!("{} to {}", wanted.release, wanted.selector);
        Store::audit(&mut tx, now, &wanted.by, "rollout.start", id.as_str(), &detail).await?;
        self.entries.insert(id.clone(), entry_of(new, machine, now));
        let mut touched = Touched::from([id.clone()]);
        for taken in supersedes {
            let input = Input::Superseded { device: taken.device, by: id.clone() };
            if self.input(&taken.rollout, input, now) {
                touched.insert(taken.rollout);
            }
        }
        let changed = self.finish(tx, touched, now).await?;
        Ok((id, changed))
    }

    pub(super) async fn order(
        &mut self,
        id: &RolloutId,
        order: Order,
        by: String,
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let entry = self.entries.get_mut(id).ok_or_else(|| RolloutError::NoRollout(id.clone()))?;
        let (action, input) = match order {
            Order::Pause => ("rollout.pause", Input::Pause { by: by.clone() }),
            Order::Resume => ("rollout.resume", Input::Resume { by: by.clone() }),
            Order::Halt { reason } => ("rollout.order_halt", Input::Halt { by: by.clone(), reason }),
            Order::Rollback => ("rollout.order_rollback", Input::Rollback { by: by.clone() }),
        };
        let mut tx = self.app.store.begin().await?;
        entry.machine.handle(input, now)?;
        Store::audit(&mut tx, now, &by, action, id.as_str(), "").await?;
        self.finish(tx, Touched::from([id.clone()]), now).await
    }

    /// Stores every touched rollout and commits. Whatever fails, memory and database agree afterwards.
    async fn finish(
        &mut self,
        tx: Tx,
        touched: Touched,
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let stored = self.store(tx, &touched, now).await;
        match &stored {
            Ok(changed) => {
                self.app.metrics.effects.inc_by(changed.len() as u64);
            }
            Err(_) => self.reload(&touched).await?,
        }
        stored
    }

    async fn store(
        &mut self,
        mut tx: Tx,
        touched: &Touched,
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let mut changed = BTreeSet::new();
        for id in touched {
            if let Some(entry) = self.entries.get_mut(id) {
                changed.extend(effects::store(&self.app.store, &mut tx, entry, now).await?);
            }
        }
        tx.commit().await.map_err(StoreError::from)?;
        Ok(changed)
    }

    async fn reload(&mut self, touched: &Touched) -> Result<(), RolloutError> {
        for id in touched {
            match self.app.store.rollout(id).await? {
                Some(row) => self.entries.insert(id.clone(), Entry::read(row)?),
                None => self.entries.remove(id),
            };
        }
        Ok(())
    }

    /// Passes an input on; false when it has no meaning there and changed nothing.
    fn input(&mut self, id: &RolloutId, input: Input, now: Timestamp) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        let taken = entry.machine.handle(input, now);
        if let Err(refusal) = &taken {
            tracing::trace!(rollout.id = %id, %refusal, "an input has no meaning");
        }
        taken.is_ok()
    }

    fn running(&self) -> Vec<RolloutId> {
        self.entries.values().filter(|entry| !entry.row.finished).map(|entry| entry.row.id.clone()).collect()
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
        now: Timestamp,
    ) -> Result<Plan, RolloutError> {
        let needs = ReleaseNeeds::of(&release.manifest()?);
        let fleet = facts::facts(&self.app.store).await?;
        let others: Vec<_> = self.entries.values().map(|entry| entry.machine.summary()).collect();
        Ok(plan(spec, &needs, &fleet, &others, now)?)
    }
}

fn entry_of(new: NewRollout, machine: Rollout, now: Timestamp) -> Entry {
    let row = crate::store::RolloutRow {
        id: new.id,
        release: new.release,
        state: String::new(),
        phase: new.phase,
        finished: false,
        revision: 1,
        created_by: new.created_by,
        created_at: now,
        changed_at: now,
    };
    Entry { row, machine, generations: BTreeMap::new() }
}

/// Sorts by time, and a person can say it on the telephone: `20260131-084500-1f3a`.
fn new_id(now: Timestamp) -> RolloutId {
    let seconds = i64::try_from(now.as_millis() / 1_000).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let random = Uuid::new_v4().simple().to_string();
    let text = format!("{}-{}", moment.strftime("%Y%m%d-%H%M%S"), &random[..4]);
    RolloutId::new(text).expect("digits, letters and dashes are allowed in names")
}
