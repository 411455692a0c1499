//! The device's inference interface: the Open Inference Protocol v2 over HTTP, on loopback and on a Unix socket.
//!
//! Stock clients work unchanged. They need the binary tensor extension, which `tritonclient` uses unless told
//! otherwise, errors with a string member `error`, and the model version in every answer, which tells an
//! application which rollout answered it. What the fleet decides is refused here: loading and unloading. Beside the
//! protocol applications tell what only they know: labels that came later, and counters and gauges of their own.
//!
//! Absent: gRPC, shared memory, BYTES tensors, and Triton's trace and logging settings.

mod custom;
mod error;
mod feedback;
mod infer;
mod json_tensor;
mod metadata;
mod stats;
mod wire;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path},
    routing::{get, post},
    serve::Listener,
};
use shared::{ModelName, ReleaseId, Version};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_http::decompression::RequestDecompressionLayer;

use crate::runner::models::{Loaded, Model, Models};
use error::ServingError;

/// Largest request body, after decompression: a batch of four camera frames of 3×1280×960 FP32 values.
pub const MAX_BODY_BYTES: usize = 64 * 1_024 * 1_024;

/// Every route of the interface.
pub(crate) fn router(models: Arc<Models>) -> Router {
    Router::new()
        .merge(metadata::routes())
        .merge(stats::routes())
        .route("/v2/models/{model}/infer", post(infer::active))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::version))
        .route("/v2/repository/models/{model}/load", post(refuse_change))
        .route("/v2/repository/models/{model}/unload", post(refuse_change))
        .route("/muster/v1/feedback", post(feedback::feedback))
        .route(
            "/muster/v1/metrics",
            post(custom::report).layer(DefaultBodyLimit::max(custom::MAX_REPORT_BYTES)),
        )
        .route("/", get(metadata::server))
        .fallback(|| async { ServingError::NotFound("there is no such address; see /v2".into()) })
        .method_not_allowed_fallback(|| async { ServingError::Method })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(RequestDecompressionLayer::new())
        .with_state(models)
}

/// Serves callers of `listener` until `stop`, then answers what was accepted.
pub(crate) fn spawn<L>(listener: L, router: Router, stop: CancellationToken) -> JoinHandle<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the inference interface stopped");
        }
    })
}

async fn refuse_change(Path(model): Path<String>) -> ServingError {
    let name = model.chars().take(80).collect::<String>();
    ServingError::Forbidden(format!("'{name}' is loaded and unloaded by the fleet server, not by callers"))
}

/// The model of this name.
fn find_model(models: &Models, name: &str) -> Result<Arc<Model>, ServingError> {
    let known = ModelName::new(name).ok().and_then(|name| models.get(&name));
    known.ok_or_else(|| {
        let name: String = name.chars().take(80).collect();
        ServingError::NotFound(format!("this device has no model '{name}'"))
    })
}

/// The version that answers, or the one that is named.
fn find_version(model: &Model, name: &str, version: Option<&str>) -> Result<Arc<Loaded>, ServingError> {
    let Some(version) = version else {
        return model
            .active
            .load_full()
            .ok_or_else(|| ServingError::NotReady(format!("no version of '{name}' is active")));
    };
    let number = version.parse().ok().and_then(|number: u32| Version::try_from(number).ok());
    number.and_then(|number| model.version(number)).ok_or_else(|| {
        let version: String = version.chars().take(20).collect();
        ServingError::NotFound(format!("version '{version}' of '{name}' is not loaded on this device"))
    })
}

/// Text of a version, as the protocol wants it.
fn version_text(release: &ReleaseId) -> String {
    release.version.to_string()
}
