//! Rollouts.

mod explain;
mod stop;
mod thinned;

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use fleet_core::{Plan, PlanError, Refusal, RolloutStatus, Strategy};
use serde::{Deserialize, Serialize};
use shared::{ReleaseId, RolloutId};
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

use super::{
    Shared,
    dry_run::DryRun,
    experiments::{no_experiment, not_planned},
    problem::{Answer, Problem},
    routes::Caller,
    selectors::resolve_selector,
};
use crate::{
    rollouts::{self, RolloutError, Wanted},
    store::{EventRow, RolloutRow},
};

pub use explain::{__path_explain, ExplainView, ExplainedWave, explain};
pub use stop::{__path_stop_everything, StopBody, Stopped, stop_everything};

/// Longest that a request waits for a change; proxies end quiet requests after a minute.
const MAX_WAIT_MS: u64 = 30_000;

/// A rollout that is asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRollout {
    /// `name@version`.
    pub release: String,
    /// Which devices: `all`, `site=berlin,env!=lab`, `id in (a,b)`, `group:NAME`.
    pub selector: String,
    /// How to proceed; all at once when absent.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub strategy: Strategy,
}

/// What a rollout would do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Waves, devices, what each will fetch, and who is left out and why.
    #[schema(value_type = Object)]
    pub plan: Plan,
}

/// A rollout in a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RolloutSummaryView {
    /// Its id.
    pub id: String,
    /// What it brings.
    pub release: String,
    /// Where it stands, in a word.
    pub phase: String,
    /// Nothing will happen any more.
    pub finished: bool,
    /// Who started it.
    pub created_by: String,
    /// When, in milliseconds since 1970.
    pub created_at: u64,
}

/// A rollout.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// Raised by every change; give it as `after` to wait for the next one.
    pub revision: u64,
    /// Nothing will happen any more.
    pub finished: bool,
    /// State, waves, devices, counts and reasons.
    #[schema(value_type = Object)]
    pub status: RolloutStatus,
}

/// What may be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Ask nobody new.
    Pause,
    /// Go on.
    Resume,
    /// Let the wave under way pass, whatever it still waits for.
    Promote,
    /// Ask the devices again that failed or fell silent.
    Retry,
    /// Stop for good and leave devices as they are.
    Halt,
    /// Take the release away again.
    Rollback,
}

/// An order.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// What to do.
    pub order: Order,
    /// Why; kept with a halt.
    #[serde(default)]
    pub reason: Option<String>,
    /// Which wave, counted from 0: needed to promote one, so that an order given twice does not reach the next.
    #[serde(default)]
    pub wave: Option<usize>,
}

/// Consent to a wave.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveBody {
    /// Which wave, counted from 0.
    pub wave: usize,
}

/// Whether to wait for a change.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct WaitQuery {
    /// Answer when the revision is higher than this, or the wait is over.
    after: Option<u64>,
    /// How long to wait, in milliseconds; at most 30000.
    #[serde(default)]
    wait_ms: u64,
}

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct EventsQuery {
    /// Events after this number.
    #[serde(default)]
    after: u64,
}

/// Says what a rollout would do; changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/rollouts/plan",
    tag = "rollouts",
    request_body = StartRollout,
    responses((status = 200, body = PlanView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub async fn plan(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<StartRollout>,
) -> Answer<Json<PlanView>> {
    Ok(Json(PlanView { plan: app.rollouts.plan(wanted(&app, body, caller).await?).await? }))
}

/// Starts a rollout.
#[utoipa::path(
    post,
    path = "/api/v1/rollouts",
    tag = "rollouts",
    params(DryRun),
    request_body = StartRollout,
    responses(
        (status = 200, body = RolloutView, description = "What it would be; nothing was started"),
        (status = 201, body = RolloutView),
        (status = 404, body = Problem),
        (status = 422, body = Problem),
    )
)]
pub async fn start(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<StartRollout>,
) -> Answer<(StatusCode, Json<RolloutView>)> {
    let wanted = wanted(&app, body, caller).await?;
    if !dry_run.is_meant() {
        let tried = app.rollouts.try_start(wanted).await?;
        return Ok((StatusCode::OK, Json(tried.into())));
    }
    let id = app.rollouts.start(wanted).await?;
    Ok((StatusCode::CREATED, Json(view(&find(&app, &id).await?)?)))
}

/// Lists rollouts, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/rollouts",
    tag = "rollouts",
    responses((status = 200, body = Vec<RolloutSummaryView>))
)]
pub async fn list(State(app): State<Shared>) -> Answer<Json<Vec<RolloutSummaryView>>> {
    let summary = |row: RolloutRow| RolloutSummaryView {
        id: row.id.to_string(),
        release: row.release.to_string(),
        phase: row.phase,
        finished: row.finished,
        created_by: row.created_by,
        created_at: row.created_at.as_millis(),
    };
    Ok(Json(app.store.rollout_heads().await?.into_iter().map(summary).collect()))
}

/// Shows a rollout; with `after` and `wait_ms` as soon as it changed.
#[utoipa::path(
    get,
    path = "/api/v1/rollouts/{id}",
    tag = "rollouts",
    params(("id" = String, Path, description = "Id of the rollout"), WaitQuery),
    responses((status = 200, body = RolloutView), (status = 404, body = Problem))
)]
pub async fn show(
    State(app): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Answer<Json<RolloutView>> {
    let id = rollout_id(&id)?;
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms.min(MAX_WAIT_MS));
    // Subscribed before reading, so that no change falls in between.
    let mut changes = app.changes.subscribe();
    loop {
        let row = find(&app, &id).await?;
        if row.finished || query.after.is_none_or(|after| row.revision > after) {
            return Ok(Json(view(&row)?));
        }
        let waited = tokio::select! {
            waited = timeout_at(deadline, changes.changed()) => waited.is_ok(),
            () = app.stopping.cancelled() => false,
        };
        if !waited {
            return Ok(Json(view(&row)?));
        }
    }
}

/// What happened in a rollout, in order.
#[utoipa::path(
    get,
    path = "/api/v1/rollouts/{id}/events",
    tag = "rollouts",
    params(("id" = String, Path, description = "Id of the rollout"), EventsQuery),
    responses((status = 200, body = Vec<Object>), (status = 404, body = Problem))
)]
pub async fn events(
    State(app): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
) -> Answer<Json<Vec<EventRow>>> {
    let row = find(&app, &rollout_id(&id)?).await?;
    Ok(Json(app.store.events_after(row.id.as_str(), query.after).await?))
}

/// Gives an order to a rollout.
#[utoipa::path(
    post,
    path = "/api/v1/rollouts/{id}/orders",
    tag = "rollouts",
    params(("id" = String, Path, description = "Id of the rollout"), DryRun),
    request_body = OrderBody,
    responses((status = 200, body = RolloutView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub async fn order(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Path(id): Path<String>,
    Json(body): Json<OrderBody>,
) -> Answer<Json<RolloutView>> {
    let order = match body.order {
        Order::Pause => rollouts::Order::Pause,
        Order::Resume => rollouts::Order::Resume,
        Order::Promote => match body.wave {
            Some(wave) => rollouts::Order::Promote { wave },
            None => {
                return Err(Problem::bad_request(
                    "no_wave",
                    "an order to promote names the wave, counted from 0",
                )
                .hint("see which wave is under way: muster rollout status ID"));
            }
        },
        Order::Retry => rollouts::Order::Retry,
        Order::Halt => {
            rollouts::Order::Halt { reason: body.reason.unwrap_or_else(|| "no reason given".into()) }
        }
        Order::Rollback => rollouts::Order::Rollback,
    };
    give(&app, &id, order, caller, dry_run).await
}

/// Agrees that the wave is asked which waits for it; the author cannot.
#[utoipa::path(
    post,
    path = "/api/v1/rollouts/{id}/approve",
    tag = "rollouts",
    params(("id" = String, Path, description = "Id of the rollout"), DryRun),
    request_body = ApproveBody,
    responses((status = 200, body = RolloutView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub async fn approve(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Path(id): Path<String>,
    Json(body): Json<ApproveBody>,
) -> Answer<Json<RolloutView>> {
    give(&app, &id, rollouts::Order::Approve { wave: body.wave }, caller, dry_run).await
}

async fn give(
    app: &Shared,
    id: &str,
    order: rollouts::Order,
    caller: Caller,
    dry_run: DryRun,
) -> Answer<Json<RolloutView>> {
    let id = rollout_id(id)?;
    if !dry_run.is_meant() {
        return Ok(Json(app.rollouts.try_order(id, order, caller.name).await?.into()));
    }
    app.rollouts.order(id.clone(), order, caller.name).await?;
    Ok(Json(view(&find(app, &id).await?)?))
}

async fn wanted(app: &Shared, body: StartRollout, caller: Caller) -> Answer<Wanted> {
    let release: ReleaseId = body
        .release
        .parse()
        .map_err(|error: shared::id::InvalidId| Problem::bad_request("bad_release", error.to_string()))?;
    let selector = resolve_selector(app, &body.selector).await?;
    Ok(Wanted { release, selector, strategy: body.strategy, by: caller.name })
}

fn view(row: &RolloutRow) -> Answer<RolloutView> {
    Ok(RolloutView { revision: row.revision, finished: row.finished, status: rollouts::status(row)? })
}

impl From<Box<rollouts::Tried>> for RolloutView {
    fn from(tried: Box<rollouts::Tried>) -> Self {
        let rollouts::Tried { revision, finished, status } = *tried;
        Self { revision, finished, status }
    }
}

fn rollout_id(text: &str) -> Answer<RolloutId> {
    RolloutId::new(text).map_err(|error| Problem::bad_request("bad_rollout_id", error.to_string()))
}

async fn find(app: &Shared, id: &RolloutId) -> Answer<RolloutRow> {
    app.store.rollout(id).await?.ok_or_else(|| no_rollout(id))
}

fn no_rollout(id: &RolloutId) -> Problem {
    Problem::not_found("rollout_not_found", format!("there is no rollout {id}"))
        .hint("see what there is: muster rollout list")
}

impl From<RolloutError> for Problem {
    fn from(error: RolloutError) -> Self {
        match &error {
            RolloutError::NoRelease(release) => Self::not_found("release_not_found", error.to_string())
                .hint(format!("see its versions: muster model show {}", release.model)),
            RolloutError::NoRollout(id) => no_rollout(id),
            RolloutError::Plan(PlanError::Strategy(why)) => Self::refused("bad_strategy", why.to_string()),
            RolloutError::Plan(PlanError::Nobody { .. }) => {
                Self::refused("nobody_selected", error.to_string())
            }
            RolloutError::Plan(PlanError::AllBlocked(_)) => Self::refused("all_blocked", error.to_string())
                .hint("see who is left out and why: muster rollout plan"),
            RolloutError::Refused(refusal @ Refusal::AuthorApproves { .. }) => {
                Self::conflict("author_approves", refusal.to_string())
                    .hint("ask somebody with a token of their own and the role approver")
            }
            RolloutError::Refused(refusal) => Self::conflict("wrong_state", refusal.to_string()),
            RolloutError::NoExperiment(id) => no_experiment(id),
            RolloutError::ExperimentExists(id) => Self::conflict("experiment_exists", error.to_string())
                .hint(format!("see it: muster experiment show {id}; or choose another name")),
            RolloutError::ExperimentOver { id, .. } => Self::conflict("wrong_state", error.to_string())
                .hint(format!("see how it ended: muster experiment report {id}")),
            RolloutError::TooManyExperiments(_) => Self::conflict("too_many_experiments", error.to_string())
                .hint("end one: muster experiment stop NAME --reason WHY"),
            RolloutError::ExperimentPlan(why) => not_planned(why),
            RolloutError::ExperimentRefused(refusal) => Self::conflict("wrong_state", refusal.to_string()),
            RolloutError::Outdated => Self::conflict("outdated", error.to_string()).hint("try again"),
            RolloutError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", error.to_string())
            }
            RolloutError::Store(_) => Self::internal(&error),
        }
    }
}
