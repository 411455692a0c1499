//! What there is and whether it is ready.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use shared::manifest::{DataType, Dim, TensorSpec};

use super::{error::ServingError, find_model, find_version, version_text};
use crate::runner::models::{Loaded, Model, Models};

type Answer = Result<Json<Value>, ServingError>;

/// Name of the engine and of the format that it reads.
const PLATFORM: &str = "tract_onnx";

const EXTENSIONS: [&str; 6] = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "statistics",
    "muster_feedback",
    "muster_metrics",
];

pub(super) fn routes() -> Router<Arc<Models>> {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/versions/{version}", get(model_version))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{model}/config", get(config))
        .route("/v2/models/{model}/versions/{version}/config", get(config_version))
        .route("/v2/repository/index", post(index))
}

pub(super) async fn server() -> Json<Value> {
    Json(json!({ "name": "muster-agent", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// Ready when every model has a version that answers; so also with no model at all.
async fn ready(State(models): State<Arc<Models>>) -> (StatusCode, Json<Value>) {
    let ready = models.all().iter().all(|(_, model)| model.active.load().is_some());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready })))
}

async fn model(State(models): State<Arc<Models>>, Path(name): Path<String>) -> Answer {
    let model = find_model(&models, &name)?;
    Ok(describe(&model, &*find_version(&model, &name, None)?))
}

async fn model_version(
    State(models): State<Arc<Models>>,
    Path((name, version)): Path<(String, String)>,
) -> Answer {
    let model = find_model(&models, &name)?;
    Ok(describe(&model, &*find_version(&model, &name, Some(&version))?))
}

async fn model_ready(State(models): State<Arc<Models>>, Path(name): Path<String>) -> Answer {
    let loaded = find_version(&*find_model(&models, &name)?, &name, None)?;
    Ok(Json(json!({ "name": loaded.release.model, "ready": true })))
}

async fn version_ready(
    State(models): State<Arc<Models>>,
    Path((name, version)): Path<(String, String)>,
) -> Answer {
    let loaded = find_version(&*find_model(&models, &name)?, &name, Some(&version))?;
    Ok(Json(json!({ "name": loaded.release.model, "ready": true })))
}

async fn config(State(models): State<Arc<Models>>, Path(name): Path<String>) -> Answer {
    Ok(configuration(&*find_version(&*find_model(&models, &name)?, &name, None)?))
}

async fn config_version(
    State(models): State<Arc<Models>>,
    Path((name, version)): Path<(String, String)>,
) -> Answer {
    Ok(configuration(&*find_version(&*find_model(&models, &name)?, &name, Some(&version))?))
}

async fn index(State(models): State<Arc<Models>>) -> Json<Value> {
    let mut entries = Vec::new();
    for (name, model) in models.all() {
        let active = model.active.load_full();
        for loaded in model.versions() {
            let answers = active.as_ref().is_some_and(|active| active.release == loaded.release);
            let reason = if answers { "" } else { "loaded beside the active version" };
            let version = version_text(&loaded.release);
            entries.push(json!({ "name": name, "version": version, "state": "READY", "reason": reason }));
        }
    }
    Json(Value::Array(entries))
}

/// The version that is asked about stands first among the versions.
fn describe(model: &Model, loaded: &Loaded) -> Json<Value> {
    let others = model.versions().into_iter().filter(|other| other.release != loaded.release);
    let versions: Vec<String> = std::iter::once(version_text(&loaded.release))
        .chain(others.map(|other| version_text(&other.release)))
        .collect();
    Json(json!({
        "name": loaded.release.model,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": loaded.inputs().iter().map(tensor).collect::<Vec<_>>(),
        "outputs": loaded.outputs().iter().map(tensor).collect::<Vec<_>>(),
    }))
}

fn tensor(spec: &TensorSpec) -> Value {
    json!({ "name": spec.name, "datatype": spec.datatype, "shape": lengths(spec) })
}

fn lengths(spec: &TensorSpec) -> Vec<i64> {
    spec.shape.iter().map(Dim::oip).collect()
}

/// The shape counts every axis: there is no batch axis that the server would add.
fn configuration(loaded: &Loaded) -> Json<Value> {
    let side = |specs: &[TensorSpec]| -> Vec<Value> {
        let tensor = |spec: &TensorSpec| json!({ "name": spec.name, "data_type": config_type(spec.datatype), "dims": lengths(spec) });
        specs.iter().map(tensor).collect()
    };
    Json(json!({
        "name": loaded.release.model,
        "platform": PLATFORM,
        "backend": "tract",
        "max_batch_size": 0,
        "input": side(loaded.inputs()),
        "output": side(loaded.outputs()),
    }))
}

/// `TYPE_FP32` and so on, as model configurations spell it.
fn config_type(datatype: DataType) -> String {
    format!("TYPE_{datatype}")
}
