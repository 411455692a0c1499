//! One feature of a model: what is known of it under each version is read, judged, and stored with what follows.

use std::{borrow::Cow, sync::Arc};

use fleet_core::drift::{
    Brought, Checked, Company, FeatureState, FeatureStatus, Look, Order, Outcome, Version, check_versions,
    reconcile,
};
use muster_sketch::{
    detector::{FleetError, FleetRule},
    window::{CountsError, FeatureCounts},
};
use shared::{ReleaseId, Timestamp};
use thiserror::Error;

use super::{
    aside::Aside,
    check::{Check, Fleet, Progress},
    event::{Told, save, tell},
    renewed::Renewed,
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

/// What a device counted of some features in a period.
pub(super) struct Counted {
    pub(super) device: String,
    pub(super) period: u64,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) features: Vec<FeatureCounts>,
}

/// What is known of a version after a check, and what it showed; or why that cannot be said.
type Judged = Result<(Packed, Outcome), NotJudged>;

/// A version cannot be judged.
#[derive(Debug, Clone, Error)]
enum NotJudged {
    #[error("what devices counted of feature {0} is of no use: {1}")]
    Useless(String, String),
    #[error("feature {0} was checked for other versions of the model and not for this one")]
    Behind(String),
    #[error("the check of feature {0} broke: {1}")]
    Broke(String, String),
}

impl Feature {
    pub(super) async fn check(&self, check: &Check<'_>, aside: &mut Aside) -> Result<Progress, StoreError> {
        let mut known = Vec::new();
        for version in &self.versions {
            known.push(check.app.store.drift_state(&version.fleet.release, &self.name).await?);
        }
        // All versions are stored together, but for those that could not be judged then, which wait for the next check.
        let is_done =
            |known: &Option<DriftState>| known.as_ref().is_some_and(|known| known.period >= check.period);
        if known.iter().any(is_done) {
            let behind = self.versions.iter().zip(&known).filter(|(_, known)| !is_done(known));
            let why = NotJudged::Behind(self.name.clone());
            behind.for_each(|(version, _)| aside.put(&version.fleet.release, &why));
            return Ok(Progress::Done);
        }
        let judged = self.judge(known, self.company(aside), check.now).await;
        self.store(check, judged, aside).await
    }

    /// A version that was left aside is not among those that are judged, and its devices may have moved as well.
    fn company(&self, aside: &Aside) -> Company {
        let is_here = |release: &ReleaseId| self.versions.iter().any(|of| of.fleet.release == *release);
        let is_of_model =
            |release: &ReleaseId| self.versions.iter().any(|of| of.fleet.release.model == release.model);
        let mut missing = aside.releases().iter().filter(|release| is_of_model(release) && !is_here(release));
        if missing.next().is_some() { Company::Incomplete } else { Company::Complete }
    }

    /// Lets the core decide, on a thread that may take its time.
    async fn judge(&self, known: Vec<Option<DriftState>>, company: Company, now: Timestamp) -> Vec<Judged> {
        let (versions, name) = (self.versions.clone(), self.name.clone());
        let judging = tokio::task::spawn_blocking(move || judge(&name, &versions, known, company, now));
        judging.await.unwrap_or_else(|error| {
            let broke = NotJudged::Broke(self.name.clone(), error.to_string());
            self.versions.iter().map(|_| Err(broke.clone())).collect()
        })
    }

    /// Stores what is known now with everything that follows, in one transaction.
    async fn store(
        &self,
        check: &Check<'_>,
        judged: Vec<Judged>,
        aside: &mut Aside,
    ) -> Result<Progress, StoreError> {
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
            let (state, outcome) = match judged {
                Ok(judged) => judged,
                Err(error) => {
                    aside.put(release, &error);
                    continue;
                }
            };
            // Alarms are read before anything is written, so what cannot be read leaves nothing half-written behind.
            let status = self.tell_of(&mut tx, release, outcome, check.now, &mut told).await;
            let Some(status) = aside.of(release, status)? else { continue };
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

fn judge(
    name: &str,
    versions: &[OfVersion],
    known: Vec<Option<DriftState>>,
    company: Company,
    now: Timestamp,
) -> Vec<Judged> {
    let since: Vec<_> = known.iter().map(|known| known.as_ref().map_or(0, |known| known.period)).collect();
    let sums: Vec<_> = versions.iter().zip(&since).map(|(version, since)| sums(version, *since)).collect();
    let brought: Vec<Vec<_>> =
        sums.iter().map(|sums| sums.iter().flatten().map(Sum::brought).collect()).collect();
    let orders = versions.iter().zip(&since).map(|(version, since)| orders(version, *since));
    let orders: Vec<Vec<_>> = orders.collect();
    let inputs = versions.iter().zip(known).zip(brought.iter().zip(&orders)).map(|((version, known), of)| {
        let Fleet { spec, scores, groups, .. } = &*version.fleet;
        let (feature, scores) = (&spec.reference.features()[version.place], &scores[version.place]);
        let look = Look { feature, scores, rule: &version.rule, groups, now };
        let state = known.and_then(|known| read(version, &known.state));
        Version { look, state, orders: of.1, brought: of.0 }
    });
    let company = if sums.iter().all(Result::is_ok) { company } else { Company::Incomplete };
    let checked = check_versions(inputs.collect(), company);
    let useless = |error: String| NotJudged::Useless(name.to_owned(), error);
    let judged = versions.iter().zip(checked).zip(&sums).map(|((version, checked), sums)| {
        sums.as_ref().map_err(|error| useless(error.to_string()))?;
        pack(version, checked).map_err(|error| useless(error.to_string()))
    });
    judged.collect()
}

/// What a device counted of a feature since it was checked last: of one period, or of several where its release could not be checked.
struct Sum<'a> {
    device: &'a str,
    from_ms: u64,
    to_ms: u64,
    counts: Cow<'a, FeatureCounts>,
}

impl Sum<'_> {
    fn brought(&self) -> Brought<'_> {
        Brought { device: self.device, from_ms: self.from_ms, to_ms: self.to_ms, counts: &self.counts }
    }
}

/// What devices counted of a version's feature after the period `since`, up to which it is known. Without what was counted before
/// an order that this check carries out, and without those of which all that they counted was struck.
fn sums(version: &OfVersion, since: u64) -> Result<Vec<Sum<'_>>, CountsError> {
    let mut sums = Vec::<Sum<'_>>::new();
    let fleet = &*version.fleet;
    let renewed = Renewed::of(fleet, &fleet.spec.reference.features()[version.place].name);
    let counts = |counted: &&Counted| {
        counted.period > since && counted.period >= renewed.first_period(fleet, &counted.device)
    };
    for counted in version.counted.iter().filter(counts) {
        let Counted { device, from_ms, to_ms, features, period: _ } = counted;
        let Some(counts) = features.get(version.column).filter(|counts| counts.rows() > 0) else { continue };
        match sums.last_mut().filter(|last| last.device == device) {
            Some(last) => {
                last.counts.to_mut().merge(counts)?;
                (last.from_ms, last.to_ms) = (last.from_ms.min(*from_ms), last.to_ms.max(*to_ms));
            }
            None => {
                sums.push(Sum { device, from_ms: *from_ms, to_ms: *to_ms, counts: Cow::Borrowed(counts) })
            }
        }
    }
    Ok(sums)
}

/// What was ordered after that period.
fn orders(version: &OfVersion, since: u64) -> Vec<Order> {
    let due = version.fleet.orders.iter().filter(|(period, _)| *period > since);
    due.map(|(_, order)| order.clone()).collect()
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

fn pack(version: &OfVersion, checked: Checked) -> Result<(Packed, Outcome), FleetError> {
    let (release, place) = (&version.fleet.release, version.place);
    let outcome = checked.outcome?;
    if let Some(error) = checked.lost {
        tracing::error!(%release, place, %error, "what was known of a feature is of no use; devices learn anew");
    }
    Ok((Packed::of(&checked.state), outcome))
}

fn count_left_out(app: &App, status: &FeatureStatus) {
    let left_out = [
        ("device", status.devices_left_out),
        ("group", status.groups_left_out),
        ("finding", status.findings_left_out),
    ];
    left_out.into_iter().for_each(|(what, count)| app.metrics.drift_left_out(what, count as u64));
}
