//! Starts an experiment: deals the devices, plans the rollouts of the arms, and begins them in one transaction.

use std::collections::BTreeSet;

use fleet_core::{
    Experiment, Input, ReleaseNeeds,
    experiment::{self, Arm, Arms, ExperimentPlan, ExperimentSpec, ExperimentStatus, Ground},
};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp};

use super::{MAX_UNDER_WAY, WantedExperiment, document};
use crate::{
    rollouts::{
        RolloutError,
        begin::new_id,
        entry::Entry,
        facts,
        fleet::{Fleet, Turn},
        freezes, guard,
    },
    store::{ExperimentRow, Store},
};

impl Fleet {
    /// Starts an experiment; a trial only says what it would be.
    pub(in crate::rollouts) async fn start_experiment(
        &mut self,
        wanted: &WantedExperiment,
        trial: bool,
        now: Timestamp,
    ) -> Result<(ExperimentStatus, BTreeSet<DeviceId>), RolloutError> {
        // Planned while nobody else writes, so that what the plan says still holds when it is stored.
        let mut turn = self.turn(now).await?;
        let spec = wanted.spec(now);
        self.check_room(&spec).await?;
        let plan = self.plan_experiment(&spec, now).await?;
        let machine = Experiment::start(spec.clone(), &plan, now);
        let status = machine.status();
        if trial {
            return Ok((status, BTreeSet::new()));
        }
        if !Store::insert_experiment(&mut turn.tx, &row_of(&machine, now)).await? {
            return Err(RolloutError::ExperimentExists(spec.id));
        }
        let Arms { a, b } = &spec.releases;
        let detail = format!("{a} against {b} for {}; seed {}", spec.selector, spec.seed);
        Store::audit(&mut turn.tx, now, &spec.author, "experiment.start", spec.id.as_str(), &detail).await?;
        self.leave_still(&mut turn, &machine);
        for (arm, plan) in plan.arms {
            if let Some((rollout, plan)) = plan.rollout {
                let why = format!(", arm {arm} of experiment {}", spec.id);
                self.begin(&mut turn, rollout, plan, &why).await?;
            }
        }
        turn.experiments.insert(spec.id, machine);
        Ok((status, self.finish(turn).await?))
    }

    async fn check_room(&self, spec: &ExperimentSpec) -> Result<(), RolloutError> {
        if self.app.store.experiment(&spec.id).await?.is_some() {
            return Err(RolloutError::ExperimentExists(spec.id.clone()));
        }
        if self.experiments.len() >= MAX_UNDER_WAY {
            return Err(RolloutError::TooManyExperiments(MAX_UNDER_WAY));
        }
        Ok(())
    }

    async fn plan_experiment(
        &self,
        spec: &ExperimentSpec,
        now: Timestamp,
    ) -> Result<ExperimentPlan, RolloutError> {
        let fleet = facts::facts(&self.app.store).await?;
        let id = new_id(now);
        let rollout =
            |arm: &str| RolloutId::new(format!("{id}-{arm}")).expect("a short name with a letter behind it");
        let ground = Ground {
            needs: Arms { a: self.needs(&spec.releases.a).await?, b: self.needs(&spec.releases.b).await? },
            rollouts: Arms { a: rollout("a"), b: rollout("b") },
            fleet: &fleet,
            others: &self.summaries(),
            taken: &self.in_experiments(spec.model()),
        };
        let mut planned = experiment::plan(spec, &ground, now).map_err(Box::new)?;
        let freezes = freezes::freezes(&self.app.store, &fleet).await?;
        for arm in Arm::BOTH {
            if let Some((_, plan)) = &mut planned.arms.get_mut(arm).rollout {
                plan.freezes.clone_from(&freezes);
                guard::approval(plan, &fleet, &self.app.approval);
            }
        }
        Ok(planned)
    }

    async fn needs(&self, release: &ReleaseId) -> Result<ReleaseNeeds, RolloutError> {
        let row = self.app.store.release(release).await?;
        let row = row.ok_or_else(|| RolloutError::NoRelease(release.clone()))?;
        Ok(ReleaseNeeds::of(&row.manifest()?))
    }

    /// Has weaker rollouts that would still ask devices which stay with what they run leave those out. One that has not begun
    /// gives way when it begins, if the experiment is the stronger one then.
    fn leave_still(&self, turn: &mut Turn, machine: &Experiment) {
        let (model, rank) = (machine.spec().model(), machine.rank());
        let asks = |entry: &Entry| {
            let (priority, created_at, _) = entry.machine.rank();
            let is_weaker = (priority, created_at) < rank && entry.machine.has_begun();
            is_weaker && !entry.row.finished && entry.row.release.model == *model
        };
        for entry in self.entries.values().filter(|entry| asks(entry)) {
            for device in machine.still().filter(|device| entry.machine.includes(device)) {
                turn.input(entry, Input::Withdrawn { device: device.clone() });
            }
        }
    }
}

fn row_of(machine: &Experiment, now: Timestamp) -> ExperimentRow {
    let spec = machine.spec();
    ExperimentRow {
        id: spec.id.clone(),
        model: spec.model().clone(),
        state: document(machine),
        phase: machine.state().word().to_owned(),
        finished: machine.is_over(),
        change: 0,
        created_by: spec.author.clone(),
        created_at: now,
        changed_at: now,
    }
}
