//! The inference call: read → queue → run → check → count → answer.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use muster_engine::{EngineError, Tensor, WrongOutput, outputs_are_finite, outputs_match};
use tokio::sync::oneshot;

use super::{
    error::ServingError,
    find_model, find_version,
    wire::{self, Inference},
};
use crate::runner::{
    challenge::flights::Flight,
    figures::{Outcome, Times},
    models::{Loaded, Model, Models},
    pool::NoResult,
    recent::{Answered, top_class},
};

/// Inference by the version that answers at the moment.
pub(super) async fn active(
    State(models): State<Arc<Models>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ServingError> {
    serve(&models, &name, None, &headers, body).await
}

/// Inference by a version that the caller names.
pub(super) async fn version(
    State(models): State<Arc<Models>>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ServingError> {
    serve(&models, &name, Some(&version), &headers, body).await
}

async fn serve(
    models: &Models,
    name: &str,
    version: Option<&str>,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ServingError> {
    let _flight = models.flights.begin();
    let model = find_model(models, name)?;
    let loaded = find_version(&model, name, version)?;
    let refused = |error: ServingError| {
        loaded.figures.turned_away(Outcome::BadRequest);
        error
    };
    let body = body.map_err(|rejection| refused(unreadable(&rejection)))?;
    let mut request = wire::read(headers, &body).map_err(refused)?;
    let wanted = request.wanted(loaded.outputs()).map_err(refused)?;
    let id = request.id.take().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let (answer, answered) = oneshot::channel();
    // Spawned, so that a caller who hangs up does not take the evidence along.
    let run =
        answer_and_count(model, Arc::clone(&loaded), request, id.clone(), models.flights.begin(), answer);
    tokio::spawn(run);
    let outputs = answered.await.map_err(|_| failed(&loaded, "the inference broke off"))??;
    wire::write(&loaded.release, &id, loaded.outputs(), &outputs, &wanted)
}

fn unreadable(rejection: &BytesRejection) -> ServingError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ServingError::TooLarge(format!("the body is larger than {} bytes", super::MAX_BODY_BYTES));
    }
    ServingError::BadRequest(rejection.body_text())
}

/// The caller is answered first; only then rows are counted. The version is held until they are, so that the last
/// window of one that is unloaded has them.
async fn answer_and_count(
    model: Arc<Model>,
    loaded: Arc<Loaded>,
    request: Inference,
    id: String,
    _flight: Flight,
    answer: oneshot::Sender<Result<Vec<Tensor>, ServingError>>,
) {
    let kept = loaded.capture.as_ref().and_then(|capture| capture.keep(&request.inputs));
    let result = run_and_count(&model, &loaded, request, id).await;
    let answered = kept.zip(result.as_ref().ok()).and_then(|(kept, outputs)| kept.answered(outputs));
    // Nobody listens when the caller has hung up.
    let _ = answer.send(result);
    if let Some(answered) = answered {
        tokio::task::yield_now().await;
        answered.count().await;
    }
}

async fn run_and_count(
    model: &Model,
    loaded: &Arc<Loaded>,
    request: Inference,
    id: String,
) -> Result<Vec<Tensor>, ServingError> {
    let sampled = model.feed.load_full().and_then(|feed| feed.sampling(&id, &request.inputs));
    let (ran, times) = match model.pool.run(Arc::clone(loaded), request.inputs).await {
        Ok(ran) => ran,
        Err(no_result) => return Err(count_no_result(loaded, no_result)),
    };
    match judge(loaded, ran) {
        Ok(outputs) => {
            // Remembered first: a caller who has the answer may send the label at once.
            let answered = Answered { figures: Arc::clone(&loaded.figures), top_class: top_class(&outputs) };
            model.recent().insert(id, answered);
            loaded.figures.confident(&loaded.confidence.of(&outputs));
            loaded.figures.answered(Outcome::Ok, times, is_slow(loaded, times));
            if let Some(sampled) = sampled {
                sampled.answered(&loaded.release, &outputs);
            }
            Ok(outputs)
        }
        Err((Outcome::BadRequest, error)) => {
            loaded.figures.turned_away(Outcome::BadRequest);
            Err(error)
        }
        Err((outcome, error)) => {
            loaded.figures.answered(outcome, times, is_slow(loaded, times));
            Err(error)
        }
    }
}

fn count_no_result(loaded: &Loaded, no_result: NoResult) -> ServingError {
    match no_result {
        NoResult::Busy => {
            loaded.figures.turned_away(Outcome::Busy);
            ServingError::Busy(format!("'{}' is busy; try again in a moment", loaded.release.model))
        }
        NoResult::Timeout(times) => {
            loaded.figures.answered(Outcome::Timeout, times, true);
            ServingError::Timeout(format!("{} did not answer before its deadline", loaded.release))
        }
    }
}

/// What the engine said against what the manifest promises.
fn judge(
    loaded: &Loaded,
    ran: Result<Vec<Tensor>, EngineError>,
) -> Result<Vec<Tensor>, (Outcome, ServingError)> {
    let outputs = ran.map_err(|error| match error {
        EngineError::Input(text) => (Outcome::BadRequest, ServingError::BadRequest(text)),
        EngineError::Load(_) | EngineError::Run(_) | EngineError::Panic { .. } => {
            (Outcome::EngineError, failed(loaded, &error.to_string()))
        }
    })?;
    outputs_match(loaded.outputs(), &outputs)
        .and_then(|()| outputs_are_finite(loaded.outputs(), &outputs))
        .map_err(|wrong| {
        let outcome = match &wrong {
            WrongOutput::NotFinite(_) => Outcome::NonFinite,
            WrongOutput::Count { .. } | WrongOutput::Mismatch { .. } => Outcome::WrongShape,
        };
        (outcome, failed(loaded, &wrong.to_string()))
    })?;
    Ok(outputs)
}

fn failed(loaded: &Loaded, text: &str) -> ServingError {
    ServingError::Model(format!("{}: {text}", loaded.release))
}

fn is_slow(loaded: &Loaded, times: Times) -> bool {
    times.compute.as_millis() > u128::from(loaded.budgets.latency_ms)
}
