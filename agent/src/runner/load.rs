//! Loading a version: verify → inspect → compile → warm, on a thread where it may take its time.

use std::{fs::File, sync::Arc, time::Instant};

use bytes::Bytes;
use muster_engine::{Engine as _, Session, TractEngine, inspect};
use tokio::sync::oneshot;

use super::{
    capture::Capture,
    confidence::Confidence,
    file::read_verified,
    models::{Loaded, Models},
    protocol::{Event, LoadRequest},
    schema::agree,
};

/// A version that was loaded.
pub(super) struct Life {
    /// Resolves when it is dropped.
    pub(super) gone: oneshot::Receiver<()>,
    /// What counts its features until then.
    pub(super) capture: Option<Arc<Capture>>,
}

/// Loads a version, unless it is loaded, and tells how it went.
pub(super) fn load(models: &Arc<Models>, request: &LoadRequest, file: &File) -> (Event, Option<Life>) {
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
        Ok(life) => {
            let load_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let memory_kib = loading.done(&release, &request.budgets);
            (Event::Loaded { release, load_ms, memory_kib }, Some(life))
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

fn insert(models: &Arc<Models>, request: &LoadRequest, session: Box<dyn Session>) -> Result<Life, String> {
    let (sender, gone) = oneshot::channel();
    let LoadRequest { release, drift, known_every, .. } = request;
    let capture = drift.as_ref().and_then(|spec| {
        models.captures.prepare(release, spec, *known_every, session.inputs(), session.outputs())
    });
    let loaded = Loaded {
        release: request.release.clone(),
        confidence: Confidence::new(session.outputs()),
        session,
        budgets: request.budgets,
        figures: models.new_figures(&request.release),
        capture: capture.clone(),
        _gone: sender,
    };
    models.insert(loaded).map_err(|error| format!("no thread for the model: {error}"))?;
    capture.iter().for_each(|capture| models.captures.add(Arc::clone(capture)));
    Ok(Life { gone, capture })
}
