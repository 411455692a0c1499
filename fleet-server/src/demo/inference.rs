//! Asks a device as an application on it would: Open Inference Protocol over HTTP on the device's Unix socket.

use std::path::{Path, PathBuf};

use axum::body::{Body, to_bytes};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::UnixStream;

use super::assets::{Image, MODEL};

/// Largest answer that is read: ten probabilities as text are a hundredth of it.
const MAX_ANSWER_BYTES: usize = 64 * 1_024;

/// A request that got no useful answer.
#[derive(Debug, Error)]
pub enum Unanswered {
    /// No connection, or one that broke.
    #[error("no answer: {0}")]
    Connection(String),
    /// The device said no.
    #[error("{status}: {error}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// In these words.
        error: String,
    },
}

impl Unanswered {
    /// The version that failed, where the device names one: `digits@3: …`.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        let Self::Refused { error, .. } = self else { return None };
        let (name, number) = error.split_once(':')?.0.split_once('@')?;
        number.parse().ok().filter(|_| name == MODEL)
    }
}

/// What a version answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Number of the version.
    pub version: u32,
    /// The digit it sees.
    pub digit: u8,
}

#[derive(Deserialize)]
struct InferAnswer {
    model_version: String,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    data: Vec<f64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// A connection to a device, made when it is needed and kept.
#[derive(Debug)]
pub struct Application {
    socket: PathBuf,
    connection: Option<SendRequest<Body>>,
}

impl Application {
    /// An application that talks to `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), connection: None }
    }

    /// True when the model answers.
    pub async fn is_ready(&mut self) -> bool {
        self.send(Method::GET, &format!("/v2/models/{MODEL}/ready"), &Value::Null).await.is_ok()
    }

    /// Asks which digit `image` shows.
    ///
    /// # Errors
    /// When the device does not answer the question.
    pub async fn infer(&mut self, id: &str, image: Image) -> Result<Answered, Unanswered> {
        let body = json!({"id": id, "inputs": [
            {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": image.pixels.as_slice()}
        ]});
        let bytes = self.send(Method::POST, &format!("/v2/models/{MODEL}/infer"), &body).await?;
        let unreadable = |what: &str| Unanswered::Connection(format!("the answer has no {what}"));
        let answer: InferAnswer =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(&error.to_string()))?;
        let scores = answer.outputs.first().ok_or_else(|| unreadable("output"))?;
        let version = answer.model_version.parse().map_err(|_| unreadable("version"))?;
        let best = scores.data.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
        let digit =
            best.and_then(|(digit, _)| u8::try_from(digit).ok()).ok_or_else(|| unreadable("score"))?;
        Ok(Answered { version, digit })
    }

    /// Tells which digit it was.
    ///
    /// # Errors
    /// When the device does not take the label.
    pub async fn label(&mut self, id: &str, label: u8) -> Result<(), Unanswered> {
        let body = json!({"model": MODEL, "id": id, "label": label});
        self.send(Method::POST, "/muster/v1/feedback", &body).await.map(drop)
    }

    async fn send(&mut self, method: Method, path: &str, body: &Value) -> Result<Vec<u8>, Unanswered> {
        let sent = self.try_send(method, path, body).await;
        if matches!(sent, Err(Unanswered::Connection(_))) {
            self.connection = None;
        }
        sent
    }

    async fn try_send(&mut self, method: Method, path: &str, body: &Value) -> Result<Vec<u8>, Unanswered> {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "device")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .expect("the parts of the request are constants");
        let connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let bytes = to_bytes(Body::new(response.into_body()), MAX_ANSWER_BYTES).await.map_err(broken)?;
        if status.is_success() {
            return Ok(bytes.to_vec());
        }
        let refusal = serde_json::from_slice(&bytes).map(|refusal: Refusal| refusal.error);
        Err(Unanswered::Refused { status, error: refusal.unwrap_or_else(|_| "without a reason".to_owned()) })
    }

    async fn connection(&mut self) -> Result<&mut SendRequest<Body>, Unanswered> {
        if self.connection.as_mut().is_none_or(|open| open.is_closed()) {
            self.connection = Some(connect(&self.socket).await?);
        }
        let open = self.connection.as_mut().expect("just opened");
        open.ready().await.map_err(broken)?;
        Ok(open)
    }
}

async fn connect(socket: &Path) -> Result<SendRequest<Body>, Unanswered> {
    let stream = UnixStream::connect(socket).await.map_err(broken)?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the sender, and what breaks it shows at the sender.
    tokio::spawn(driver);
    Ok(sender)
}

fn broken(error: impl std::fmt::Display) -> Unanswered {
    Unanswered::Connection(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_which_version_failed() {
        let refused = |error: &str| {
            Unanswered::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, error: error.to_owned() }
                .version()
        };
        assert_eq!(refused("digits@3: output 'probabilities' is not finite"), Some(3));
        assert_eq!(refused("'digits' is busy; try again in a moment"), None);
        assert_eq!(Unanswered::Connection("digits@3: gone".to_owned()).version(), None);
    }
}
