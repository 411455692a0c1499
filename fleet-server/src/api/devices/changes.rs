//! What people lay down about a device: its labels, versions that it keeps, quarantine, and its end.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, ModelName, device::Labels};
use utoipa::ToSchema;

use super::{DeviceView, device_id, no_device, view};
use crate::{
    api::{
        Shared,
        dry_run::DryRun,
        enroll_tokens::check_labels,
        freezes::check_reason,
        problem::{Answer, Problem},
        routes::Caller,
    },
    store::{DeviceRow, Store, Tx},
};

/// Pins of one device, at most: more models than a device runs.
const MAX_PINS: usize = 64;

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
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Replaces the labels of a device.
#[utoipa::path(
    put,
    path = "/api/v1/devices/{id}/labels",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device"), DryRun),
    request_body = SetLabels,
    responses((status = 200, body = DeviceView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn set_labels(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<SetLabels>,
) -> Answer<Json<DeviceView>> {
    check_labels(&body.labels)?;
    let (mut tx, row) = begin(&app, &id).await?;
    Store::set_labels(&mut tx, &row.id, &body.labels).await?;
    let detail = serde_json::to_string(&body.labels).unwrap_or_default();
    let view = Act { app: &app, caller: &caller, dry_run }.end(tx, &row.id, "device.label", &detail).await?;
    if dry_run.is_meant() {
        // A freeze may name it now, or no longer.
        app.rollouts.refreeze().await?;
    }
    Ok(view)
}

/// Takes a device out of every rollout, or puts it back.
#[utoipa::path(
    put,
    path = "/api/v1/devices/{id}/quarantine",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device"), DryRun),
    request_body = SetQuarantine,
    responses((status = 200, body = DeviceView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn set_quarantine(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<SetQuarantine>,
) -> Answer<Json<DeviceView>> {
    body.reason.as_deref().map_or(Ok(()), check_reason)?;
    let (mut tx, row) = begin(&app, &id).await?;
    Store::set_quarantined(&mut tx, &row.id, body.quarantined).await?;
    let reason = body.reason.as_deref();
    Store::set_quarantine_reason(&mut tx, &row.id, reason.filter(|_| body.quarantined)).await?;
    let detail =
        reason.map_or_else(|| body.quarantined.to_string(), |why| format!("{}: {why}", body.quarantined));
    let view =
        Act { app: &app, caller: &caller, dry_run }.end(tx, &row.id, "device.quarantine", &detail).await?;
    if body.quarantined && dry_run.is_meant() {
        app.rollouts.withdraw(row.id, None).await?;
    }
    Ok(view)
}

/// Pins a model on a device to the version that the device keeps now: rollouts of the model pass the device over.
#[utoipa::path(
    put,
    path = "/api/v1/devices/{id}/pins/{model}",
    tag = "devices",
    params(
        ("id" = String, Path, description = "Name of the device"),
        ("model" = String, Path, description = "Name of the model"),
        DryRun,
    ),
    responses((status = 200, body = DeviceView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub async fn pin(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, model)): Path<(String, String)>,
    Query(dry_run): Query<DryRun>,
) -> Answer<Json<DeviceView>> {
    let model = model_name(&model)?;
    let (mut tx, mut row) = begin(&app, &id).await?;
    let mut committed = row.models.iter().filter_map(|state| state.committed.as_ref());
    let release =
        committed.find(|release| release.model == model).ok_or_else(|| nothing_to_pin(&id, &model))?;
    let detail = release.to_string();
    row.pins.insert(model.clone(), release.version);
    if row.pins.len() > MAX_PINS {
        return Err(Problem::conflict("too_many_pins", format!("a device has at most {MAX_PINS} pins")));
    }
    Store::set_pins(&mut tx, &row.id, &row.pins).await?;
    let view = Act { app: &app, caller: &caller, dry_run }.end(tx, &row.id, "device.pin", &detail).await?;
    if dry_run.is_meant() {
        app.rollouts.withdraw(row.id, Some(model)).await?;
    }
    Ok(view)
}

/// Takes the pin of a model off a device.
#[utoipa::path(
    delete,
    path = "/api/v1/devices/{id}/pins/{model}",
    tag = "devices",
    params(
        ("id" = String, Path, description = "Name of the device"),
        ("model" = String, Path, description = "Name of the model"),
        DryRun,
    ),
    responses((status = 200, body = DeviceView), (status = 404, body = Problem))
)]
pub async fn unpin(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((id, model)): Path<(String, String)>,
    Query(dry_run): Query<DryRun>,
) -> Answer<Json<DeviceView>> {
    let model = model_name(&model)?;
    let (mut tx, mut row) = begin(&app, &id).await?;
    if row.pins.remove(&model).is_none() {
        return Err(not_pinned(&row.id, &model));
    }
    Store::set_pins(&mut tx, &row.id, &row.pins).await?;
    Act { app: &app, caller: &caller, dry_run }.end(tx, &row.id, "device.unpin", model.as_str()).await
}

/// Locks a device out and cuts its connections. Its name is free to be enrolled again.
#[utoipa::path(
    post,
    path = "/api/v1/devices/{id}/revoke",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device"), DryRun),
    responses((status = 204, description = "It is not let in any more"), (status = 404, body = Problem))
)]
pub async fn revoke(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(dry_run): Query<DryRun>,
) -> Answer<StatusCode> {
    let (mut tx, row) = begin(&app, &id).await?;
    Store::revoke_device(&mut tx, &row.id).await?;
    Store::audit(&mut tx, app.clock.now(), &caller.name, "device.revoke", row.id.as_str(), "").await?;
    if dry_run.end(tx).await? {
        app.kick(&row.id).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Who changes a device, and whether it is only tried.
struct Act<'a> {
    app: &'a Shared,
    caller: &'a Caller,
    dry_run: DryRun,
}

impl Act<'_> {
    /// Writes the act down, ends it, and answers with the device as it is then.
    async fn end(self, mut tx: Tx, id: &DeviceId, action: &str, detail: &str) -> Answer<Json<DeviceView>> {
        let now = self.app.clock.now();
        Store::audit(&mut tx, now, &self.caller.name, action, id.as_str(), detail).await?;
        let row = Store::device_in(&mut tx, id).await?.ok_or_else(|| no_device(id))?;
        self.dry_run.end(tx).await?;
        Ok(Json(view(self.app, row).await?))
    }
}

async fn begin(app: &Shared, id: &str) -> Answer<(Tx, DeviceRow)> {
    let id = device_id(id)?;
    let mut tx = app.store.begin().await?;
    let row = Store::device_in(&mut tx, &id).await?.ok_or_else(|| no_device(&id))?;
    Ok((tx, row))
}

fn model_name(text: &str) -> Answer<ModelName> {
    ModelName::new(text).map_err(|error| Problem::bad_request("bad_model", error.to_string()))
}

fn nothing_to_pin(id: &str, model: &ModelName) -> Problem {
    let detail = format!("device {id} keeps no version of {model} that it could be pinned to");
    Problem::conflict("nothing_to_pin", detail).hint(format!("see what it runs: muster device show {id}"))
}

fn not_pinned(id: &DeviceId, model: &ModelName) -> Problem {
    Problem::not_found("not_pinned", format!("{model} is not pinned on device {id}"))
        .hint(format!("see its pins: muster device show {id}"))
}
