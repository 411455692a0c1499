//! Works through a period that was closed: one release after the other, and of each one feature after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use fleet_core::drift::{Watched, groups, rule};
use muster_sketch::detector::{Group, Scores};
use shared::{ModelName, ReleaseId, Timestamp, manifest::DriftSpec};
use tokio_util::sync::CancellationToken;

use super::{
    DriftConfig, Specs,
    feature::{Counted, Feature},
};
use crate::{
    app::App,
    servers::holds_lease,
    store::{Store, StoreError},
};

/// Counters that are held at one time: 128 MiB. The features of a release are taken as many at a time as that is enough for, at least
/// one; what each device counted is read once for all of them.
const COUNTERS: u64 = 1 << 24;

/// A release with its fleet.
pub(super) struct Fleet {
    pub(super) release: ReleaseId,
    pub(super) spec: Arc<DriftSpec>,
    pub(super) scores: Arc<Vec<Scores>>,
    pub(super) groups: Arc<BTreeMap<String, Vec<Group>>>,
}

/// A check under way.
struct Check<'a> {
    app: &'a Arc<App>,
    config: &'a DriftConfig,
    period: u64,
    now: Timestamp,
    stop: &'a CancellationToken,
}

/// What came of a part of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is done.
    Done,
    /// Another server holds the lease, or this one is stopping: the rest is for later.
    GivenUp,
}

/// Checks everything that was counted in `period`, which was closed at `now`.
pub(super) async fn check(
    app: &Arc<App>,
    config: &DriftConfig,
    specs: &Specs,
    period: u64,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let check = Check { app, config, period, now, stop };
    let fleets = check.fleets(specs).await?;
    let watched = watched(&fleets);
    for fleet in &fleets {
        if check.release(fleet, watched[&fleet.release.model]).await? == Progress::GivenUp {
            return Ok(());
        }
    }
    let mut tx = app.store.begin().await?;
    if holds_lease(app, &mut tx).await? {
        Store::end_drift_check(&mut tx, period, now).await?;
        tx.commit().await?;
        app.metrics.drift_checks.inc();
    }
    Ok(())
}

/// What is watched of each model, over all its releases.
fn watched(fleets: &[Fleet]) -> BTreeMap<ModelName, Watched> {
    let mut watched = BTreeMap::new();
    for fleet in fleets {
        let sum = watched.entry(fleet.release.model.clone()).or_insert(Watched { devices: 0, groups: 0 });
        let groups: BTreeSet<_> = fleet.groups.values().flatten().collect();
        sum.devices += fleet.groups.len() as u64;
        sum.groups += groups.len() as u64;
    }
    watched
}

impl Check<'_> {
    async fn fleets(&self, specs: &Specs) -> Result<Vec<Fleet>, StoreError> {
        let store = &self.app.store;
        let mut fleets = Vec::new();
        for release in store.releases_to_check(self.period).await? {
            let Some(spec) = specs.of(&release).await? else { continue };
            let scores = match spec.scores() {
                Ok(scores) => Arc::new(scores),
                Err(error) => {
                    tracing::error!(%release, %error, "a reference is of no use, and its model is not watched");
                    continue;
                }
            };
            let devices = store.drift_devices(&release, &self.config.strata, self.now).await?;
            let devices = devices.into_iter().map(|(device, strata)| (device, groups(&strata)));
            fleets.push(Fleet { release, spec, scores, groups: Arc::new(devices.collect()) });
        }
        Ok(fleets)
    }

    async fn release(&self, fleet: &Fleet, watched: Watched) -> Result<Progress, StoreError> {
        let store = &self.app.store;
        let settings = store.drift_settings(&fleet.release.model).await?.unwrap_or(self.config.settings);
        let rule = match rule(&settings, &fleet.scores, watched, self.config.check_secs) {
            Ok(rule) => rule,
            Err(error) => {
                tracing::error!(release = %fleet.release, %error, "settings make no rule, and the model is not watched");
                return Ok(Progress::Done);
            }
        };
        let orders = Arc::new(store.drift_orders(&fleet.release, self.period).await?);
        let devices = store.count_pending(&fleet.release, self.period).await?;
        for features in blocks(&fleet.scores, devices) {
            let counted = Arc::new(self.counted(fleet, &features).await?);
            for feature in features.clone() {
                if self.stop.is_cancelled() {
                    return Ok(Progress::GivenUp);
                }
                let one = Feature {
                    fleet,
                    place: feature,
                    column: feature - features.start,
                    rule,
                    suppress_secs: settings.suppress_secs,
                    orders: orders.clone(),
                    counted: counted.clone(),
                };
                if self.feature(&one).await? == Progress::GivenUp {
                    return Ok(Progress::GivenUp);
                }
            }
        }
        Ok(Progress::Done)
    }

    /// What every device counted of these features.
    async fn counted(&self, fleet: &Fleet, features: &Range<usize>) -> Result<Vec<Counted>, StoreError> {
        let mut counted = Vec::<Counted>::new();
        loop {
            let after = counted.last().map_or("", |last| &last.device);
            let page = self.app.store.pending_after(&fleet.release, self.period, after).await?;
            if page.is_empty() {
                return Ok(counted);
            }
            counted.extend(page.into_iter().map(|pending| {
                let mut all = pending.sums.features;
                all.truncate(features.end);
                let features = all.drain(features.start.min(all.len())..).collect();
                let (from_ms, to_ms) = (pending.sums.from_ms, pending.sums.to_ms);
                Counted { device: pending.device, from_ms, to_ms, features }
            }));
        }
    }

    async fn feature(&self, one: &Feature<'_>) -> Result<Progress, StoreError> {
        let known = self.app.store.drift_state(&one.fleet.release, one.name()).await?;
        if known.as_ref().is_some_and(|known| known.period >= self.period) {
            return Ok(Progress::Done);
        }
        match one.judge(known.map(|known| known.state), self.now).await {
            Some(judged) => one.store(self.app, self.period, self.now, judged).await,
            None => Ok(Progress::Done),
        }
    }
}

/// Features that are taken together: as many as there are counters for.
fn blocks(scores: &[Scores], devices: u64) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut start, mut counters) = (0, 0_u64);
    for (place, scores) in scores.iter().enumerate() {
        let more = (scores.bins() as u64).saturating_mul(devices);
        if place > start && counters.saturating_add(more) > COUNTERS {
            blocks.push(start..place);
            (start, counters) = (place, 0);
        }
        counters = counters.saturating_add(more);
    }
    if start < scores.len() {
        blocks.push(start..scores.len());
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_in_one_block_and_large_fleets_are_taken_in_parts() {
        let scores: Vec<_> = (0..10).map(|_| Scores::numeric(&[50; 32]).unwrap()).collect();
        assert_eq!(blocks(&scores, 1_000), vec![0..10]);
        assert_eq!(blocks(&scores, 200_000), [0..2, 2..4, 4..6, 6..8, 8..10]);
        assert_eq!(blocks(&scores, u64::MAX).len(), 10, "one at a time is always taken");
        assert!(blocks(&[], 5).is_empty());
    }
}
