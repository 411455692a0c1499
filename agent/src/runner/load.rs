//! Loading a version: verify → inspect → compile → warm, on a thread where it may take its time.

use std::{fs::File, sync::Arc, time::Instant};

use bytes::Bytes;
use muster_engine::{Engine as _, Session, TractEngine, inspect};
use tokio::sync::oneshot;

use super::{
    confidence::Confidence,
    file::read_verified,
    models::{Loaded, Models},
    protocol::{Event, LoadRequest},
    schema::agree,
};

/// Loads a version, unless it is loaded, and tells how it went. `gone` resolves when the version is dropped.
pub(super) fn load(
    models: &Arc<Models>,
    request: &LoadRequest,
    file: &File,
) -> (Event, Option<oneshot::Receiver<()>>) {
    let release = request.release.clone();
    if models.has(&release) {
        return (Event::Loaded { release, load_ms: 0, memory_kib: 0 }, None);
    }
    let loading = models.memory.load();
    let started = Instant::now();
    let model = match read_verified(file, &request.model_digest) {
        Ok(model) => model,
        Err(detail) => return (Event::Damaged { release, detail: format!("the model {detail}") }, None),
    };
    match compile(request, model).and_then(|session| insert(models, request, session)) {
        Ok(gone) => {
            let load_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let memory_kib = loading.done(&release, &request.budgets);
            (Event::Loaded { release, load_ms, memory_kib }, Some(gone))
        }
        Err(detail) => (Event::LoadFailed { release, detail }, None),
    }
}

fn compile(request: &LoadRequest, model: Bytes) -> Result<Box<dyn Session>, String> {
    let inspected = inspect(&model).map_err(|error| error.to_string())?;
    agree("inputs", &request.inputs, &inspected.inputs)?;
    agree("outputs", &request.outputs, &inspected.outputs)?;
    let session =
        TractEngine.load(model, &request.inputs, &request.outputs).map_err(|error| error.to_string())?;
    session.warm().map_err(|error| error.to_string())?;
    Ok(session)
}

fn insert(
    models: &Arc<Models>,
    request: &LoadRequest,
    session: Box<dyn Session>,
) -> Result<oneshot::Receiver<()>, String> {
    let (sender, gone) = oneshot::channel();
    let loaded = Loaded {
        release: request.release.clone(),
        confidence: Confidence::new(session.outputs()),
        session,
        budgets: request.budgets,
        figures: models.new_figures(&request.release),
        _gone: sender,
    };
    models.insert(loaded).map_err(|error| format!("no thread for the model: {error}"))?;
    Ok(gone)
}
