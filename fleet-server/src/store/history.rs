//! What was: the reports of a device, and the rollouts and approvals behind them.

use serde_json::Value;
use shared::{DeviceId, ModelName, ReleaseId, RolloutId};

use super::{Columns, EventRow, ReportRow, RolloutRow, Store, StoreError, events::PAGE, from_json, signed};

/// Rollouts of one release that are looked through: a release that was rolled out more often is tried in vain.
const MAX_ROLLOUTS: i64 = 50;

/// Approvals of one rollout that are told.
const MAX_APPROVALS: i64 = 20;

impl Store {
    /// Reports of a device that are looked through: a thousand deployments of five reports each.
    pub const MAX_HISTORY: usize = 5_000;

    /// The newest reports of a device about one model or all, up to [`Self::MAX_HISTORY`], oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn reports_about(
        &self,
        device: &DeviceId,
        model: Option<&ModelName>,
    ) -> Result<Vec<ReportRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT document, received_at FROM reports WHERE device = $1 AND ($2 = '' OR model = $2) \
             ORDER BY received_at DESC, sequence DESC LIMIT $3",
        )
        .bind(device.as_str())
        .bind(model.map_or("", ModelName::as_str))
        .bind(Self::MAX_HISTORY as i64)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().rev().map(ReportRow::from_row).collect()
    }

    /// The newest rollouts of a release, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rollouts_of(&self, release: &ReleaseId) -> Result<Vec<RolloutRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM rollouts WHERE model = $1 AND version = $2 ORDER BY id DESC LIMIT $3")
                .bind(release.model.as_str())
                .bind(i64::from(release.version.get()))
                .bind(MAX_ROLLOUTS)
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(RolloutRow::from_row).collect()
    }

    /// Who approved a rollout, in the order in which they did.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn approvers_of(&self, rollout: &RolloutId) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT document FROM events WHERE kind = 'rollout' AND subject = $1 \
             AND document LIKE '%\"event\":\"approved\"%' ORDER BY sequence LIMIT $2",
        )
        .bind(rollout.as_str())
        .bind(MAX_APPROVALS)
        .fetch_all(&self.reader)
        .await?;
        let by = |text: String| {
            let document: Value = from_json("event", &text)?;
            let is_approval = document["event"] == "approved";
            Ok(is_approval.then(|| document["by"].as_str().unwrap_or("unknown").to_owned()))
        };
        rows.iter().filter_map(|row| row.text("document").and_then(by).transpose()).collect()
    }

    /// Events about anything after number `after`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn every_event_after(&self, after: u64) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM events WHERE sequence > $1 ORDER BY sequence LIMIT $2")
            .bind(signed(after))
            .bind(PAGE)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(EventRow::from_row).collect()
    }

    /// The newest events about anything, at most `count`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_events(&self, count: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM events ORDER BY sequence DESC LIMIT $1")
            .bind(i64::from(count))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().rev().map(EventRow::from_row).collect()
    }
}
