//! Devices learn a new baseline.

use std::collections::BTreeSet;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
};
use fleet_core::drift::{FleetAlarm, Whom};
use muster_sketch::detector::Scope;
use serde::{Deserialize, Serialize};
use shared::{DeviceId, ModelName, ReleaseId, Version};
use utoipa::ToSchema;

use super::{alarms, known_model};
use crate::{
    api::{
        Shared,
        dry_run::DryRun,
        problem::{Answer, Problem},
        routes::Caller,
    },
    drift::{RelearnOrder, relearn},
    store::Store,
};

/// Who learns what anew.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelearnBody {
    /// This device; all when absent.
    #[serde(default)]
    pub device: Option<String>,
    /// This feature; all when absent.
    #[serde(default)]
    pub feature: Option<String>,
    /// Under this version; under all that devices run when absent.
    #[serde(default)]
    pub version: Option<u32>,
}

/// What follows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RelearntView {
    /// The releases whose detectors begin anew with the next check.
    pub releases: Vec<String>,
    /// The alarms that are over with it.
    pub closed: Vec<u64>,
}

/// Gives up what devices were like: what comes from now on is their new baseline. Alarms that were about the old one are over.
#[utoipa::path(
    post,
    path = "/api/v1/models/{model}/drift/relearn",
    tag = "drift",
    params(("model" = String, Path, description = "Name of the model"), DryRun),
    request_body = RelearnBody,
    responses((status = 200, body = RelearntView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub async fn relearn_baselines(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<RelearnBody>,
) -> Answer<Json<RelearntView>> {
    let model = known_model(&app, &model).await?;
    let releases = releases(&app, &model, &body).await?;
    let whom = match &body.device {
        Some(device) => Whom::Device(device.clone()),
        None => Whom::Everyone,
    };
    let now = app.clock.now();
    let mut tx = app.store.begin().await?;
    let mut closed = Vec::new();
    for release in &releases {
        let order =
            RelearnOrder { release: release.clone(), feature: body.feature.clone(), whom: whom.clone() };
        relearn(&app, &mut tx, order, now).await?.map_err(|_| alarms::too_many_orders())?;
        for mut alarm in Store::open_alarms_of(&mut tx, release).await? {
            if is_answered(&alarm, &body) && alarm.close(&caller.name, "a new baseline is learnt", now) {
                alarms::close(&mut tx, &alarm, now).await?;
                closed.push(alarm.id);
            }
        }
    }
    let detail = format!(
        "{} of {} under {}",
        body.feature.as_deref().unwrap_or("all features"),
        body.device.as_deref().unwrap_or("all devices"),
        releases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    Store::audit(&mut tx, now, &caller.name, "drift.relearn", model.as_str(), &detail).await?;
    if dry_run.end(tx).await? && !closed.is_empty() {
        app.changes.send_modify(|count| *count += 1);
    }
    Ok(Json(RelearntView { releases: releases.iter().map(ToString::to_string).collect(), closed }))
}

/// Whether a new baseline of these devices answers an alarm: all that it is about learn anew.
fn is_answered(alarm: &FleetAlarm, body: &RelearnBody) -> bool {
    let is_feature = body.feature.as_ref().is_none_or(|feature| *feature == alarm.found.feature);
    let is_whom = match (&body.device, &alarm.found.scope) {
        (None, _) => true,
        (Some(device), Scope::Sensor { device: of }) => device == of,
        (Some(_), Scope::Stratum { .. } | Scope::Model | Scope::World) => false,
    };
    is_feature && is_whom && alarm.found.cause.is_of_a_baseline()
}

/// The releases that are meant. Whatever does not exist is said, and not passed over.
async fn releases(app: &Shared, model: &ModelName, body: &RelearnBody) -> Answer<Vec<ReleaseId>> {
    let mut releases = app.store.drift_releases(model).await?;
    if let Some(version) = body.version {
        releases.retain(|release| Version::try_from(version).is_ok_and(|version| release.version == version));
    }
    if let Some(device) = &body.device {
        let device = DeviceId::new(device.clone()).map_err(|_| no_device(model, device))?;
        let mut of_device = Vec::new();
        for release in releases {
            if app.store.is_in_fleet(&release, &device).await? {
                of_device.push(release);
            }
        }
        releases = of_device;
        if releases.is_empty() {
            return Err(no_device(model, device.as_str()));
        }
    }
    if releases.is_empty() {
        return Err(Problem::not_found(
            "not_watched",
            format!("no device has sent counts of {model} lately"),
        ));
    }
    if let Some(feature) = &body.feature {
        let mut known = BTreeSet::new();
        for release in &releases {
            let spec = app.specs.of(release).await?;
            known.extend(spec.iter().flat_map(|spec| spec.reference.features()).map(|f| f.name.clone()));
        }
        if !known.contains(feature) {
            return Err(super::no_feature(model, feature, known.into_iter()));
        }
    }
    Ok(releases)
}

fn no_device(model: &ModelName, device: &str) -> Problem {
    let device: String = device.chars().take(64).collect();
    Problem::not_found("device_not_found", format!("no device {device} has sent counts of {model} lately"))
        .hint("see who does: muster device list")
}
