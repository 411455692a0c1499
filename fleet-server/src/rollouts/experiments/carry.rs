//! Tells experiments how the rollouts of their arms stand, and does with those what experiments decide.

use fleet_core::{
    Experiment, Input, Rollout,
    experiment::{self, Arm, Carrying, Effect, Event},
};
use shared::{ExperimentId, RolloutId};

use super::looks;
use crate::{
    rollouts::{
        RolloutError, Wanted,
        entry::Entry,
        fleet::{Fleet, Turn},
    },
    store::{Store, StoreError},
};

impl Fleet {
    /// Lets every experiment that a turn concerns move on. What one wants of rollouts may concern another one, so this goes
    /// on until nothing changes: each time round at least one experiment hears something new, and each hears of a rollout at
    /// most that it began, went on, was done or stopped. True when one of them wanted anything.
    pub(in crate::rollouts) async fn move_experiments(&self, turn: &mut Turn) -> Result<bool, RolloutError> {
        let mut any_moved = false;
        loop {
            for (experiment, arm, how) in self.news(turn) {
                turn.experiment_input(&experiment, experiment::Input::Carried { arm, how });
            }
            let ids: Vec<ExperimentId> = turn.experiments.keys().cloned().collect();
            let mut moved = false;
            for id in ids {
                while let Some(effect) = turn.experiments.get_mut(&id).and_then(Experiment::poll_effect) {
                    moved = true;
                    self.perform(turn, &id, effect).await?;
                }
            }
            if !moved {
                return Ok(any_moved);
            }
            any_moved = true;
        }
    }

    /// How rollouts of arms stand that a turn changed, where that is news.
    fn news(&self, turn: &Turn) -> Vec<(Experiment, Arm, Carrying)> {
        let known = self.experiments.iter().filter(|(id, _)| !turn.experiments.contains_key(*id));
        let all = known.map(|(_, experiment)| experiment).chain(turn.experiments.values());
        let mut news = Vec::new();
        for experiment in all.filter(|experiment| !experiment.is_over()) {
            for arm in Arm::BOTH {
                let Some(draft) = experiment.rollout(arm).and_then(|id| turn.drafts.get(id)) else {
                    continue;
                };
                let how = Carrying::of(&draft.machine);
                if experiment.carrying(arm) != Some(&how) {
                    news.push((experiment.clone(), arm, how));
                }
            }
        }
        news
    }

    async fn perform(&self, turn: &mut Turn, id: &ExperimentId, effect: Effect) -> Result<(), RolloutError> {
        let Some(experiment) = turn.experiments.get(id).cloned() else { return Ok(()) };
        let by = format!("experiment:{id}");
        match effect {
            Effect::Compare => looks::open(turn, &experiment).await?,
            Effect::RollBack { arm } => self.order_arm(turn, &experiment, arm, Input::Rollback { by }),
            Effect::Halt { arm } => {
                let reason = "the experiment is over".to_owned();
                self.order_arm(turn, &experiment, arm, Input::Halt { by, reason });
            }
            Effect::Adopt { arm } => {
                let adopted = self.adopt(turn, &experiment, arm).await?;
                turn.experiment_input(&experiment, adopted);
            }
            Effect::Announce(event) => announce(turn, id, &event).await?,
        }
        Ok(())
    }

    fn order_arm(&self, turn: &mut Turn, experiment: &Experiment, arm: Arm, input: Input) {
        let Some(id) = experiment.rollout(arm) else { return };
        let entry: Option<Entry> = turn.drafts.get(id).or_else(|| self.entries.get(id)).cloned();
        match entry {
            Some(entry) => turn.input(&entry, input),
            None => {
                tracing::error!(experiment.id = %experiment.id(), rollout.id = %id, "there is no such rollout")
            }
        }
    }

    /// Starts the rollout of the winner as its author would have: with the same strategy and the approval that it needs.
    async fn adopt(
        &self,
        turn: &mut Turn,
        experiment: &Experiment,
        arm: Arm,
    ) -> Result<experiment::Input, RolloutError> {
        let spec = experiment.spec();
        let wanted = Wanted {
            release: spec.releases.get(arm).clone(),
            selector: spec.selector.clone(),
            strategy: spec.strategy.clone(),
            by: spec.author.clone(),
        };
        // As they will be after this turn: an arm that goes back is nothing to come from.
        let others: Vec<_> = self.machines(turn).map(Rollout::summary).chain(self.held_in(turn)).collect();
        match self.plan_wanted(&wanted, &others, turn.now).await {
            Ok((rollout, plan)) => {
                let why = format!(", the winner of experiment {}", spec.id);
                let rollout: RolloutId = self.begin(turn, rollout, plan, &why).await?;
                Ok(experiment::Input::Adopted { rollout })
            }
            Err(RolloutError::Plan(why)) => Ok(experiment::Input::NotAdopted { why: why.to_string() }),
            Err(error) => Err(error),
        }
    }
}

/// Every event is kept for those who follow; it also enters the audit log.
async fn announce(turn: &mut Turn, id: &ExperimentId, event: &Event) -> Result<(), StoreError> {
    let now = turn.now;
    Store::insert_event(&mut turn.tx, now, "experiment", id.as_str(), event).await?;
    let audited = match event {
        Event::Started { .. } => None,
        Event::Comparing => Some(("experiment.compare", String::new())),
        Event::Ended { end } => Some(("experiment.end", end.to_string())),
        Event::AdoptionStarted { rollout } => Some(("experiment.adopt", rollout.to_string())),
        Event::NotAdopted { why } => Some(("experiment.not_adopted", why.clone())),
    };
    if let Some((action, detail)) = audited {
        Store::audit(&mut turn.tx, now, &format!("experiment:{id}"), action, id.as_str(), &detail).await?;
    }
    Ok(())
}
