//! Alarms of drift.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
};
use fleet_core::drift::{AlarmState, Cause, Evidence, FleetAlarm, RaisedBy, Relearn, Whom};
use muster_sketch::detector::Scope;
use serde::{Deserialize, Serialize};
use shared::Timestamp;
use utoipa::{IntoParams, ToSchema};

use crate::{
    api::{
        Shared,
        dry_run::DryRun,
        freezes::check_reason,
        models,
        problem::{Answer, Problem},
        routes::Caller,
    },
    drift::{DriftEvent, RelearnOrder, relearn},
    store::{AlarmFilter, Store, Tx},
};

/// An alarm.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AlarmView {
    /// Its number; later alarms have higher ones.
    pub id: u64,
    /// `name@version` of the release whose inputs or outputs were counted.
    pub release: String,
    /// Of which feature.
    pub feature: String,
    /// Of whom: `{"sensor": {"device": …}}`, `{"stratum": {"key": …, "value": …}}`, `"model"` or `"world"`.
    #[schema(value_type = Object)]
    pub scope: Scope,
    /// Who saw it: `server` or `device`.
    #[schema(value_type = String)]
    pub raised_by: RaisedBy,
    /// What it is, in a word: `drift`, `odd_baseline`, `missing`, `non_finite`, `out_of_range`, `new_category`, `stuck`.
    pub cause: String,
    /// All of it in a sentence.
    pub text: String,
    /// `open`, `acknowledged` or `closed`.
    pub state: String,
    /// When it was opened, in milliseconds since 1970.
    pub opened_at: u64,
    /// When the same was found last.
    pub last_at: u64,
    /// How often it was found.
    pub times: u64,
    /// Who acknowledged or closed it.
    pub by: Option<String>,
    /// When they did.
    pub by_at: Option<u64>,
    /// Why it was closed.
    pub why: Option<String>,
    /// Its devices learn the feature anew since it was acknowledged.
    pub relearns: bool,
    /// The finding itself.
    #[schema(value_type = Object)]
    pub finding: Cause,
    /// What its devices counted when it was found last, with the distances from the reference; not of what a device says alone.
    #[schema(value_type = Option<Object>)]
    pub evidence: Option<Evidence>,
}

/// Why an alarm is over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseAlarm {
    /// In words; whoever reads the alarm later reads it.
    pub reason: String,
}

/// Which alarms.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct AlarmsQuery {
    /// Of this model.
    model: Option<String>,
    /// In this state: `open`, `acknowledged`, `closed`; those that are not over when absent, `any` for all.
    state: Option<String>,
    /// Of this feature.
    feature: Option<String>,
    /// Found at or after this moment, in milliseconds since 1970.
    since: Option<u64>,
}

impl From<FleetAlarm> for AlarmView {
    fn from(alarm: FleetAlarm) -> Self {
        let (by, by_at, why, relearns) = match &alarm.state {
            AlarmState::Open => (None, None, None, false),
            AlarmState::Acknowledged { by, at, relearns } => (Some(by), Some(at), None, *relearns),
            AlarmState::Closed { by, at, why } => (Some(by), Some(at), Some(why), false),
        };
        Self {
            id: alarm.id,
            release: alarm.release.to_string(),
            cause: alarm.found.cause.word().to_owned(),
            text: alarm.found.to_string(),
            state: alarm.state.word().to_owned(),
            opened_at: alarm.opened_at.as_millis(),
            last_at: alarm.last_at.as_millis(),
            times: alarm.times,
            by: by.cloned(),
            by_at: by_at.map(|at| at.as_millis()),
            why: why.cloned(),
            relearns,
            feature: alarm.found.feature,
            scope: alarm.found.scope,
            raised_by: alarm.found.raised_by,
            finding: alarm.found.cause,
            evidence: alarm.found.evidence,
        }
    }
}

/// Lists alarms of drift, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/drift/alarms",
    tag = "drift",
    params(AlarmsQuery),
    responses((status = 200, body = Vec<AlarmView>), (status = 400, body = Problem))
)]
pub async fn list_alarms(
    State(app): State<Shared>,
    Query(query): Query<AlarmsQuery>,
) -> Answer<Json<Vec<AlarmView>>> {
    let state = match query.state.as_deref() {
        None | Some("any") => None,
        Some(state @ ("open" | "acknowledged" | "closed")) => Some(state.to_owned()),
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            return Err(Problem::bad_request("bad_state", format!("'{other}' is no state of an alarm"))
                .hint("write open, acknowledged, closed or any"));
        }
    };
    let filter = AlarmFilter {
        model: query.model.as_deref().map(models::model_name).transpose()?,
        open_only: query.state.is_none(),
        state,
        feature: query.feature,
        since: query.since.map(Timestamp),
    };
    Ok(Json(app.store.alarms(&filter).await?.into_iter().map(AlarmView::from).collect()))
}

/// Shows an alarm with everything that speaks for it.
#[utoipa::path(
    get,
    path = "/api/v1/drift/alarms/{id}",
    tag = "drift",
    params(("id" = u64, Path, description = "Number of the alarm")),
    responses((status = 200, body = AlarmView), (status = 404, body = Problem))
)]
pub async fn show_alarm(State(app): State<Shared>, Path(id): Path<u64>) -> Answer<Json<AlarmView>> {
    Ok(Json(app.store.alarm(id).await?.ok_or_else(|| no_alarm(id))?.into()))
}

/// Says that somebody knows. Where the policy of the model says so, the devices of a drift learn its feature anew.
#[utoipa::path(
    post,
    path = "/api/v1/drift/alarms/{id}/acknowledge",
    tag = "drift",
    params(("id" = u64, Path, description = "Number of the alarm"), DryRun),
    responses((status = 200, body = AlarmView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub async fn acknowledge_alarm(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<u64>,
    Query(dry_run): Query<DryRun>,
) -> Answer<Json<AlarmView>> {
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let mut alarm = find(&mut tx, id).await?;
    let settings = app.store.drift_settings(&alarm.release.model).await?.unwrap_or(app.drift.settings);
    let relearns = settings.relearn == Relearn::WhenAcknowledged && alarm.found.cause.is_of_a_baseline();
    if !alarm.acknowledge(&caller.name, relearns, now) {
        return Err(not_open(&alarm));
    }
    if relearns {
        let order = RelearnOrder {
            release: alarm.release.clone(),
            feature: Some(alarm.found.feature.clone()),
            whom: Whom::of(&alarm.found.scope),
        };
        relearn(&app, &mut tx, order, now).await?.map_err(|_| too_many_orders())?;
    }
    Store::save_alarm(&mut tx, &alarm).await?;
    let detail = if relearns { "its devices learn the feature anew" } else { "" };
    Store::audit(&mut tx, now, &caller.name, "drift.acknowledge", &id.to_string(), detail).await?;
    dry_run.end(tx).await?;
    Ok(Json(alarm.into()))
}

/// Says that an alarm is over. If the same is found again, that is another alarm.
#[utoipa::path(
    post,
    path = "/api/v1/drift/alarms/{id}/close",
    tag = "drift",
    params(("id" = u64, Path, description = "Number of the alarm"), DryRun),
    request_body = CloseAlarm,
    responses(
        (status = 200, body = AlarmView),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 409, body = Problem)
    )
)]
pub async fn close_alarm(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<u64>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<CloseAlarm>,
) -> Answer<Json<AlarmView>> {
    check_reason(&body.reason)?;
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let mut alarm = find(&mut tx, id).await?;
    if !alarm.close(&caller.name, &body.reason, now) {
        return Err(not_open(&alarm));
    }
    close(&mut tx, &alarm, now).await?;
    Store::audit(&mut tx, now, &caller.name, "drift.close", &id.to_string(), &body.reason).await?;
    if dry_run.end(tx).await? {
        app.changes.send_modify(|count| *count += 1);
    }
    Ok(Json(alarm.into()))
}

/// Stores an alarm that is over, and tells it.
pub(super) async fn close(tx: &mut Tx, alarm: &FleetAlarm, now: Timestamp) -> Answer<()> {
    Store::save_alarm(tx, alarm).await?;
    DriftEvent::closed(alarm).insert(tx, now).await?;
    Ok(())
}

pub(super) fn too_many_orders() -> Problem {
    let detail = format!("{} orders wait for the next check already", Store::MAX_DRIFT_ORDERS);
    Problem::conflict("too_many_orders", detail).hint("order the whole model, or wait for the check")
}

async fn find(tx: &mut Tx, id: u64) -> Answer<FleetAlarm> {
    Store::alarm_to_change(tx, id).await?.ok_or_else(|| no_alarm(id))
}

fn no_alarm(id: u64) -> Problem {
    Problem::not_found("alarm_not_found", format!("there is no alarm {id}"))
        .hint("see what there is: muster drift alarms --state any")
}

fn not_open(alarm: &FleetAlarm) -> Problem {
    let detail = format!("alarm {} is {} already", alarm.id, alarm.state.word());
    Problem::conflict("alarm_not_open", detail)
}
