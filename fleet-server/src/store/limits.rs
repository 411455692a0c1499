//! What devices may spend, and how their telemetry gets here.

use shared::{DeviceId, Timestamp, message::Limits};

use super::{Columns, Store, StoreError, Tx, signed, to_json};

/// Sums over all devices that are let in, for a monitoring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliverySums {
    /// Windows that devices dropped, for want of room or because nobody took them.
    pub windows_lost: u64,
    /// Windows that wait on devices, as they last said.
    pub windows_waiting: u64,
    /// Bytes that telemetry cost on the devices' present days, as they last said.
    pub telemetry_bytes_today: u64,
}

impl Store {
    /// Sets what a device may spend and gives it a revision above every earlier one, also those of a database that was
    /// lost; `None` when there is no such device.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_limits(
        tx: &mut Tx,
        id: &DeviceId,
        limits: Limits,
        now: Timestamp,
    ) -> Result<Option<Limits>, StoreError> {
        let row = sqlx::query("SELECT limits_revision FROM devices WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let revision = now.as_millis().max(row.unsigned("limits_revision")?.saturating_add(1));
        let limits = Limits { revision, ..limits };
        sqlx::query("UPDATE devices SET limits = $1, limits_revision = $2 WHERE id = $3")
            .bind(to_json(&limits))
            .bind(signed(revision))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(Some(limits))
    }

    /// Sums over all devices that are let in.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn delivery_sums(&self) -> Result<DeliverySums, StoreError> {
        // The sum of a BIGINT is a NUMERIC in PostgreSQL.
        let row = sqlx::query(
            "SELECT CAST(COALESCE(SUM(windows_lost), 0) AS BIGINT) AS lost, \
             CAST(COALESCE(SUM(windows_waiting), 0) AS BIGINT) AS waiting, \
             CAST(COALESCE(SUM(telemetry_bytes_today), 0) AS BIGINT) AS bytes FROM devices WHERE revoked = 0",
        )
        .fetch_one(&self.reader)
        .await?;
        Ok(DeliverySums {
            windows_lost: row.unsigned("lost")?,
            windows_waiting: row.unsigned("waiting")?,
            telemetry_bytes_today: row.unsigned("bytes")?,
        })
    }
}
