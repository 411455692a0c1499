//! Periods: windows are added to the one that is open, and a check works through the one that was closed.

use std::collections::BTreeSet;

use fleet_core::drift::{LATE_SECS, Stratum, Sums, strata};
use shared::{DeviceId, ModelName, ReleaseId, Timestamp};
use sqlx::any::AnyRow;

use super::{
    super::{Columns as _, Packed, Store, StoreError, Tx, from_json, millis, signed},
    bound, release_of,
};

/// Rows that are read at a time. Each is unpacked with all of its features, up to some hundreds of kilobytes, before those that are
/// looked at are taken out of it.
const PAGE: i64 = 64;

/// What waits for a check that is not possible is kept for so many checks: a day of hourly ones, in which somebody can see to it.
pub const KEPT_PERIODS: u64 = 24;

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
    /// In which period; an earlier one than the one that was closed where its release could not be checked.
    pub period: u64,
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

    /// What devices counted of a release up to `period`, from after (device, period) `after` on, some dozens at a time. A device comes once, and
    /// once more for each period before in which the release could not be checked.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn pending_after(
        &self,
        release: &ReleaseId,
        period: u64,
        after: (&str, u64),
    ) -> Result<Vec<Pending>, StoreError> {
        let (model, version) = bound(release);
        let rows = sqlx::query(
            "SELECT device, period, sums, struck FROM drift_pending WHERE model = $1 AND version = $2 AND period <= $3 \
             AND (device > $4 OR (device = $4 AND period > $5)) ORDER BY device, period LIMIT $6",
        )
        .bind(model)
        .bind(version)
        .bind(signed(period))
        .bind(after.0)
        .bind(signed(after.1))
        .bind(PAGE)
        .fetch_all(&self.reader)
        .await?;
        let pending = |row: &AnyRow| {
            let (device, period) = (row.text("device")?, row.unsigned("period")?);
            let sums = unstruck(Packed::from_text(row.text("sums")?), &row.text("struck")?);
            let here = |error: StoreError| {
                error.in_row(&format_args!("drift_pending, device {device}, period {period}"))
            };
            let sums = sums.map_err(here)?;
            Ok(Pending { device, period, sums })
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
            let id = row.text("id")?;
            let here = |error: StoreError| error.in_row(&format_args!("devices, id {id}"));
            let own = from_json("labels", &row.text("labels")?).map_err(here)?;
            let inventory = from_json("inventory", &row.text("inventory")?).map_err(here)?;
            Ok((id, strata(&own, &inventory, labels)))
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

    /// Ends the check of `period`: what it held is in what is known now. What `aside` holds could not be checked; what waits for it stays
    /// for a while, and what has waited too long goes. Returns how many sums of devices that were.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end_drift_check(
        tx: &mut Tx,
        period: u64,
        aside: &BTreeSet<ReleaseId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let rows = sqlx::query(
            "SELECT model, version FROM drift_pending WHERE period <= $1 \
             UNION SELECT model, version FROM drift_orders WHERE period <= $1",
        )
        .bind(signed(period))
        .fetch_all(&mut **tx)
        .await?;
        let mut given_up = 0;
        for row in &rows {
            let release = release_of(row)?;
            if aside.contains(&release) {
                given_up += give_up(tx, &release, period).await?;
            } else {
                delete(tx, Waiting::Sums, &release, period).await?;
                delete(tx, Waiting::Orders, &release, period).await?;
            }
        }
        Self::forget_what_is_old(tx, now).await?;
        let before = Self::drift_period(tx).await?;
        Self::save_drift_period(tx, &Period { checked: period, ..before }).await?;
        Ok(given_up)
    }

    /// Devices that fell silent go, with what is known of a release that was theirs alone, and so does the time in which late windows are told.
    async fn forget_what_is_old(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM drift_anew WHERE not_before < $1")
            .bind(millis(Timestamp(now.as_millis().saturating_sub(1_000 * LATE_SECS))))
            .execute(&mut **tx)
            .await?;
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
        Ok(())
    }
}

/// What waits for a check.
#[derive(Debug, Clone, Copy)]
enum Waiting {
    Sums,
    Orders,
}

/// Gives up what waited for too long at the end of a period: an order that cannot be read would otherwise keep its release from being checked
/// for ever. Sums go one check before the orders of their time, which may be carried out when it was a sum that could not be read. How many
/// sums of devices went.
async fn give_up(tx: &mut Tx, release: &ReleaseId, period: u64) -> Result<u64, StoreError> {
    let orders = delete(tx, Waiting::Orders, release, period.saturating_sub(KEPT_PERIODS + 1)).await?;
    if orders > 0 {
        tracing::error!(
            %release, orders,
            "orders about baselines waited for more than {KEPT_PERIODS} checks that were not possible and are given up; give them again"
        );
    }
    delete(tx, Waiting::Sums, release, period.saturating_sub(KEPT_PERIODS)).await
}

/// Deletes the rows of a release up to a period. How many there were.
async fn delete(tx: &mut Tx, table: Waiting, release: &ReleaseId, period: u64) -> Result<u64, StoreError> {
    let (model, version) = bound(release);
    let delete = match table {
        Waiting::Sums => "DELETE FROM drift_pending WHERE model = $1 AND version = $2 AND period <= $3",
        Waiting::Orders => "DELETE FROM drift_orders WHERE model = $1 AND version = $2 AND period <= $3",
    };
    let deleted =
        sqlx::query(delete).bind(model).bind(version).bind(signed(period)).execute(&mut **tx).await?;
    Ok(deleted.rows_affected())
}

/// A sum without the features that were struck from it.
pub(super) fn unstruck(packed: Packed, struck: &str) -> Result<Sums, StoreError> {
    let mut sums: Sums = packed.read("sum of counts")?;
    struck.split(';').filter_map(|place| place.parse().ok()).for_each(|place| sums.strike(place));
    Ok(sums)
}
