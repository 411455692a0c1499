//! Works through a period that was closed: one model after the other, and of each one feature after the other, over all its versions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet_core::drift::{DriftSettings, Order, Watched, groups, rule};
use muster_sketch::detector::{FleetRule, Group, Scores};
use shared::{ModelName, ReleaseId, Timestamp, manifest::DriftSpec};
use tokio_util::sync::CancellationToken;

use super::{
    aside::Aside,
    feature::{Counted, Feature, OfVersion},
};
use crate::{
    app::App,
    servers::holds_lease,
    store::{Store, StoreError},
};

/// Counters that are held at one time: 128 MiB. The features of a model are taken as many at a time as that is enough for, at least
/// one; what each device counted is read once for all of them.
const COUNTERS: u64 = 1 << 24;

/// A release with its fleet.
pub(super) struct Fleet {
    pub(super) release: ReleaseId,
    pub(super) spec: Arc<DriftSpec>,
    pub(super) scores: Vec<Scores>,
    pub(super) groups: BTreeMap<String, Vec<Group>>,
    /// With the period of each.
    pub(super) orders: Vec<(u64, Order)>,
    /// Sums of devices that wait.
    devices: u64,
}

/// A check under way.
pub(super) struct Check<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) period: u64,
    pub(super) now: Timestamp,
    pub(super) stop: &'a CancellationToken,
}

/// What came of a part of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is done.
    Done,
    /// Another server holds the lease, or this one is stopping: the rest is for later.
    GivenUp,
}

impl Fleet {
    /// The place of a feature in the reference.
    fn place_of(&self, feature: &str) -> Option<usize> {
        self.spec.reference.features().iter().position(|known| known.name == feature)
    }
}

impl Check<'_> {
    /// Checks everything that was counted in the period.
    pub(super) async fn run(&self) -> Result<(), StoreError> {
        let mut aside = Aside::default();
        for (model, fleets) in self.fleets(&mut aside).await? {
            if self.model(&model, fleets, &mut aside).await? == Progress::GivenUp {
                return Ok(());
            }
        }
        let mut tx = self.app.store.begin().await?;
        if holds_lease(self.app, &mut tx).await? {
            let given_up = Store::end_drift_check(&mut tx, self.period, aside.releases(), self.now).await?;
            tx.commit().await?;
            self.app.metrics.drift_checks.inc();
            self.app.metrics.drift_left_out("period", given_up);
        }
        Ok(())
    }

    async fn fleets(&self, aside: &mut Aside) -> Result<BTreeMap<ModelName, Vec<Arc<Fleet>>>, StoreError> {
        let mut fleets = BTreeMap::<_, Vec<_>>::new();
        for release in self.app.store.releases_to_check(self.period).await? {
            let fleet = self.fleet(&release, aside).await;
            if let Some(fleet) = aside.of(&release, fleet)?.flatten() {
                fleets.entry(release.model).or_default().push(Arc::new(fleet));
            }
        }
        Ok(fleets)
    }

    /// Nothing of a release that is not watched, or not of use.
    async fn fleet(&self, release: &ReleaseId, aside: &mut Aside) -> Result<Option<Fleet>, StoreError> {
        let store = &self.app.store;
        let Some(spec) = self.app.specs.of(release).await? else { return Ok(None) };
        let scores = match spec.scores() {
            Ok(scores) => scores,
            Err(error) => {
                aside.put(release, &error);
                return Ok(None);
            }
        };
        let known = store.drift_devices(release, &self.app.drift.strata, self.now).await?;
        let groups = known.into_iter().map(|(device, strata)| (device, groups(&strata))).collect();
        let orders = store.drift_orders(release, self.period).await?;
        let devices = store.count_pending(release, self.period).await?;
        Ok(Some(Fleet { release: release.clone(), spec, scores, groups, orders, devices }))
    }

    async fn model(
        &self,
        model: &ModelName,
        fleets: Vec<Arc<Fleet>>,
        aside: &mut Aside,
    ) -> Result<Progress, StoreError> {
        let settings = match self.app.store.drift_settings(model).await {
            Ok(settings) => settings.unwrap_or(self.app.drift.settings),
            Err(error @ StoreError::Corrupt { .. }) => {
                fleets.iter().for_each(|fleet| aside.put(&fleet.release, &error));
                return Ok(Progress::Done);
            }
            Err(error) => return Err(error),
        };
        let rules = self.rules(&settings, &fleets, aside);
        for features in chunks(&costs(&fleets)) {
            let mut of = BTreeMap::<String, Vec<OfVersion>>::new();
            for (fleet, rule) in fleets.iter().zip(&rules) {
                let Some(rule) = *rule else { continue };
                let places = features.iter().filter_map(|name| Some((name, fleet.place_of(name)?)));
                let (names, places): (Vec<_>, Vec<_>) = places.unzip();
                let counted = self.counted(fleet, &places).await;
                let Some(counted) = aside.of(&fleet.release, counted)?.map(Arc::new) else { continue };
                for (column, (name, place)) in names.into_iter().zip(places).enumerate() {
                    let (fleet, counted) = (fleet.clone(), counted.clone());
                    let one = OfVersion { fleet, place, column, rule, counted };
                    of.entry(name.clone()).or_default().push(one);
                }
            }
            for (name, versions) in of {
                let feature = Feature { name, versions, suppress_secs: settings.suppress_secs };
                if self.stop.is_cancelled() || feature.check(self, aside).await? == Progress::GivenUp {
                    return Ok(Progress::GivenUp);
                }
            }
        }
        Ok(Progress::Done)
    }

    /// What makes an alarm of each release; nothing of one that cannot be watched, which is left aside.
    fn rules(
        &self,
        settings: &DriftSettings,
        fleets: &[Arc<Fleet>],
        aside: &mut Aside,
    ) -> Vec<Option<FleetRule>> {
        let groups = |fleet: &Fleet| fleet.groups.values().flatten().collect::<BTreeSet<_>>().len() as u64;
        let watched = Watched {
            devices: fleets.iter().map(|fleet| fleet.groups.len() as u64).sum(),
            groups: fleets.iter().map(|fleet| groups(fleet)).sum(),
            versions: fleets.len() as u64,
        };
        let check_secs = self.app.drift.check_secs;
        let rule = |fleet: &Arc<Fleet>| {
            let rule = rule(settings, &fleet.scores, watched, check_secs);
            rule.inspect_err(|error| aside.put(&fleet.release, error)).ok()
        };
        fleets.iter().map(rule).collect()
    }

    /// What every device counted of the features at these places, in their order.
    async fn counted(&self, fleet: &Fleet, places: &[usize]) -> Result<Vec<Counted>, StoreError> {
        let mut counted = Vec::<Counted>::new();
        loop {
            let after = counted.last().map_or(("", 0), |last| (last.device.as_str(), last.period));
            let page = self.app.store.pending_after(&fleet.release, self.period, after).await?;
            if page.is_empty() {
                return Ok(counted);
            }
            counted.extend(page.into_iter().map(|pending| {
                let all = &pending.sums.features;
                let features = places.iter().filter_map(|&place| all.get(place).cloned()).collect();
                let (from_ms, to_ms) = (pending.sums.from_ms, pending.sums.to_ms);
                Counted { device: pending.device, period: pending.period, from_ms, to_ms, features }
            }));
        }
    }
}

/// The features of a model in the order of its oldest version, and how many counters each takes.
fn costs(fleets: &[Arc<Fleet>]) -> Vec<(String, u64)> {
    let mut costs = Vec::<(String, u64)>::new();
    for fleet in fleets {
        for (feature, scores) in fleet.spec.reference.features().iter().zip(&fleet.scores) {
            let more = (scores.bins() as u64).saturating_mul(fleet.devices);
            match costs.iter_mut().find(|(name, _)| *name == feature.name) {
                Some((_, cost)) => *cost = cost.saturating_add(more),
                None => costs.push((feature.name.clone(), more)),
            }
        }
    }
    costs
}

/// Features that are taken together: as many as there are counters for.
fn chunks(costs: &[(String, u64)]) -> Vec<Vec<String>> {
    let mut chunks = Vec::<Vec<String>>::new();
    let mut counters = u64::MAX;
    for (name, cost) in costs {
        counters = counters.saturating_add(*cost);
        if counters > COUNTERS {
            chunks.push(vec![]);
            counters = *cost;
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(name.clone());
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_taken_once_and_large_fleets_in_parts() {
        let sizes = |cost: u64| {
            let costs: Vec<_> = (0..10).map(|n| (format!("f-{n}"), cost)).collect();
            let chunks = chunks(&costs);
            assert_eq!(chunks.concat(), costs.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
            chunks.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(0), [10]);
        assert_eq!(sizes(COUNTERS / 10), [10]);
        assert_eq!(sizes(COUNTERS / 4), [4, 4, 2]);
        assert_eq!(sizes(u64::MAX), [1; 10], "one at a time is always taken");
        assert!(chunks(&[]).is_empty());
    }
}
