//! Devices.

pub(super) mod at;
pub(super) mod changes;
mod figures;
pub(super) mod limits;
pub(super) mod why;

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use clap::ValueEnum;
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
    problem::{Answer, Problem},
    selectors::resolve_selector,
};
use crate::store::{Desired, DeviceRow, Store};

pub use at::{AnswerView, AtView, BroughtBy, EvidenceView};
pub use changes::{SetLabels, SetQuarantine};
pub use figures::{LabelsView, ReleaseFigures};
pub use limits::{DeliveryView, SetLimits};
pub use why::WhyView;

/// Which devices.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct DevicesQuery {
    /// A selector, such as `site=berlin` or `group:NAME`; all when absent.
    selector: Option<String>,
    /// Only devices of this status; all when absent.
    #[param(inline)]
    status: Option<DeviceStatus>,
    /// Devices after this name, for the next page.
    #[serde(default)]
    after: String,
}

/// What an operator would do about a device; each is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// Holds a connection.
    Connected,
    /// Holds none.
    Offline,
    /// Taken out of every rollout by a person, connected or not.
    Quarantined,
    /// Not let in any more.
    Revoked,
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
    /// Why, if the person who did it said so.
    #[serde(default)]
    pub quarantine_reason: Option<String>,
    /// Versions that a person wants it to keep, as `name@version`: rollouts of these models pass it over.
    #[serde(default)]
    pub pins: Vec<String>,
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
            quarantine_reason: row.quarantine_reason,
            pins: row.pins.into_iter().map(|(model, version)| format!("{model}@{version}")).collect(),
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

impl DeviceStatus {
    fn of(row: &DeviceRow) -> Self {
        match (row.revoked, row.quarantined, row.connected) {
            (true, _, _) => Self::Revoked,
            (false, true, _) => Self::Quarantined,
            (false, false, true) => Self::Connected,
            (false, false, false) => Self::Offline,
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
    let mut desired = match page.last() {
        Some(last) => app.store.desired_of_page(&query.after, &last.id).await?,
        None => BTreeMap::new(),
    };
    let selected = page.into_iter().filter(|row| {
        query.status.is_none_or(|status| status == DeviceStatus::of(row))
            && selector.matches(&row.id, &row.labels, &row.inventory)
    });
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

fn device_id(text: &str) -> Answer<DeviceId> {
    DeviceId::new(text).map_err(|error| Problem::bad_request("bad_device_id", error.to_string()))
}

async fn find(app: &Shared, id: &DeviceId) -> Answer<DeviceView> {
    let row = app.store.device(id).await?.ok_or_else(|| no_device(id))?;
    view(app, row).await
}

async fn view(app: &Shared, row: DeviceRow) -> Answer<DeviceView> {
    let desired = app.store.desired(&row.id).await?;
    Ok(DeviceView::of(row, desired))
}

fn no_device(id: &DeviceId) -> Problem {
    Problem::not_found("device_not_found", format!("there is no device {id}"))
        .hint("see what there is: muster device list")
}
