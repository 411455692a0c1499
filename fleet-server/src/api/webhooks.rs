//! Webhooks: other systems that are told of events.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use shared::Timestamp;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    Shared,
    problem::{Answer, Problem},
    routes::Caller,
};
use crate::{
    store::{NewWebhook, Store, WebhookRow},
    webhooks::{EventFilter, Sender, Trust, WebhookSecret, check_address, host_of, test_envelope},
};

/// Longest CA file: a few certificates with the text that tools write beside them.
const MAX_CA_LEN: usize = 64 * 1_024;

/// A webhook to be added.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddWebhook {
    /// Where deliveries are posted: `https:`, or `http:` on this machine.
    pub url: String,
    /// Kinds of events such as `drift`, or single ones such as `rollout.halted`; all when empty.
    #[serde(default)]
    pub events: Vec<String>,
    /// The CA that signed the receiver's certificate, as PEM; those of the server's system when absent.
    #[serde(default)]
    pub ca_pem: Option<String>,
    /// Accept `http:` elsewhere too, which anybody on the way can read.
    #[serde(default)]
    pub insecure_http: bool,
}

/// A webhook that was added. Its secret is shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AddedWebhook {
    /// What was added.
    pub webhook: WebhookView,
    /// What its receiver checks signatures with.
    pub secret: String,
}

/// Whether a webhook is told of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookState {
    /// It is.
    Active,
    /// The last try failed; it is tried again.
    Failing,
    /// It failed for days, or wanted no more, and is not tried any more.
    Disabled,
}

/// A webhook.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookView {
    /// Its id.
    pub id: String,
    /// Where it leads.
    pub url: String,
    /// The events that it is told of; all when empty.
    pub events: Vec<String>,
    /// Its receiver is checked with a CA of its own.
    pub own_ca: bool,
    /// Whether it is told of events.
    pub state: WebhookState,
    /// Number of the last event that is done with.
    pub sequence: u64,
    /// Tries of the next delivery that failed.
    pub failures: u32,
    /// When the first of them was, in milliseconds since 1970.
    pub failing_since: Option<u64>,
    /// When it is tried again.
    pub next_try_at: Option<u64>,
    /// Why the last try failed, or why nobody tries any more.
    pub last_error: Option<String>,
    /// When the last delivery arrived.
    pub delivered_at: Option<u64>,
    /// Since when nobody tries any more.
    pub disabled_at: Option<u64>,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: u64,
}

/// What came of a test.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TestedWebhook {
    /// The receiver took it.
    pub delivered: bool,
    /// In words.
    pub detail: String,
    /// How long it took.
    pub millis: u64,
}

impl From<WebhookRow> for WebhookView {
    fn from(row: WebhookRow) -> Self {
        let WebhookRow { standing, disabled, .. } = row;
        let state = match (&disabled, standing.failures) {
            (Some(_), _) => WebhookState::Disabled,
            (None, 0) => WebhookState::Active,
            (None, _) => WebhookState::Failing,
        };
        let next = (state == WebhookState::Failing).then_some(standing.not_before);
        Self {
            id: row.id,
            url: row.url,
            events: row.events,
            own_ca: row.ca_pem.is_some(),
            state,
            sequence: row.sequence,
            failures: standing.failures,
            failing_since: standing.failing_since.map(Timestamp::as_millis),
            next_try_at: next.map(Timestamp::as_millis),
            last_error: row.last_error,
            delivered_at: row.delivered_at.map(Timestamp::as_millis),
            disabled_at: disabled.map(|(at, _)| at.as_millis()),
            created_by: row.created_by,
            created_at: row.created_at.as_millis(),
        }
    }
}

/// Lists webhooks, oldest first, without their secrets.
#[utoipa::path(
    get,
    path = "/api/v1/webhooks",
    tag = "webhooks",
    responses((status = 200, body = Vec<WebhookView>))
)]
pub async fn list(State(app): State<Shared>) -> Answer<Json<Vec<WebhookView>>> {
    Ok(Json(app.store.webhooks().await?.into_iter().map(WebhookView::from).collect()))
}

/// Adds a webhook. It is told of what happens from now on.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks",
    tag = "webhooks",
    request_body = AddWebhook,
    responses(
        (status = 201, body = AddedWebhook),
        (status = 400, body = Problem),
        (status = 409, body = Problem),
    )
)]
pub async fn add(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<AddWebhook>,
) -> Answer<(StatusCode, Json<AddedWebhook>)> {
    let now = app.clock.now();
    let new = checked(body, &caller.name)?;
    let mut tx = app.store.begin().await?;
    let row = Store::insert_webhook(&mut tx, &new, now).await?.ok_or_else(full)?;
    Store::audit(&mut tx, now, &caller.name, "webhook.add", &row.id, &words(&row)).await?;
    tx.commit().await.map_err(crate::store::StoreError::from)?;
    let secret = WebhookSecret::derive(&app.token_key, &row.id, &row.salt).text().to_string();
    Ok((StatusCode::CREATED, Json(AddedWebhook { webhook: row.into(), secret })))
}

/// Removes a webhook. What waited for it is told nobody.
#[utoipa::path(
    delete,
    path = "/api/v1/webhooks/{id}",
    tag = "webhooks",
    params(("id" = String, Path, description = "Id of the webhook")),
    responses((status = 204, description = "It is no more"), (status = 404, body = Problem))
)]
pub async fn remove(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let mut tx = app.store.begin().await?;
    let row = Store::delete_webhook(&mut tx, &id).await?.ok_or_else(|| no_webhook(&id))?;
    Store::audit(&mut tx, app.clock.now(), &caller.name, "webhook.remove", &id, &words(&row)).await?;
    tx.commit().await.map_err(crate::store::StoreError::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries a webhook at once that fails or was given up; it goes on where it stopped.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/{id}/enable",
    tag = "webhooks",
    params(("id" = String, Path, description = "Id of the webhook")),
    responses((status = 200, body = WebhookView), (status = 404, body = Problem))
)]
pub async fn enable(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<WebhookView>> {
    let mut tx = app.store.begin().await?;
    let row = Store::enable_webhook(&mut tx, &id).await?.ok_or_else(|| no_webhook(&id))?;
    Store::audit(&mut tx, app.clock.now(), &caller.name, "webhook.enable", &id, &words(&row)).await?;
    tx.commit().await.map_err(crate::store::StoreError::from)?;
    app.changes.send_modify(|count| *count += 1);
    Ok(Json(row.into()))
}

/// Posts an event of the type `dev.muster.webhook.test`, once and at once, and says what came of it. It changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/{id}/test",
    tag = "webhooks",
    params(("id" = String, Path, description = "Id of the webhook")),
    responses((status = 200, body = TestedWebhook), (status = 404, body = Problem))
)]
pub async fn test(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<TestedWebhook>> {
    let row = app.store.webhook(&id).await?.ok_or_else(|| no_webhook(&id))?;
    let (now, began) = (app.clock.now(), Instant::now());
    let envelope = test_envelope(&row.id, &caller.name, now, app.authority.fingerprint());
    let secret = WebhookSecret::derive(&app.token_key, &row.id, &row.salt);
    let posted = match Sender::new(&row.url, row.ca_pem.as_deref()) {
        Ok(sender) => sender.post(&row.url, &secret, &envelope, now).await.map_err(|failure| failure.detail),
        Err(error) => Err(error.to_string()),
    };
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (delivered, detail) = match posted {
        Ok(status) => (true, format!("the receiver answered {status}")),
        Err(detail) => (false, detail),
    };
    Ok(Json(TestedWebhook { delivered, detail, millis }))
}

fn checked(body: AddWebhook, by: &str) -> Answer<NewWebhook> {
    let AddWebhook { url, events, ca_pem, insecure_http } = body;
    let trust = if insecure_http { Trust::InsecureHttp } else { Trust::TlsOnly };
    let wrong =
        |code: &'static str, error: &dyn std::fmt::Display| Problem::bad_request(code, error.to_string());
    let url = check_address(&url, trust).map_err(|error| wrong("bad_address", &error))?;
    let filter = EventFilter::new(events).map_err(|error| wrong("bad_events", &error))?;
    if let Some(pem) = &ca_pem {
        if pem.len() > MAX_CA_LEN {
            return Err(wrong("bad_ca", &format!("the CA has more than {MAX_CA_LEN} bytes")));
        }
        Sender::new(url.as_str(), Some(pem)).map_err(|error| wrong("bad_ca", &error))?;
    }
    Ok(NewWebhook {
        url: url.to_string(),
        events: filter.words().to_vec(),
        ca_pem,
        created_by: by.to_owned(),
    })
}

/// Without the path, which may hold a key.
fn words(row: &WebhookRow) -> String {
    let events = if row.events.is_empty() { "all events".to_owned() } else { row.events.join(", ") };
    format!("{events} to {}", host_of(&row.url))
}

fn no_webhook(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Problem::not_found("webhook_not_found", format!("there is no webhook {id}"))
        .hint("see what there is: muster webhook list")
}

fn full() -> Problem {
    let detail = format!("there are {} webhooks", Store::MAX_WEBHOOKS);
    Problem::conflict("too_many_webhooks", detail).hint("remove one: muster webhook remove ID")
}
