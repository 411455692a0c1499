//! What happens around every request.

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::Instrument;

use super::{
    Shared,
    problem::{self, Problem},
};

const REQUEST_ID: &str = "x-request-id";

/// Longest message of the framework that is taken over.
const MAX_MESSAGE_BYTES: usize = 4_096;

/// Gives the request an id and brings every error into the form of a problem document.
pub async fn finish(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7().to_string();
    let span = tracing::info_span!("http", request.id = %id, method = %request.method(), path = request.uri().path());
    let response = match no_nul(&request) {
        Ok(()) => next.run(request).instrument(span).await,
        Err(problem) => problem.into_response(),
    };
    let mut response = as_problem(response, &id).await;
    app.metrics.answered(response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// What is in an address becomes a value of a query, and not every database takes this character in one.
fn no_nul(request: &Request) -> Result<(), Problem> {
    let address = request.uri().path_and_query().map_or("", |address| address.as_str());
    if !address.contains("%00") {
        return Ok(());
    }
    Err(Problem::bad_request("bad_address", "the address holds a NUL character (%00)")
        .hint("no name or id has one; leave it out"))
}

async fn as_problem(mut response: Response, id: &str) -> Response {
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.request_id = Some(id.to_owned());
        return problem::write(problem);
    }
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    // An extractor of the framework refused the request; its text is the detail.
    let allow = response.headers().get(header::ALLOW).cloned();
    let text = to_bytes(response.into_body(), MAX_MESSAGE_BYTES).await.unwrap_or_default();
    let mut problem = Problem::new(status, code(status), String::from_utf8_lossy(&text));
    if problem.detail.is_empty() {
        problem.detail = problem.title.clone();
    }
    problem.request_id = Some(id.to_owned());
    let mut response = problem::write(problem);
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::NOT_FOUND => "not_found",
        _ => "bad_request",
    }
}

/// Answers paths that no route has.
pub async fn no_such_path(request: Request) -> Response {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::not_found("no_such_path", detail)
        .hint("see /api/v1/openapi.json for what there is")
        .into_response()
}
