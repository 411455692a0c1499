//! Whether the server lives, whether it can work, and what it counted.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use utoipa::openapi::OpenApi;

use super::{
    Shared,
    problem::{Answer, Problem},
};
use crate::metrics::{FleetFigures, MAX_RELEASES};

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "It lives")))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The database answers and rollouts move on, so requests and devices can be served.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses((status = 200, description = "It can work"), (status = 503, body = Problem, description = "It cannot"))
)]
pub async fn readyz(State(app): State<Shared>) -> Answer<&'static str> {
    let why = match (app.store.is_ready().await, app.rollouts.is_running()) {
        (true, true) => return Ok("ready\n"),
        (true, false) => "rollouts do not move on",
        (false, _) => "the database does not answer",
    };
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why).hint("see the server's log"))
}

/// This document.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "health",
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json"))
)]
pub async fn openapi() -> Json<OpenApi> {
    Json(super::openapi())
}

/// Counters, gauges and histograms in the text format of OpenMetrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "OpenMetrics text", content_type = "text/plain"))
)]
pub async fn metrics(State(app): State<Shared>) -> Answer<impl IntoResponse> {
    let fleet = FleetFigures {
        delivery: app.store.delivery_sums().await?,
        releases: app.store.figures_of_releases(MAX_RELEASES).await?,
        devices: app.store.devices_by_status().await?,
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], app.metrics.text(fleet)))
}
