//! One feature of a model: what is known of it under each version is read, judged, and stored with what follows.

use std::sync::Arc;

use fleet_core::drift::{
    Brought, Checked, FeatureState, FeatureStatus, Look, Outcome, Version, check_versions, reconcile,
};
use muster_sketch::{detector::FleetRule, window::FeatureCounts};
use shared::{ReleaseId, Timestamp};

use super::{
    check::{Check, Fleet, Progress},
    event::{Told, save, tell},
};
use crate::{
    app::App,
    servers::holds_lease,
    store::{DriftState, Packed, Store, StoreError, Tx},
};

/// A feature under every version of a model that is checked.
pub(super) struct Feature {
    pub(super) name: String,
    pub(super) versions: Vec<OfVersion>,
    pub(super) suppress_secs: u64,
}

/// A feature under one version, and everything that it is judged by.
#[derive(Clone)]
pub(super) struct OfVersion {
    pub(super) fleet: Arc<Fleet>,
    /// Its place in the reference.
    pub(super) place: usize,
    /// Its place among the features that were read with it.
    pub(super) column: usize,
    pub(super) rule: FleetRule,
    pub(super) counted: Arc<Vec<Counted>>,
}

/// What a device counted of some features.
pub(super) struct Counted {
    pub(super) device: String,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) features: Vec<FeatureCounts>,
}

/// What is known of a version after a check, and what it showed.
type Judged = (Packed, Outcome);

impl Counted {
    fn of(&self, column: usize) -> Option<Brought<'_>> {
        let Self { device, from_ms, to_ms, features } = self;
        Some(Brought { device, from_ms: *from_ms, to_ms: *to_ms, counts: features.get(column)? })
    }
}

impl Feature {
    pub(super) async fn check(&self, check: &Check<'_>) -> Result<Progress, StoreError> {
        let mut known = Vec::new();
        for version in &self.versions {
            let state = check.app.store.drift_state(&version.fleet.release, &self.name).await?;
            // All versions are stored together.
            if state.as_ref().is_some_and(|state| state.period >= check.period) {
                return Ok(Progress::Done);
            }
            known.push(state.map(|state| state.state));
        }
        let judged = self.judge(known, check.now).await;
        self.store(check, judged).await
    }

    /// Lets the core decide, on a thread that may take its time. Nothing of what broke, which was logged.
    async fn judge(&self, known: Vec<Option<Packed>>, now: Timestamp) -> Vec<Option<Judged>> {
        let (versions, count) = (self.versions.clone(), self.versions.len());
        let judging = tokio::task::spawn_blocking(move || judge(&versions, known, now));
        match judging.await {
            Ok(judged) => judged,
            Err(error) => {
                tracing::error!(feature = self.name, %error, "the check of a feature broke");
                (0..count).map(|_| None).collect()
            }
        }
    }

    /// Stores what is known now with everything that follows, in one transaction.
    async fn store(&self, check: &Check<'_>, judged: Vec<Option<Judged>>) -> Result<Progress, StoreError> {
        let app = check.app;
        let mut tx = app.store.begin().await?;
        if !holds_lease(app, &mut tx).await? {
            return Ok(Progress::GivenUp);
        }
        let mut told = Told::default();
        for (version, judged) in self.versions.iter().zip(judged) {
            let release = &version.fleet.release;
            if Store::drift_state_period(&mut tx, release, &self.name).await? >= check.period {
                return Ok(Progress::Done);
            }
            let Some((state, outcome)) = judged else { continue };
            let status = self.tell_of(&mut tx, release, outcome, check.now, &mut told).await?;
            let known = DriftState { period: check.period, state };
            Store::save_drift_state(&mut tx, release, &self.name, &known, &status).await?;
            count_left_out(app, &status);
        }
        tx.commit().await?;
        tell(app, &told);
        Ok(Progress::Done)
    }

    /// Stores the alarms that follow from what a check showed; new ones are told.
    async fn tell_of(
        &self,
        tx: &mut Tx,
        release: &ReleaseId,
        Outcome { found, mut status }: Outcome,
        now: Timestamp,
        told: &mut Told,
    ) -> Result<FeatureStatus, StoreError> {
        let since = Timestamp(now.as_millis().saturating_sub(1_000 * self.suppress_secs));
        let known = Store::known_alarms(tx, release, &self.name, since).await?;
        let open = Store::count_open_alarms(tx, &release.model).await?;
        let room = Store::MAX_OPEN_ALARMS.saturating_sub(open);
        let reconciled = reconcile(known, found, now, self.suppress_secs, room);
        status.findings_left_out = reconciled.left_out;
        save(tx, release, reconciled, now, told).await?;
        Ok(status)
    }
}

fn judge(versions: &[OfVersion], known: Vec<Option<Packed>>, now: Timestamp) -> Vec<Option<Judged>> {
    let brought: Vec<Vec<_>> = versions
        .iter()
        .map(|version| version.counted.iter().filter_map(|counted| counted.of(version.column)).collect())
        .collect();
    let inputs = versions.iter().zip(known).zip(&brought).map(|((version, known), brought)| {
        let Fleet { spec, scores, groups, orders, .. } = &*version.fleet;
        let (feature, scores) = (&spec.reference.features()[version.place], &scores[version.place]);
        let look = Look { feature, scores, rule: &version.rule, groups, now };
        Version { look, state: known.and_then(|known| read(version, &known)), orders, brought }
    });
    let checked = check_versions(inputs.collect());
    versions.iter().zip(checked).map(|(version, checked)| pack(version, checked)).collect()
}

/// Nothing when it cannot be read: then the devices learn anew.
fn read(version: &OfVersion, known: &Packed) -> Option<FeatureState> {
    let known = known.read("state of detectors");
    known
        .inspect_err(|error| {
            let (release, place) = (&version.fleet.release, version.place);
            tracing::error!(%release, place, %error, "what was known of a feature cannot be read; devices learn anew");
        })
        .ok()
}

fn pack(version: &OfVersion, checked: Checked) -> Option<Judged> {
    let (release, place) = (&version.fleet.release, version.place);
    if let Some(error) = checked.lost {
        tracing::error!(%release, place, %error, "what was known of a feature is of no use; devices learn anew");
    }
    match checked.outcome {
        Ok(outcome) => Some((Packed::of(&checked.state), outcome)),
        Err(error) => {
            tracing::error!(%release, place, %error, "what devices counted of a feature is of no use");
            None
        }
    }
}

fn count_left_out(app: &App, status: &FeatureStatus) {
    let left_out = [
        ("device", status.devices_left_out),
        ("group", status.groups_left_out),
        ("finding", status.findings_left_out),
    ];
    left_out.into_iter().for_each(|(what, count)| app.metrics.drift_left_out(what, count as u64));
}
