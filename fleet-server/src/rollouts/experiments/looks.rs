//! The part of experiments in every look: the judge of each learns what its arms did, and the evidence is kept.

use std::collections::BTreeMap;

use fleet_core::{
    Experiment,
    experiment::{self, ArmsJudge, Standing},
    verdict::{Intervals, Period},
};
use shared::{ModelName, Timestamp};

use crate::{
    rollouts::{
        fleet::{Fleet, Turn},
        verdicts::Happened,
    },
    store::{ExperimentLookRow, Store, StoreError, Tx},
};

/// Begins to compare: the judge learns from what the devices did until now.
pub(super) async fn open(turn: &mut Turn, experiment: &Experiment) -> Result<(), StoreError> {
    let id = experiment.id();
    let mut intervals = Intervals::default();
    let mut history = Vec::new();
    for (number, tally) in Store::tallies_of(&mut turn.tx, experiment.spec().model()).await? {
        let look = experiment.look(number, &intervals.advance(&tally), Period::Before);
        history.extend((!look.devices.is_empty()).then_some(look));
    }
    let judge = match ArmsJudge::start(&experiment.spec().rules, &experiment.cohorts(), &history) {
        Ok(judge) => judge,
        Err(error) => {
            // The rules were checked when the experiment was planned; without a judge it ends undecided.
            tracing::error!(experiment.id = %id, %error, "the arms cannot be compared");
            return Ok(());
        }
    };
    Store::save_experiment_judge(&mut turn.tx, id, &judge).await?;
    for look in history {
        let row = ExperimentLookRow { at: turn.now, look, record: None };
        Store::insert_experiment_look(&mut turn.tx, id, &row).await?;
    }
    Ok(())
}

impl Fleet {
    /// Lets every experiment whose arms are compared judge a look.
    pub(in crate::rollouts) async fn look_at_experiments(
        &self,
        turn: &mut Turn,
        number: u64,
        happened: &BTreeMap<ModelName, Happened>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let nothing = Happened::new();
        for experiment in self.experiments.values().filter(|experiment| experiment.is_comparing()) {
            let happened = happened.get(experiment.spec().model()).unwrap_or(&nothing);
            if let Some(standing) = judge(&mut turn.tx, experiment, number, happened, now).await? {
                turn.experiment_input(experiment, experiment::Input::Judged { standing: Box::new(standing) });
            }
        }
        Ok(())
    }
}

/// Shows a look to the judge of an experiment.
async fn judge(
    tx: &mut Tx,
    experiment: &Experiment,
    number: u64,
    happened: &Happened,
    now: Timestamp,
) -> Result<Option<Standing>, StoreError> {
    let id = experiment.id();
    let Some(mut judge) = Store::experiment_judge(tx, id).await? else { return Ok(None) };
    let look = experiment.look(number, happened, Period::Since);
    let Ok(record) = judge.observe(&look) else { return Ok(None) };
    let standing = record.standing();
    Store::insert_experiment_look(tx, id, &ExperimentLookRow { at: now, look, record: Some(record) }).await?;
    Store::save_experiment_judge(tx, id, &judge).await?;
    Ok(Some(standing))
}
