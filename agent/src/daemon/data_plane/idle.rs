//! What callers hear while there is no runner: the device is alive, and has no model.

use std::io;

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::listeners::Listeners;
use crate::serving;

/// Answers until it is dropped.
pub(super) struct Idle {
    stop: CancellationToken,
}

impl Idle {
    pub(super) fn start(listeners: &Listeners) -> io::Result<Self> {
        let stop = CancellationToken::new();
        serving::spawn(listeners.tcp()?, router(), stop.clone());
        serving::spawn(listeners.unix()?, router(), stop.clone());
        Ok(Self { stop })
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn router() -> Router {
    Router::new()
        .route("/v2/health/live", get(|| async { Json(json!({ "live": true })) }))
        .route("/v2/health/ready", get(no_model))
        .fallback(no_model)
}

async fn no_model() -> Response {
    let body = json!({ "ready": false, "error": "no model is running on this device yet" });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
