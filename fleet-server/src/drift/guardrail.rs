//! Drift that devices found by themselves.

use fleet_core::drift::{Found, reconcile};
use shared::{DeviceId, Timestamp, telemetry::DriftAlarm};

use super::event::{Told, save, tell};
use crate::{
    app::App,
    store::{Store, StoreError},
};

/// A device tells an alarm again in its next run when it does not know whether it was heard. What was closed within a month is
/// looked through for it.
const TOLD_AGAIN_MS: u64 = 31 * 86_400_000;

/// Devices fill only half of the room for alarms: one that makes them up must not keep the checks from telling theirs.
const ROOM: usize = Store::MAX_OPEN_ALARMS / 2;

/// Alarms that a device raised by itself and that are not over, at most: a camera that broke moves all of its features, and a device that
/// makes alarms up is one of thirty that it takes to fill the room of all.
const ROOM_OF_DEVICE: usize = 16;

/// Stores what a device says, unless it is known. It need not have sent a window of the release: telemetry overtakes the first one, and a device that
/// was away for a month is of no fleet when it comes back. What was stored may be told to it as heard.
///
/// # Errors
/// When the database refuses; the device tells it again.
pub async fn told_by_device(app: &App, device: &DeviceId, alarms: Vec<DriftAlarm>) -> Result<(), StoreError> {
    if alarms.is_empty() {
        return Ok(());
    }
    let now = app.clock.now();
    let since = Timestamp(now.as_millis().saturating_sub(TOLD_AGAIN_MS));
    let mut tx = app.store.begin().await?;
    let mut told = Told::default();
    for DriftAlarm { release, feature, alarm } in alarms {
        let found = Found::by_device(device.as_str(), &feature, alarm);
        let known = Store::known_alarms(&mut tx, &release, &feature, since).await?;
        if known.iter().any(|known| found.is_told_again(&known.found)) {
            continue;
        }
        let room = ROOM.saturating_sub(Store::count_open_alarms(&mut tx, &release.model).await?);
        let own = Store::count_open_alarms_by(&mut tx, device).await?;
        let room = room.min(ROOM_OF_DEVICE.saturating_sub(own));
        let reconciled = reconcile(known, vec![found], now, 0, room);
        app.metrics.drift_left_out("finding", reconciled.left_out as u64);
        save(&mut tx, &release, reconciled, now, &mut told).await?;
    }
    tx.commit().await.map_err(StoreError::from)?;
    tell(app, &told);
    Ok(())
}
