//! The emergency stop.

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use crate::{
    api::{dry_run::DryRun, problem::Answer, routes::Caller},
    rollouts::Ended,
};

/// Why everything stops.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopBody {
    /// Kept with every rollout and in the audit log.
    pub reason: String,
}

/// What was stopped.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Stopped {
    /// Ids of the rollouts that were under way.
    pub rollouts: Vec<String>,
    /// Names of the experiments that were under way.
    pub experiments: Vec<String>,
}

/// Halts every rollout and ends every experiment that is under way, in one step. Devices stay as they are, and what is being brought back goes on.
#[utoipa::path(
    post,
    path = "/api/v1/stop-everything",
    tag = "rollouts",
    params(DryRun),
    request_body = StopBody,
    responses((status = 200, body = Stopped))
)]
pub async fn stop_everything(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<StopBody>,
) -> Answer<Json<Stopped>> {
    let ended = app.rollouts.stop_everything(body.reason, caller.name, !dry_run.is_meant()).await?;
    let Ended { rollouts, experiments } = ended;
    Ok(Json(Stopped {
        rollouts: rollouts.iter().map(ToString::to_string).collect(),
        experiments: experiments.iter().map(ToString::to_string).collect(),
    }))
}
