//! What a device may spend on its link.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use shared::{message::Limits, telemetry::Delivery};
use utoipa::ToSchema;

use super::{DeviceView, device_id, find, no_device};
use crate::{
    api::{
        Shared,
        problem::{Answer, Problem},
        routes::Caller,
    },
    gateway,
    store::{Store, StoreError},
};

/// New limits of a device. What is absent has no bound.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLimits {
    /// Bytes of telemetry in a day of UTC.
    pub telemetry_bytes_per_day: Option<u64>,
    /// Bytes of blocks in a day of UTC.
    pub transfer_bytes_per_day: Option<u64>,
}

/// What a device may spend, and how its telemetry gets here.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Bytes of telemetry in a day of UTC; absent without a bound.
    pub telemetry_bytes_per_day: Option<u64>,
    /// Bytes of blocks in a day of UTC; absent without a bound.
    pub transfer_bytes_per_day: Option<u64>,
    /// Whether the device follows these limits, as it last said.
    pub confirmed: bool,
    /// Bytes that telemetry cost on the device's day, as it last said.
    pub telemetry_bytes_today: u64,
    /// Bytes of blocks that came on the device's day, as it last said.
    pub transfer_bytes_today: u64,
    /// Windows, of telemetry and of features, that the device dropped, for want of room or because nobody took them, ever.
    pub lost_windows: u64,
    /// Windows that waited on the device when it last spoke.
    pub waiting_windows: u64,
    /// Whether the device's disk refuses telemetry, so that it waits in memory.
    pub in_memory: bool,
}

impl DeliveryView {
    pub(super) fn of(limits: Option<Limits>, seen_revision: u64, delivery: Option<Delivery>) -> Self {
        let (limits, delivery) = (limits.unwrap_or_default(), delivery.unwrap_or_default());
        Self {
            telemetry_bytes_per_day: limits.telemetry_bytes_per_day,
            transfer_bytes_per_day: limits.transfer_bytes_per_day,
            confirmed: seen_revision >= limits.revision,
            telemetry_bytes_today: delivery.telemetry_bytes_today,
            transfer_bytes_today: delivery.transfer_bytes_today,
            lost_windows: delivery.windows_lost,
            waiting_windows: delivery.windows_waiting,
            in_memory: delivery.in_memory,
        }
    }
}

/// Bounds what a device spends on its link. State and reports always pass.
#[utoipa::path(
    put,
    path = "/api/v1/devices/{id}/limits",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device")),
    request_body = SetLimits,
    responses((status = 200, body = DeviceView), (status = 404, body = Problem))
)]
pub async fn set_limits(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Json(body): Json<SetLimits>,
) -> Answer<Json<DeviceView>> {
    let (id, now) = (device_id(&id)?, app.clock.now());
    let SetLimits { telemetry_bytes_per_day, transfer_bytes_per_day } = body;
    let limits = Limits { revision: 0, telemetry_bytes_per_day, transfer_bytes_per_day };
    let mut tx = app.store.begin().await?;
    let limits = Store::set_limits(&mut tx, &id, limits, now).await?.ok_or_else(|| no_device(&id))?;
    let detail = serde_json::to_string(&limits).unwrap_or_default();
    Store::audit(&mut tx, now, &caller.name, "device.limits", id.as_str(), &detail).await?;
    tx.commit().await.map_err(StoreError::from)?;
    gateway::send_desired(&app, &id).await;
    Ok(Json(find(&app, &id).await?))
}
