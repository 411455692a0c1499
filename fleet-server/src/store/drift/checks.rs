//! Periods: windows are added to the one that is open, and a check works through the one that was closed.

use fleet_core::drift::{Stratum, Sums, strata};
use shared::{DeviceId, ModelName, ReleaseId, Timestamp};
use sqlx::any::AnyRow;

use super::{
    super::{Columns as _, Packed, Store, StoreError, Tx, from_json, millis, signed},
    bound, release_of,
};

/// Devices that are read at a time.
const PAGE: i64 = 500;

/// A device that sent nothing of a release for so long, a month, is of its fleet no more: most have another release by then, and
/// what is known of each takes kilobytes for every feature.
const SILENT_MS: u64 = 30 * 86_400_000;

/// How far checks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The period that windows are added to.
    pub current: u64,
    /// The last one that was checked; the one before `current`, or the one before that while a check is under way.
    pub checked: u64,
    /// When the last one was closed: the moment of its check.
    pub closed_at: Timestamp,
}

impl Period {
    /// The period that was closed and is not checked yet.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        let closed = self.current.saturating_sub(1);
        (closed > self.checked).then_some(closed)
    }
}

/// What a device counted in a period that was closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Its name.
    pub device: String,
    /// The counts.
    pub sums: Sums,
}

impl Store {
    /// How far checks are.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_period(tx: &mut Tx) -> Result<Period, StoreError> {
        let row = sqlx::query("SELECT current, checked, closed_at FROM drift_periods WHERE id = 1")
            .fetch_one(&mut **tx)
            .await?;
        Ok(Period {
            current: row.unsigned("current")?,
            checked: row.unsigned("checked")?,
            closed_at: row.time("closed_at")?,
        })
    }

    /// Stores how far they are.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_drift_period(tx: &mut Tx, period: &Period) -> Result<(), StoreError> {
        sqlx::query("UPDATE drift_periods SET current = $1, checked = $2, closed_at = $3 WHERE id = 1")
            .bind(signed(period.current))
            .bind(signed(period.checked))
            .bind(millis(period.closed_at))
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Releases of which anything was counted, or ordered, up to `period`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn releases_to_check(&self, period: u64) -> Result<Vec<ReleaseId>, StoreError> {
        let rows = sqlx::query(
            "SELECT model, version FROM drift_pending WHERE period <= $1 \
             UNION SELECT model, version FROM drift_orders WHERE period <= $1",
        )
        .bind(signed(period))
        .fetch_all(&self.reader)
        .await?;
        let mut releases = rows.iter().map(release_of).collect::<Result<Vec<_>, _>>()?;
        releases.sort();
        Ok(releases)
    }

    /// How many devices counted anything of a release up to `period`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_pending(&self, release: &ReleaseId, period: u64) -> Result<u64, StoreError> {
        let (model, version) = bound(release);
        let row = sqlx::query(
            "SELECT COUNT(*) AS devices_there FROM drift_pending \
             WHERE model = $1 AND version = $2 AND period <= $3",
        )
        .bind(model)
        .bind(version)
        .bind(signed(period))
        .fetch_one(&self.reader)
        .await?;
        row.unsigned("devices_there")
    }

    /// What devices counted of a release up to `period`, from after the device `after` on, some hundreds at a time. Each comes once:
    /// only one period is closed and not checked.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn pending_after(
        &self,
        release: &ReleaseId,
        period: u64,
        after: &str,
    ) -> Result<Vec<Pending>, StoreError> {
        let (model, version) = bound(release);
        let rows = sqlx::query(
            "SELECT device, sums FROM drift_pending WHERE model = $1 AND version = $2 AND period <= $3 \
             AND device > $4 ORDER BY device LIMIT $5",
        )
        .bind(model)
        .bind(version)
        .bind(signed(period))
        .bind(after)
        .bind(PAGE)
        .fetch_all(&self.reader)
        .await?;
        let pending = |row: &AnyRow| {
            let sums = Packed::from_text(row.text("sums")?).read("sum of counts")?;
            Ok(Pending { device: row.text("device")?, sums })
        };
        rows.iter().map(pending).collect()
    }

    /// The devices of a release's fleet with what they have in common with others; not those that are locked out or were silent for
    /// a month. `labels` are those whose values are strata.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_devices(
        &self,
        release: &ReleaseId,
        labels: &[String],
        now: Timestamp,
    ) -> Result<Vec<(String, Vec<Stratum>)>, StoreError> {
        let (model, version) = bound(release);
        let rows = sqlx::query(
            "SELECT devices.id, devices.labels, devices.inventory FROM drift_devices \
             JOIN devices ON devices.id = drift_devices.device WHERE drift_devices.model = $1 \
             AND drift_devices.version = $2 AND drift_devices.last_window_at >= $3 AND devices.revoked = 0",
        )
        .bind(model)
        .bind(version)
        .bind(millis(Timestamp(now.as_millis().saturating_sub(SILENT_MS))))
        .fetch_all(&self.reader)
        .await?;
        let device = |row: &AnyRow| {
            let own = from_json("labels", &row.text("labels")?)?;
            let inventory = from_json("inventory", &row.text("inventory")?)?;
            Ok((row.text("id")?, strata(&own, &inventory, labels)))
        };
        rows.iter().map(device).collect()
    }

    /// Releases of a model that devices sent windows of lately, the newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drift_releases(&self, model: &ModelName) -> Result<Vec<ReleaseId>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT model, version FROM drift_devices WHERE model = $1 ORDER BY version DESC",
        )
        .bind(model.as_str())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(release_of).collect()
    }

    /// Whether a device has sent windows of a release lately.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn is_in_fleet(&self, release: &ReleaseId, device: &DeviceId) -> Result<bool, StoreError> {
        let (model, version) = bound(release);
        let row =
            sqlx::query("SELECT device FROM drift_devices WHERE model = $1 AND version = $2 AND device = $3")
                .bind(model)
                .bind(version)
                .bind(device.as_str())
                .fetch_optional(&self.reader)
                .await?;
        Ok(row.is_some())
    }

    /// Ends the check of `period`: what it held is in what is known now.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_drift_check(tx: &mut Tx, period: u64, now: Timestamp) -> Result<(), StoreError> {
        for delete in
            ["DELETE FROM drift_pending WHERE period <= $1", "DELETE FROM drift_orders WHERE period <= $1"]
        {
            sqlx::query(delete).bind(signed(period)).execute(&mut **tx).await?;
        }
        sqlx::query("DELETE FROM drift_devices WHERE last_window_at < $1")
            .bind(millis(Timestamp(now.as_millis().saturating_sub(SILENT_MS))))
            .execute(&mut **tx)
            .await?;
        // What is known of a release goes with the last device of its fleet.
        sqlx::query(
            "DELETE FROM drift_states WHERE NOT EXISTS (SELECT 1 FROM drift_devices \
             WHERE drift_devices.model = drift_states.model AND drift_devices.version = drift_states.version)",
        )
        .execute(&mut **tx)
        .await?;
        let before = Self::drift_period(tx).await?;
        Self::save_drift_period(tx, &Period { checked: period, ..before }).await
    }
}
