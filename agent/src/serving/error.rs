//! Errors of the interface, and the only place that knows their status codes.
//!
//! The body has the protocol's string member `error` and beside it the members of a problem document (RFC 9457),
//! so both kinds of client find what they look for.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Seconds after which a busy model is worth another try.
const RETRY_AFTER_SECS: u32 = 1;

/// What went wrong, in words for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServingError {
    BadRequest(String),
    Forbidden(String),
    NotFound(String),
    Method,
    TooLarge(String),
    Model(String),
    NotReady(String),
    Busy(String),
    Timeout(String),
}

#[derive(Serialize)]
struct Body {
    error: String,
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
}

impl ServingError {
    /// Status, machine-readable code, and the text.
    fn parts(self) -> (StatusCode, &'static str, String) {
        match self {
            Self::BadRequest(text) => (StatusCode::BAD_REQUEST, "bad_request", text),
            Self::Forbidden(text) => (StatusCode::FORBIDDEN, "forbidden", text),
            Self::NotFound(text) => (StatusCode::NOT_FOUND, "not_found", text),
            Self::Method => {
                let text = "this address does not take that method".into();
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
            }
            Self::TooLarge(text) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", text),
            Self::Model(text) => (StatusCode::INTERNAL_SERVER_ERROR, "model_failed", text),
            Self::NotReady(text) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", text),
            Self::Busy(text) => (StatusCode::SERVICE_UNAVAILABLE, "busy", text),
            Self::Timeout(text) => (StatusCode::GATEWAY_TIMEOUT, "timeout", text),
        }
    }
}

impl IntoResponse for ServingError {
    fn into_response(self) -> Response {
        let (status, code, error) = self.parts();
        let title = status.canonical_reason().unwrap_or("Error");
        let body = Body { error, r#type: "about:blank", title, status: status.as_u16(), code };
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECS.into());
        }
        response
    }
}
