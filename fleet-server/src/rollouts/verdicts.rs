//! Takes looks at the metrics of waves, lets the judge of each say what they mean, and keeps the evidence.
//!
//! At each look the sums of every device that did something are written down; two of them tell what happened in between.
//! All of a look is one transaction with what follows from it, so a server that dies in it takes it once more, and the
//! next server goes on from what is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    Input,
    strategy::MAX_JUDGED_SECS,
    verdict::{CanaryJudge, Cohorts, Intervals, MetricVerdict, Period, VerdictPolicy, look_at, tallies},
};
use shared::{DeviceId, ModelName, ReleaseId, Timestamp, Version};
use tokio::time::Instant;

use super::{RolloutError, entry::Entry, fleet::Fleet};
use crate::store::{ComparisonRow, LookRow, Opening, Store, StoreError, Tx};

/// How far back a judge learns what is normal: a day has every hour once.
const HISTORY: Duration = Duration::from_secs(86_400);

/// Evidence is kept for a quarter of a year.
pub(super) const KEPT: Duration = Duration::from_secs(90 * 86_400);

/// A wave is judged for so long after its devices have settled; what is not known by then needs a person, and each look is kept.
const JUDGED_FOR: Duration = Duration::from_secs(MAX_JUDGED_SECS);

/// What happened in an interval, by device and version.
pub(super) type Happened = BTreeMap<DeviceId, BTreeMap<Version, fleet_core::verdict::Figures>>;

/// The looks that were taken.
#[derive(Debug)]
pub(super) struct Looks {
    /// Time between two.
    every: Duration,
    /// The newest that this server tried to take.
    tried: u64,
    /// The number of the last one, and what it counted; read from the database when another server took it.
    last: Option<u64>,
    intervals: BTreeMap<ModelName, Intervals>,
}

impl Looks {
    /// The first one is due when the interval that `now` falls into is over.
    pub(super) fn every(every: Duration, now: Timestamp) -> Self {
        let mut looks = Self { every, tried: 0, last: None, intervals: BTreeMap::new() };
        looks.tried = looks.number(now);
        looks
    }

    /// The look that `now` falls into; numbers grow with time, also over restarts.
    fn number(&self, now: Timestamp) -> u64 {
        now.as_millis() / self.millis()
    }

    fn start_of(&self, number: u64) -> Timestamp {
        Timestamp(number.saturating_mul(self.millis()))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Makes sure that the last look is the one that the database knows last.
    async fn catch_up(&mut self, tx: &mut Tx) -> Result<(), StoreError> {
        let newest = Store::newest_tally(tx).await?;
        if newest == self.last {
            return Ok(());
        }
        // Whatever fails below, the next look reads it all again.
        self.last = None;
        self.intervals.clear();
        for (model, tallies) in Store::tallies(tx).await? {
            let intervals = self.intervals.entry(model).or_default();
            for (_, tally) in &tallies {
                intervals.advance(tally);
            }
        }
        self.last = newest;
        Ok(())
    }

    /// Writes down what devices did since the last look, and tells what that was.
    async fn take(&mut self, tx: &mut Tx, number: u64) -> Result<BTreeMap<ModelName, Happened>, StoreError> {
        // Sums of a device that changed while the last look was taken are read once more; that adds nothing.
        let from = self.last.map_or(Timestamp::default(), |last| self.start_of(last));
        // Nobody knows whether this will be stored, so until then the next look begins with reading what is.
        self.last = None;
        let mut happened = BTreeMap::new();
        for (model, tally) in tallies(Store::figures_since(tx, from).await?) {
            Store::insert_tally(tx, &model, number, &tally).await?;
            let intervals = self.intervals.entry(model.clone()).or_default();
            happened.insert(model, intervals.advance(&tally));
        }
        let kept = u64::try_from(HISTORY.as_millis()).unwrap_or(u64::MAX).div_ceil(self.millis());
        Store::trim_tallies(tx, number.saturating_sub(kept)).await?;
        Ok(happened)
    }
}

impl Fleet {
    /// When this server is to take the next look; one that nobody took in time is left out.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        let is_ours = self.app.lease.is_ours(Instant::now());
        is_ours.then(|| self.looks.start_of(self.looks.tried.saturating_add(1)))
    }

    /// Takes a look, and lets every wave that is compared judge it.
    pub(super) async fn look(&mut self, now: Timestamp) -> Result<BTreeSet<DeviceId>, RolloutError> {
        let number = self.looks.number(now);
        self.looks.tried = number;
        let mut turn = self.turn(now).await?;
        if !self.holds_lease(&mut turn.tx).await? {
            return Ok(BTreeSet::new());
        }
        self.looks.catch_up(&mut turn.tx).await?;
        if self.looks.last.is_some_and(|last| number <= last) {
            return Ok(BTreeSet::new());
        }
        let happened = self.looks.take(&mut turn.tx, number).await?;
        for entry in self.entries.values() {
            let nothing = Happened::new();
            let happened = happened.get(&entry.row.release.model).unwrap_or(&nothing);
            if let Some((wave, verdict)) = judge(&mut turn.tx, entry, number, happened, now).await? {
                turn.input(entry, Input::Judged { wave, verdict });
            }
        }
        self.look_at_experiments(&mut turn, number, &happened, now).await?;
        let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let oldest = Timestamp(now.as_millis().saturating_sub(kept));
        Store::trim_looks(&mut turn.tx, oldest).await?;
        Store::trim_experiment_looks(&mut turn.tx, oldest).await?;
        let changed = self.finish(turn).await?;
        self.looks.last = Some(number);
        Ok(changed)
    }
}

/// Shows a look to the judge of the wave under way.
async fn judge(
    tx: &mut Tx,
    entry: &Entry,
    number: u64,
    happened: &Happened,
    now: Timestamp,
) -> Result<Option<(usize, MetricVerdict)>, StoreError> {
    let Some(wave) = entry.machine.compared_wave() else { return Ok(None) };
    let Some(mut row) = Store::comparison(tx, &entry.row.id, wave).await? else { return Ok(None) };
    let settled_long_ago = entry.machine.watched_since(wave).is_some_and(|since| since + JUDGED_FOR <= now);
    // One that never settles is judged for as long as its looks are kept.
    if settled_long_ago || row.opened_at + KEPT <= now {
        return Ok(None);
    }
    let look = look_at(number, happened, &row.opening.cohorts, row.opening.candidate, Period::Since);
    let look = look.judged_by(&row.opening.policy);
    let Ok(record) = row.judge.observe(&look) else { return Ok(None) };
    let verdict = record.verdict.clone();
    Store::insert_look(tx, &row.rollout, wave, &LookRow { at: now, look, record: Some(record) }).await?;
    Store::save_comparison(tx, &row).await?;
    Ok(Some((wave, verdict)))
}

/// Begins to compare a wave: the judge learns from what the devices did until now.
pub(super) async fn open(
    tx: &mut Tx,
    entry: &Entry,
    wave: usize,
    cohorts: Cohorts,
    policy: VerdictPolicy,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ReleaseId { model, version: candidate } = entry.row.release.clone();
    let mut intervals = Intervals::default();
    let mut history = Vec::new();
    for (number, tally) in Store::tallies_of(tx, &model).await? {
        let look = look_at(number, &intervals.advance(&tally), &cohorts, candidate, Period::Before);
        history.extend((!look.devices.is_empty()).then(|| look.judged_by(&policy)));
    }
    let judge = match CanaryJudge::start(policy.clone(), cohorts.clone(), &history) {
        Ok(judge) => judge,
        Err(error) => {
            // The strategy was checked when the rollout was planned; without a verdict the wave is held in the end.
            tracing::error!(rollout.id = %entry.row.id, %error, "the metrics of a wave cannot be judged");
            return Ok(());
        }
    };
    let opening = Opening { candidate, cohorts, policy };
    let row = ComparisonRow { rollout: entry.row.id.clone(), wave, opening, judge, opened_at: now };
    Store::save_comparison(tx, &row).await?;
    for look in history {
        Store::insert_look(tx, &row.rollout, wave, &LookRow { at: now, look, record: None }).await?;
    }
    Ok(())
}
