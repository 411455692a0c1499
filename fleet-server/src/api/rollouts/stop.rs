//! The emergency stop.

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use crate::api::{problem::Answer, routes::Caller};

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
}

/// Halts every rollout that is under way, in one step. Devices stay as they are, and what is being brought back goes on.
#[utoipa::path(
    post,
    path = "/api/v1/stop-everything",
    tag = "rollouts",
    request_body = StopBody,
    responses((status = 200, body = Stopped))
)]
pub async fn stop_everything(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<StopBody>,
) -> Answer<Json<Stopped>> {
    let stopped = app.rollouts.stop_everything(body.reason, caller.name).await?;
    Ok(Json(Stopped { rollouts: stopped.iter().map(ToString::to_string).collect() }))
}
