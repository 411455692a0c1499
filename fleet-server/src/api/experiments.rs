//! Experiments: two releases side by side.

mod report;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use fleet_core::{
    Strategy,
    experiment::{Arms, AtEnd, ExperimentStatus, PlanError, Rules},
};
use serde::{Deserialize, Serialize};
use shared::{ExperimentId, ReleaseId};
use utoipa::ToSchema;

use super::{
    Shared,
    dry_run::DryRun,
    problem::{Answer, Problem},
    routes::Caller,
    selectors::resolve_selector,
};
use crate::{
    rollouts::{self, StopExperiment, WantedExperiment},
    store::ExperimentRow,
};

pub use report::{__path_report, ReportView, report};

/// A week: long enough for both halves of every day and for a weekend.
const DEFAULT_DURATION_SECS: u64 = 7 * 86_400;

/// An experiment that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartExperiment {
    /// Its name: 1 to 53 characters out of A-Z a-z 0-9 _ -; taken for good.
    pub name: String,
    /// `name@version` of arm A, usually what runs.
    pub a: String,
    /// `name@version` of arm B, of the same model.
    pub b: String,
    /// Whose devices are dealt to the arms: `all`, `site=berlin,env!=lab`, `id in (a,b)`, `group:NAME`.
    pub selector: String,
    /// Percentage of the able devices that each arm gets, `a` and `b`; together at most 100.
    #[serde(default = "halves")]
    #[schema(value_type = Object)]
    pub shares: Arms<u32>,
    /// Decides who is in which arm; made of the name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How the arms are compared.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub rules: Rules,
    /// How long it lasts at most, in seconds from the start.
    #[serde(default = "default_duration")]
    pub max_duration_secs: u64,
    /// What becomes of the devices at the end: `leave`, `restore` or `adopt`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub at_end: AtEnd,
    /// How devices are brought their release; all at once when absent.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub strategy: Strategy,
}

/// An experiment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExperimentView {
    /// It is over.
    pub finished: bool,
    /// Where it stands, in a word.
    pub phase: String,
    /// State, arms, devices, rules and reasons.
    #[schema(value_type = Object)]
    pub status: ExperimentStatus,
}

/// An experiment in a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExperimentSummaryView {
    /// Its name.
    pub name: String,
    /// `name@version` of arm A.
    pub a: String,
    /// `name@version` of arm B.
    pub b: String,
    /// Where it stands, in a word.
    pub phase: String,
    /// It is over.
    pub finished: bool,
    /// Who started it.
    pub created_by: String,
    /// When, in milliseconds since 1970.
    pub created_at: u64,
}

/// The end of an experiment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopExperimentBody {
    /// Why; kept with the experiment and in the audit log.
    pub reason: String,
    /// Whether the devices that it moved go back, whatever was said at the start.
    #[serde(default)]
    pub restore: bool,
}

fn halves() -> Arms<u32> {
    Arms { a: 50, b: 50 }
}

fn default_duration() -> u64 {
    DEFAULT_DURATION_SECS
}

impl ExperimentView {
    fn of(status: ExperimentStatus) -> Self {
        let phase = status.state.word().to_owned();
        let finished = matches!(status.state, fleet_core::experiment::State::Ended { .. });
        Self { finished, phase, status }
    }
}

/// Starts an experiment: deals devices to two arms and starts the rollouts that the arms need.
#[utoipa::path(
    post,
    path = "/api/v1/experiments",
    tag = "experiments",
    params(DryRun),
    request_body = StartExperiment,
    responses(
        (status = 200, body = ExperimentView, description = "What it would be; nothing was started"),
        (status = 201, body = ExperimentView),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 409, body = Problem),
        (status = 422, body = Problem),
    )
)]
pub async fn start(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<StartExperiment>,
) -> Answer<(StatusCode, Json<ExperimentView>)> {
    let wanted = wanted(&app, body, caller).await?;
    let id = wanted.id.clone();
    let tried = app.rollouts.start_experiment(wanted, !dry_run.is_meant()).await?;
    if !dry_run.is_meant() {
        return Ok((StatusCode::OK, Json(ExperimentView::of(*tried))));
    }
    Ok((StatusCode::CREATED, Json(view(&find(&app, &id).await?)?)))
}

/// Lists experiments, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/experiments",
    tag = "experiments",
    responses((status = 200, body = Vec<ExperimentSummaryView>))
)]
pub async fn list(State(app): State<Shared>) -> Answer<Json<Vec<ExperimentSummaryView>>> {
    let summary = |row: ExperimentRow| -> Answer<ExperimentSummaryView> {
        let experiment = rollouts::read_experiment(&row)?;
        let Arms { a, b } = experiment.spec().releases.as_ref().map(ToString::to_string);
        Ok(ExperimentSummaryView {
            name: row.id.to_string(),
            a,
            b,
            phase: row.phase,
            finished: row.finished,
            created_by: row.created_by,
            created_at: row.created_at.as_millis(),
        })
    };
    let rows = app.store.experiments().await?;
    Ok(Json(rows.into_iter().map(summary).collect::<Answer<_>>()?))
}

/// Shows an experiment: its arms with their devices, the rollouts, and where it stands.
#[utoipa::path(
    get,
    path = "/api/v1/experiments/{id}",
    tag = "experiments",
    params(("id" = String, Path, description = "Name of the experiment")),
    responses((status = 200, body = ExperimentView), (status = 404, body = Problem))
)]
pub async fn show(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<ExperimentView>> {
    Ok(Json(view(&find(&app, &experiment_id(&id)?).await?)?))
}

/// Ends an experiment. Rollouts of its arms that still ask devices are halted.
#[utoipa::path(
    post,
    path = "/api/v1/experiments/{id}/stop",
    tag = "experiments",
    params(("id" = String, Path, description = "Name of the experiment"), DryRun),
    request_body = StopExperimentBody,
    responses(
        (status = 200, body = ExperimentView),
        (status = 404, body = Problem),
        (status = 409, body = Problem),
    )
)]
pub async fn stop(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Path(id): Path<String>,
    Json(body): Json<StopExperimentBody>,
) -> Answer<Json<ExperimentView>> {
    let StopExperimentBody { reason, restore } = body;
    let stop = StopExperiment { id: experiment_id(&id)?, reason, restore, by: caller.name };
    let stopped = app.rollouts.stop_experiment(stop, !dry_run.is_meant()).await?;
    Ok(Json(ExperimentView::of(*stopped)))
}

async fn wanted(app: &Shared, body: StartExperiment, caller: Caller) -> Answer<WantedExperiment> {
    let release = |text: &str| -> Answer<ReleaseId> {
        text.parse()
            .map_err(|error: shared::id::InvalidId| Problem::bad_request("bad_release", error.to_string()))
    };
    Ok(WantedExperiment {
        id: experiment_id(&body.name)?,
        releases: Arms { a: release(&body.a)?, b: release(&body.b)? },
        selector: resolve_selector(app, &body.selector).await?,
        shares: body.shares,
        seed: body.seed,
        rules: body.rules,
        max_duration_secs: body.max_duration_secs,
        at_end: body.at_end,
        strategy: body.strategy,
        by: caller.name,
    })
}

fn view(row: &ExperimentRow) -> Answer<ExperimentView> {
    Ok(ExperimentView::of(rollouts::experiment_status(row)?))
}

fn experiment_id(text: &str) -> Answer<ExperimentId> {
    ExperimentId::new(text).map_err(|error| Problem::bad_request("bad_experiment_name", error.to_string()))
}

async fn find(app: &Shared, id: &ExperimentId) -> Answer<ExperimentRow> {
    app.store.experiment(id).await?.ok_or_else(|| no_experiment(id))
}

pub(super) fn no_experiment(id: &ExperimentId) -> Problem {
    Problem::not_found("experiment_not_found", format!("there is no experiment {id}"))
        .hint("see what there is: muster experiment list")
}

/// Why an experiment is not started.
pub(super) fn not_planned(error: &PlanError) -> Problem {
    match error {
        PlanError::Invalid(_) => Problem::refused("bad_experiment", error.to_string()),
        PlanError::Nobody { .. } => Problem::refused("nobody_selected", error.to_string()),
        PlanError::EmptyArm { .. } | PlanError::Rollout { .. } => {
            Problem::refused("empty_arm", error.to_string()).hint("see who runs what: muster device list")
        }
    }
}
