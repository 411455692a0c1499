//! Reports of devices about deployments, each stored once however often it arrives.

use shared::{DeviceId, Timestamp, report::Report};
use sqlx::any::AnyRow;

use super::{Columns, Store, StoreError, Tx, from_json, millis, signed, to_json};

/// Reports of one answer.
const PAGE: i64 = 200;

/// A stored report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// What the device said.
    pub report: Report,
    /// When the server stored it.
    pub received_at: Timestamp,
}

impl ReportRow {
    pub(super) fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            report: from_json("report", &row.text("document")?)?,
            received_at: row.time("received_at")?,
        })
    }
}

impl Store {
    /// Stores a report; false when it is stored already.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_report(tx: &mut Tx, report: &Report, now: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO reports (device, boot, sequence, generation, model, version, document, received_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (device, boot, sequence) DO NOTHING",
        )
        .bind(report.device.as_str())
        .bind(report.boot.as_str())
        .bind(signed(report.sequence))
        .bind(signed(report.generation.0))
        .bind(report.release.model.as_str())
        .bind(i64::from(report.release.version.get()))
        .bind(to_json(report))
        .bind(millis(now))
        .execute(&mut **tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The newest reports of a device, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn reports_of(&self, device: &DeviceId) -> Result<Vec<ReportRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT document, received_at FROM reports WHERE device = $1 \
             ORDER BY received_at DESC, sequence DESC LIMIT $2",
        )
        .bind(device.as_str())
        .bind(PAGE)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(ReportRow::from_row).collect()
    }
}
