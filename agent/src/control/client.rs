//! Asks the daemon of this device over its control socket.

use std::{io, path::Path, time::Duration};

use axum::body::{Body, to_bytes};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{net::UnixStream, time::timeout};

use super::ProblemView;

/// The daemon answers from memory; one that is silent for this long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A status of as many models as a device runs is a tenth of this.
const MAX_ANSWER_BYTES: usize = 1_024 * 1_024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens, or this user may not ask.
    #[error("cannot connect to the agent at {path}")]
    Connect {
        /// The socket.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon did not answer in time.
    #[error("the agent did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// What came is not an answer.
    #[error("the agent's answer cannot be read: {0}")]
    Garbled(String),
    /// The daemon said no.
    #[error("{}", .0.detail)]
    Refused(ProblemView),
}

/// Asks for `path` with `method` and without a body.
///
/// # Errors
/// When nobody answers, or the answer is a refusal.
pub async fn ask<T: DeserializeOwned>(socket: &Path, method: Method, path: &str) -> Result<T, AskError> {
    timeout(PATIENCE, exchange(socket, method, path)).await.unwrap_or(Err(AskError::Silent))
}

async fn exchange<T: DeserializeOwned>(socket: &Path, method: Method, path: &str) -> Result<T, AskError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| AskError::Connect { path: socket.display().to_string(), source })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(garbled)?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "agent");
    let request = request.body(Body::empty()).map_err(garbled)?;
    let response = sender.send_request(request).await.map_err(garbled)?;
    let status = response.status();
    let bytes = to_bytes(Body::new(response.into_body()), MAX_ANSWER_BYTES).await.map_err(garbled)?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&bytes).map_err(garbled);
    }
    Err(AskError::Refused(serde_json::from_slice(&bytes).map_err(garbled)?))
}

fn garbled(error: impl ToString) -> AskError {
    AskError::Garbled(error.to_string())
}
