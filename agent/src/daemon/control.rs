//! Answers the operator of this device on the control socket.
//!
//! Only the agent's own user and root are let in: by the mode of the socket, and by the kernel's word on who calls. A
//! group may be given the serving socket, because asking for inferences harms nobody; taking a version back does. The
//! number of callers, their time and the size of what they say are bounded, so a caller that hangs costs nothing.

mod facts;

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{self, DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use shared::ModelName;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use crate::control::{ModelView, ProblemCode, ProblemView, STATUS_PATH, StatusView, unknown_model};

use super::patience::patiently;
pub(super) use facts::{Answer, Asked, Facts, Operator, Question};

/// The owner alone.
const SOCKET_MODE: u32 = 0o600;

/// Callers at once: an operator and a monitoring script with room to spare.
const MAX_CALLERS: usize = 8;

/// From the first byte to the end of the answer. The shell answers at its next turn.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// Requests say everything in their address.
const MAX_BODY_BYTES: usize = 1_024;

/// The socket; it disappears with this value.
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Listens at `path`. The caller holds the lock of the data directory, so a socket that is there was left by an
    /// agent that died.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else has its name")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&path)?;
        let socket = Self { listener, path };
        fs::set_permissions(&socket.path, fs::Permissions::from_mode(SOCKET_MODE))?;
        Ok(socket)
    }

    /// Answers for as long as it is polled.
    pub(super) async fn serve(self, operator: Operator) {
        let router = router(operator);
        let callers = Arc::new(Semaphore::new(MAX_CALLERS));
        loop {
            let Ok(place) = Arc::clone(&callers).acquire_owned().await else { return };
            let Some(stream) = accept(&self.listener).await else { continue };
            let router = router.clone();
            tokio::spawn(async move {
                if timeout(CALL_PATIENCE, answer(stream, router)).await.is_err() {
                    tracing::debug!("a caller of the control socket took too long");
                }
                drop(place);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A caller who may ask. Running out of descriptors is the one failure to be expected; it is waited out.
async fn accept(listener: &UnixListener) -> Option<UnixStream> {
    match listener.accept().await {
        Ok((stream, _)) if is_allowed(&stream) => Some(stream),
        Ok(_) => {
            tracing::warn!("another user was turned away from the control socket");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a caller of the control socket");
            tokio::time::sleep(Duration::from_secs(1)).await;
            None
        }
    }
}

fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|caller| caller.uid() == own || caller.uid() == 0)
}

async fn answer(stream: UnixStream, router: Router) {
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await {
        tracing::debug!(%error, "a caller of the control socket went away");
    }
}

fn router(operator: Operator) -> Router {
    Router::new()
        .route(STATUS_PATH, get(status))
        .route("/v1/models/{model}/rollback", post(roll_back))
        .fallback(|| async { problem(ProblemCode::NotFound, "there is no such address") })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(operator))
}

async fn status(State(operator): State<Arc<Operator>>) -> Result<Json<StatusView>, Response> {
    operator.status().await.map(Json).ok_or_else(ending)
}

/// Takes a model back to its committed version; answered when the ledger says so.
async fn roll_back(
    State(operator): State<Arc<Operator>>,
    extract::Path(name): extract::Path<String>,
) -> Result<Json<ModelView>, Response> {
    let models = operator.models().await.ok_or_else(ending)?;
    let known =
        ModelName::new(name.as_str()).ok().filter(|name| models.iter().any(|view| view.model == *name));
    let model = known.ok_or_else(|| respond(unknown_model(&name, &models)))?;
    let done = operator.roll_back(model.clone()).await.ok_or_else(ending)?;
    let after = done.map_err(|refusal| problem(ProblemCode::Conflict, &refusal.to_string()))?;
    let view = after.into_iter().find(|view| view.model == model);
    view.map(Json).ok_or_else(|| problem(ProblemCode::NotFound, "the model is gone"))
}

fn ending() -> Response {
    problem(ProblemCode::Failed, "the agent is ending")
}

fn problem(code: ProblemCode, detail: &str) -> Response {
    respond(ProblemView { code, detail: detail.to_owned() })
}

fn respond(problem: ProblemView) -> Response {
    let status = match problem.code {
        ProblemCode::NotFound => StatusCode::NOT_FOUND,
        ProblemCode::Conflict => StatusCode::CONFLICT,
        ProblemCode::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(problem)).into_response()
}

/// Opens the socket in `data_dir` if that can be done. A device without it is deaf to its operator and still does
/// everything it was made for, so the daemon goes on.
pub(super) async fn open(data_dir: &Path) -> Option<ControlSocket> {
    let path = crate::control::socket_path(data_dir);
    match patiently(|| ControlSocket::open(path.clone())).await {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the commands status, models, why and rollback are not answered");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_a_dead_agent_left_is_replaced_and_only_its_owner_may_use_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        std::mem::forget(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = ControlSocket::open(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::write(&path, "mine").unwrap();
        assert!(ControlSocket::open(path.clone()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
