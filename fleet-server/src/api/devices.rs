//! Devices.

mod figures;
pub(super) mod limits;
pub(super) mod why;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use fleet_core::Selector;
use serde::{Deserialize, Serialize};
use shared::{
    DeviceId,
    device::{Inventory, Labels},
    telemetry::DeviceHealth,
};
use utoipa::{IntoParams, ToSchema};

use super::{
    Shared,
    enroll_tokens::check_labels,
    problem::{Answer, Problem},
    routes::Caller,
    selectors::resolve_selector,
};
use crate::store::{Desired, DeviceRow, Store, StoreError};

pub use figures::{LabelsView, ReleaseFigures};
pub use limits::{DeliveryView, SetLimits};
pub use why::WhyView;

/// Which devices.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct DevicesQuery {
    /// A selector, such as `site=berlin` or `group:NAME`; all when absent.
    selector: Option<String>,
    /// Devices after this name, for the next page.
    #[serde(default)]
    after: String,
}

/// A page of devices.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    /// Devices by name.
    pub devices: Vec<DeviceView>,
    /// Give it as `after` for the next page; absent on the last.
    pub next: Option<String>,
}

/// A model on a device.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleaseOnDevice {
    /// The model.
    pub model: String,
    /// The version it keeps.
    pub committed: Option<String>,
    /// The version on its way or on probation.
    pub candidate: Option<String>,
    /// Step of the candidate.
    pub step: String,
}

/// A device.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// Its name.
    pub id: String,
    /// Its labels.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// Holds a connection.
    pub connected: bool,
    /// When it was last heard of, in milliseconds since 1970.
    pub last_seen: Option<u64>,
    /// When it joined.
    pub enrolled_at: u64,
    /// Taken out of every rollout.
    pub quarantined: bool,
    /// Not let in any more.
    pub revoked: bool,
    /// What it runs.
    pub models: Vec<ReleaseOnDevice>,
    /// What it shall run.
    pub desired: Vec<String>,
    /// Number of its desired state.
    pub generation: u64,
    /// The newest desired state that it has verified.
    pub seen_generation: u64,
    /// What it is.
    #[schema(value_type = Object)]
    pub inventory: Inventory,
    /// How it is.
    #[schema(value_type = Option<Object>)]
    pub health: Option<DeviceHealth>,
    /// Its clock less the server's when it last connected; negative when it is behind.
    pub clock_skew_ms: Option<i64>,
    /// What it may spend on its link, and how its telemetry gets here.
    #[serde(default)]
    pub delivery: DeliveryView,
    /// What it did with the versions that it ran last, newest first. Only where one device is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Vec<ReleaseFigures>>,
}

/// New labels of a device.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLabels {
    /// All its labels; those not named are removed.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
}

/// Whether rollouts pass a device over.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetQuarantine {
    /// True to take it out of every rollout.
    pub quarantined: bool,
}

impl DeviceView {
    fn of(row: DeviceRow, desired: Desired) -> Self {
        let model = |state: shared::report::ModelState| ReleaseOnDevice {
            model: state.model.to_string(),
            committed: state.committed.map(|release| release.to_string()),
            candidate: state.candidate.map(|release| release.to_string()),
            step: state.step,
        };
        Self {
            id: row.id.to_string(),
            labels: row.labels,
            connected: row.connected,
            last_seen: row.last_seen.map(|at| at.as_millis()),
            enrolled_at: row.enrolled_at.as_millis(),
            quarantined: row.quarantined,
            revoked: row.revoked,
            models: row.models.into_iter().map(model).collect(),
            desired: desired.assignments.iter().map(|assignment| assignment.release.to_string()).collect(),
            generation: desired.generation.0,
            seen_generation: row.seen_generation.0,
            inventory: row.inventory,
            health: row.health,
            clock_skew_ms: row.clock_skew_ms,
            delivery: DeliveryView::of(row.limits, row.seen_limits_revision, row.delivery),
            figures: None,
        }
    }
}

/// Lists devices by name, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/devices",
    tag = "devices",
    params(DevicesQuery),
    responses((status = 200, body = DeviceList), (status = 400, body = Problem))
)]
pub async fn list(State(app): State<Shared>, Query(query): Query<DevicesQuery>) -> Answer<Json<DeviceList>> {
    let selector = match &query.selector {
        Some(text) => resolve_selector(&app, text).await?,
        None => Selector::all(),
    };
    let page = app.store.devices_after(&query.after).await?;
    let next = page.last().filter(|_| page.len() >= Store::DEVICE_PAGE).map(|row| row.id.to_string());
    let mut desired = app.store.every_desired().await?;
    let selected = page.into_iter().filter(|row| selector.matches(&row.id, &row.labels, &row.inventory));
    let devices = selected
        .map(|row| {
            let wanted = desired.remove(&row.id).unwrap_or_default();
            DeviceView::of(row, wanted)
        })
        .collect();
    Ok(Json(DeviceList { devices, next }))
}

/// Shows a device.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{id}",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device")),
    responses((status = 200, body = DeviceView), (status = 404, body = Problem))
)]
pub async fn show(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<DeviceView>> {
    let id = device_id(&id)?;
    let mut view = find(&app, &id).await?;
    let figures = app.store.figures_of(&id).await?;
    view.figures = Some(figures.into_iter().map(ReleaseFigures::from).collect());
    Ok(Json(view))
}

/// Replaces the labels of a device.
#[utoipa::path(
    put,
    path = "/api/v1/devices/{id}/labels",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device")),
    request_body = SetLabels,
    responses((status = 200, body = DeviceView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn set_labels(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Json(body): Json<SetLabels>,
) -> Answer<Json<DeviceView>> {
    check_labels(&body.labels)?;
    let id = device_id(&id)?;
    let mut tx = app.store.begin().await?;
    if !Store::set_labels(&mut tx, &id, &body.labels).await? {
        return Err(no_device(&id));
    }
    let detail = serde_json::to_string(&body.labels).unwrap_or_default();
    Store::audit(&mut tx, app.clock.now(), &caller.name, "device.label", id.as_str(), &detail).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(Json(find(&app, &id).await?))
}

/// Takes a device out of every rollout, or puts it back.
#[utoipa::path(
    put,
    path = "/api/v1/devices/{id}/quarantine",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device")),
    request_body = SetQuarantine,
    responses((status = 200, body = DeviceView), (status = 404, body = Problem))
)]
pub async fn set_quarantine(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Json(body): Json<SetQuarantine>,
) -> Answer<Json<DeviceView>> {
    let id = device_id(&id)?;
    let mut tx = app.store.begin().await?;
    if !Store::set_quarantined(&mut tx, &id, body.quarantined).await? {
        return Err(no_device(&id));
    }
    let detail = body.quarantined.to_string();
    Store::audit(&mut tx, app.clock.now(), &caller.name, "device.quarantine", id.as_str(), &detail).await?;
    tx.commit().await.map_err(StoreError::from)?;
    Ok(Json(find(&app, &id).await?))
}

/// Locks a device out and cuts its connections. Its name is free to be enrolled again.
#[utoipa::path(
    post,
    path = "/api/v1/devices/{id}/revoke",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device")),
    responses((status = 204, description = "It is not let in any more"), (status = 404, body = Problem))
)]
pub async fn revoke(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let id = device_id(&id)?;
    let mut tx = app.store.begin().await?;
    if !Store::revoke_device(&mut tx, &id).await? {
        return Err(no_device(&id));
    }
    Store::audit(&mut tx, app.clock.now(), &caller.name, "device.revoke", id.as_str(), "").await?;
    tx.commit().await.map_err(StoreError::from)?;
    app.kick(&id).await;
    Ok(StatusCode::NO_CONTENT)
}

fn device_id(text: &str) -> Answer<DeviceId> {
    DeviceId::new(text).map_err(|error| Problem::bad_request("bad_device_id", error.to_string()))
}

async fn find(app: &Shared, id: &DeviceId) -> Answer<DeviceView> {
    let row = app.store.device(id).await?.ok_or_else(|| no_device(id))?;
    let desired = app.store.desired(id).await?;
    Ok(DeviceView::of(row, desired))
}

fn no_device(id: &DeviceId) -> Problem {
    Problem::not_found("device_not_found", format!("there is no device {id}"))
        .hint("see what there is: muster device list")
}
