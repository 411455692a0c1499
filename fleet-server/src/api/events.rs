//! Everything that happened, in order.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::{Shared, problem::Answer};
use crate::store::EventRow;

/// Longest that a request waits for an event; proxies end quiet requests after a minute.
const MAX_WAIT_MS: u64 = 30_000;

/// Events of an answer to who does not say after which.
const NEWEST: u32 = 100;

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct EventsQuery {
    /// Events after this number, oldest first; the newest hundred when absent.
    after: Option<u64>,
    /// How long to wait for one, in milliseconds; at most 30000. Only together with `after`.
    #[serde(default)]
    wait_ms: u64,
}

/// What happened, oldest first; with `after` and `wait_ms` as soon as something did.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "events",
    params(EventsQuery),
    responses((status = 200, body = Vec<Object>))
)]
pub async fn list(
    State(app): State<Shared>,
    Query(query): Query<EventsQuery>,
) -> Answer<Json<Vec<EventRow>>> {
    let Some(after) = query.after else { return Ok(Json(app.store.newest_events(NEWEST).await?)) };
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms.min(MAX_WAIT_MS));
    // Subscribed before reading, so that no event falls in between.
    let mut changes = app.changes.subscribe();
    loop {
        let events = app.store.every_event_after(after).await?;
        if !events.is_empty() {
            return Ok(Json(events));
        }
        let waited = tokio::select! {
            waited = timeout_at(deadline, changes.changed()) => waited.is_ok(),
            () = app.stopping.cancelled() => false,
        };
        if !waited {
            return Ok(Json(events));
        }
    }
}
