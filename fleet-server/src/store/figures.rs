//! Figures since the beginning: of each model version on each device, and of each version on all devices together.
//!
//! They only grow, so a monitoring may read them as counters, also over restarts of the server. The figures of a
//! device start anew when its name is enrolled again; the sum over all devices keeps what it did.

use std::collections::BTreeMap;

use shared::{
    DeviceId, ReleaseId, Timestamp,
    telemetry::{MAX_VERSIONS, VersionFigures},
};
use sqlx::any::AnyRow;

use super::{
    Columns, Store, StoreError, Tx, from_json,
    many::{Open, most_rows, pieces, statement},
    millis, parsed, to_json,
};

/// What a device did with a version since it first reported it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFiguresRow {
    /// The sums.
    pub figures: VersionFigures,
    /// When the device last added to them, by our clock.
    pub updated_at: Timestamp,
}

/// Devices by what an operator would do about them; each counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DevicesByStatus {
    /// Holds a connection.
    pub connected: u64,
    /// Holds none.
    pub offline: u64,
    /// Taken out of every rollout by a person, connected or not.
    pub quarantined: u64,
    /// Not let in any more.
    pub revoked: u64,
}

impl Store {
    /// What a device did with the versions that it ran last, newest first; at most as many as it can run at once.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn figures_of(&self, device: &DeviceId) -> Result<Vec<DeviceFiguresRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT figures, updated_at FROM device_figures WHERE device = $1 \
             ORDER BY updated_at DESC, model, version DESC LIMIT $2",
        )
        .bind(device.as_str())
        .bind(MAX_VERSIONS as i64)
        .fetch_all(&self.reader)
        .await?;
        let row = |row: &AnyRow| {
            Ok(DeviceFiguresRow { figures: figures(row)?, updated_at: row.time("updated_at")? })
        };
        rows.iter().map(row).collect()
    }

    /// What all devices together did with each of the `newest` releases that were used.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn figures_of_releases(&self, newest: u32) -> Result<Vec<VersionFigures>, StoreError> {
        let rows = sqlx::query(
            "SELECT sums.figures FROM releases JOIN release_figures AS sums \
             ON sums.model = releases.model AND sums.version = releases.version \
             ORDER BY releases.published_at DESC, releases.model, releases.version DESC LIMIT $1",
        )
        .bind(i64::from(newest))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(figures).collect()
    }

    /// How many devices there are of each status.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn devices_by_status(&self) -> Result<DevicesByStatus, StoreError> {
        let rows = sqlx::query(
            "SELECT revoked, quarantined, connected, COUNT(*) AS devices FROM devices \
             GROUP BY revoked, quarantined, connected",
        )
        .fetch_all(&self.reader)
        .await?;
        let mut sums = DevicesByStatus::default();
        for row in &rows {
            let place = match (row.flag("revoked")?, row.flag("quarantined")?, row.flag("connected")?) {
                (true, _, _) => &mut sums.revoked,
                (false, true, _) => &mut sums.quarantined,
                (false, false, true) => &mut sums.connected,
                (false, false, false) => &mut sums.offline,
            };
            *place = place.saturating_add(row.unsigned("devices")?);
        }
        Ok(sums)
    }

    /// Forgets what the device of this name did.
    pub(super) async fn forget_device_figures(tx: &mut Tx, device: &DeviceId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM device_figures WHERE device = $1")
            .bind(device.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// Adds to the sums of devices, each of which is named once for each version.
pub(super) async fn add_to_devices(
    tx: &mut Tx,
    mut sums: BTreeMap<(DeviceId, ReleaseId), VersionFigures>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let keys: Vec<_> = sums.keys().cloned().collect();
    for piece in pieces(&keys, most_rows(tx)) {
        for row in of_devices(tx, piece).await? {
            let device = parsed("device id", &row.text("device")?)?;
            let before = figures(&row)?;
            if let Some(sum) = sums.get_mut(&(device, before.release.clone())) {
                *sum = and(before, sum);
            }
        }
    }
    let rows: Vec<_> = sums.into_iter().collect();
    for piece in pieces(&rows, most_rows(tx)) {
        let mut query = statement(
            "INSERT INTO device_figures (device, model, version, figures, updated_at) VALUES",
            piece.len(),
            5,
            "ON CONFLICT (device, model, version) DO UPDATE SET figures = excluded.figures, \
             updated_at = excluded.updated_at",
        );
        for ((device, release), sum) in piece {
            query =
                bind_release(query.bind(device.to_string()), release).bind(to_json(sum)).bind(millis(now));
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// What is there of these. The keys are the outer loop on every database, or SQLite might read the whole table.
async fn of_devices(tx: &mut Tx, keys: &[(DeviceId, ReleaseId)]) -> Result<Vec<AnyRow>, StoreError> {
    let mut query = statement(
        "SELECT sums.device, sums.figures FROM (VALUES",
        keys.len(),
        3,
        ") AS keys CROSS JOIN device_figures AS sums WHERE sums.device = keys.column1 \
         AND sums.model = keys.column2 AND sums.version = keys.column3",
    );
    for (device, release) in keys {
        query = bind_release(query.bind(device.to_string()), release);
    }
    Ok(query.fetch_all(&mut **tx).await?)
}

fn bind_release(query: Open, release: &ReleaseId) -> Open {
    query.bind(release.model.to_string()).bind(i64::from(release.version.get()))
}

pub(super) async fn add_to_release(tx: &mut Tx, mut sums: VersionFigures) -> Result<(), StoreError> {
    let (model, version) = (sums.release.model.as_str().to_owned(), i64::from(sums.release.version.get()));
    let row = sqlx::query("SELECT figures FROM release_figures WHERE model = $1 AND version = $2")
        .bind(&model)
        .bind(version)
        .fetch_optional(&mut **tx)
        .await?;
    if let Some(row) = &row {
        sums = and(figures(row)?, &sums);
    }
    sqlx::query(
        "INSERT INTO release_figures (model, version, figures) VALUES ($1, $2, $3) \
         ON CONFLICT (model, version) DO UPDATE SET figures = excluded.figures",
    )
    .bind(&model)
    .bind(version)
    .bind(to_json(&sums))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What is there comes first: there is room for some counters and gauges, and those that were here before stay.
pub(super) fn and(mut before: VersionFigures, more: &VersionFigures) -> VersionFigures {
    before.merge(more);
    before
}

fn figures(row: &AnyRow) -> Result<VersionFigures, StoreError> {
    from_json("figures", &row.text("figures")?)
}
