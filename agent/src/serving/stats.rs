//! The statistics extension: what each loaded version did since it was loaded.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};

use super::{error::ServingError, find_model, find_version, version_text};
use crate::runner::{
    capture,
    models::{Loaded, Models},
};

pub(super) fn routes() -> Router<Arc<Models>> {
    Router::new()
        .route("/v2/models/stats", get(all))
        .route("/v2/models/{model}/stats", get(model))
        .route("/v2/models/{model}/versions/{version}/stats", get(version))
}

async fn all(State(models): State<Arc<Models>>) -> Json<Value> {
    let loaded = models.all().into_iter().flat_map(|(_, model)| model.versions());
    tell(loaded.collect())
}

async fn model(
    State(models): State<Arc<Models>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ServingError> {
    Ok(tell(find_model(&models, &name)?.versions()))
}

async fn version(
    State(models): State<Arc<Models>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<Value>, ServingError> {
    Ok(tell(vec![find_version(&*find_model(&models, &name)?, &name, Some(&version))?]))
}

fn tell(versions: Vec<Arc<Loaded>>) -> Json<Value> {
    let stats: Vec<Value> = versions.iter().map(|loaded| statistics(loaded)).collect();
    Json(json!({ "model_stats": stats }))
}

/// Decoding and encoding are not timed apart: they count as nothing.
fn statistics(loaded: &Loaded) -> Value {
    let totals = loaded.figures.totals();
    let last = totals.last_inference.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let mut statistics = json!({
        "name": loaded.release.model,
        "version": version_text(&loaded.release),
        "last_inference": last.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
        "inference_count": totals.ok,
        "execution_count": totals.ok + totals.failed,
        "inference_stats": {
            "success": duration(totals.ok, totals.queue_time + totals.compute_time),
            "fail": duration(totals.failed, totals.failed_time),
            "queue": duration(totals.ok, totals.queue_time),
            "compute_input": duration(totals.ok, Duration::ZERO),
            "compute_infer": duration(totals.ok, totals.compute_time),
            "compute_output": duration(totals.ok, Duration::ZERO),
        },
        "batch_stats": [],
    });
    if let Some(capture) = &loaded.capture {
        statistics["muster_drift"] = drift(capture.totals());
    }
    statistics
}

/// Beyond the protocol: what is counted of the version's features. `every` is null while it is measured.
fn drift(totals: capture::Totals) -> Value {
    let capture::Totals { every, counted, windows, left_out, observed } = totals;
    json!({
        "every": every, "rows_counted": counted, "windows": windows, "rows_left_out": left_out, "rows_observed": observed,
    })
}

fn duration(count: u64, time: Duration) -> Value {
    json!({ "count": count, "ns": u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) })
}
