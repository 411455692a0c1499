//! One feature of one release: what is known of it is read, judged, and stored with what follows.

use std::sync::Arc;

use fleet_core::drift::{Brought, FeatureState, FeatureStatus, FleetAlarm, Look, Order, Outcome, reconcile};
use muster_sketch::{detector::FleetRule, window::FeatureCounts};
use shared::{ReleaseId, Timestamp};

use super::{
    DriftEvent,
    check::{Fleet, Progress},
    tell,
};
use crate::{
    app::App,
    servers::holds_lease,
    store::{DriftState, Packed, Store, StoreError},
};

/// A feature and everything that it is judged by.
pub(super) struct Feature<'a> {
    pub(super) fleet: &'a Fleet,
    /// Its place in the reference.
    pub(super) place: usize,
    /// Its place among the features that were counted with it.
    pub(super) column: usize,
    pub(super) rule: FleetRule,
    pub(super) suppress_secs: u64,
    pub(super) orders: Arc<Vec<Order>>,
    pub(super) counted: Arc<Vec<Counted>>,
}

/// What a device counted of some features.
pub(super) struct Counted {
    pub(super) device: String,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) features: Vec<FeatureCounts>,
}

/// What is known after a check, and what it showed.
type Judged = (Packed, Outcome);

impl Counted {
    fn of(&self, column: usize) -> Option<Brought<'_>> {
        let Self { device, from_ms, to_ms, features } = self;
        Some(Brought { device, from_ms: *from_ms, to_ms: *to_ms, counts: features.get(column)? })
    }
}

impl Feature<'_> {
    pub(super) fn name(&self) -> &str {
        &self.fleet.spec.reference.features()[self.place].name
    }

    /// Lets the core decide, on a thread that may take its time. Nothing when that broke, which was logged.
    pub(super) async fn judge(&self, known: Option<Packed>, now: Timestamp) -> Option<Judged> {
        let Fleet { release, spec, scores, groups } = self.fleet;
        let (release, spec, scores, groups) = (release.clone(), spec.clone(), scores.clone(), groups.clone());
        let (place, column, rule) = (self.place, self.column, self.rule);
        let (orders, counted) = (self.orders.clone(), self.counted.clone());
        let judging = move || {
            let (feature, scores) = (&spec.reference.features()[place], &scores[place]);
            let look = Look { feature, scores, rule: &rule, groups: &groups, now };
            let brought: Vec<_> = counted.iter().filter_map(|counted| counted.of(column)).collect();
            judge(&look, &release, known, &orders, &brought)
        };
        match tokio::task::spawn_blocking(judging).await {
            Ok(judged) => judged,
            Err(error) => {
                let (release, feature) = (&self.fleet.release, self.name());
                tracing::error!(%release, feature, %error, "the check of a feature broke");
                None
            }
        }
    }

    /// Stores what is known now with everything that follows, in one transaction.
    pub(super) async fn store(
        &self,
        app: &App,
        period: u64,
        now: Timestamp,
        (state, Outcome { found, mut status }): Judged,
    ) -> Result<Progress, StoreError> {
        let (release, name) = (&self.fleet.release, self.name());
        let mut tx = app.store.begin().await?;
        if !holds_lease(app, &mut tx).await? {
            return Ok(Progress::GivenUp);
        }
        if Store::drift_state_period(&mut tx, release, name).await? >= period {
            return Ok(Progress::Done);
        }
        let since = Timestamp(now.as_millis().saturating_sub(1_000 * self.suppress_secs));
        let known = Store::known_alarms(&mut tx, release, name, since).await?;
        let room =
            Store::MAX_OPEN_ALARMS.saturating_sub(Store::count_open_alarms(&mut tx, &release.model).await?);
        let reconciled = reconcile(known, found, now, self.suppress_secs, room);
        status.findings_left_out = reconciled.left_out;
        for alarm in &reconciled.repeated {
            Store::save_alarm(&mut tx, alarm).await?;
        }
        let mut new = Vec::new();
        for found in reconciled.new {
            let alarm = FleetAlarm::open(Store::next_alarm(&mut tx).await?, release.clone(), found, now);
            Store::save_alarm(&mut tx, &alarm).await?;
            DriftEvent::detected(&alarm).insert(&mut tx, now).await?;
            new.push(alarm);
        }
        let known = DriftState { period, state };
        Store::save_drift_state(&mut tx, release, name, &known, &status).await?;
        tx.commit().await?;
        count_left_out(app, &status);
        tell(app, &new);
        Ok(Progress::Done)
    }
}

/// What the check makes of what is known. What cannot be used any more, as after an update of the program that looks at something
/// else, is given up, and the devices learn anew.
fn judge(
    look: &Look<'_>,
    release: &ReleaseId,
    known: Option<Packed>,
    orders: &[Order],
    brought: &[Brought<'_>],
) -> Option<Judged> {
    let feature = &look.feature.name;
    let mut state = match known.map(|known| known.read::<FeatureState>("state of detectors")).transpose() {
        Ok(state) => state,
        Err(error) => {
            tracing::error!(%release, feature, %error, "what was known of a feature cannot be read; devices learn anew");
            None
        }
    };
    if let Some(known) = &mut state {
        match known.check(look, orders, brought) {
            Ok(outcome) => return Some((Packed::of(known), outcome)),
            Err(error) => {
                tracing::error!(%release, feature, %error, "what was known of a feature is of no use; devices learn anew");
            }
        }
    }
    let mut state = FeatureState::new(look);
    match state.check(look, orders, brought) {
        Ok(outcome) => Some((Packed::of(&state), outcome)),
        Err(error) => {
            tracing::error!(%release, feature, %error, "what devices counted of a feature is of no use");
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
