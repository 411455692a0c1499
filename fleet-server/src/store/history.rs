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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::{BootId, Generation, Timestamp, report::DeploymentEvent, report::Report};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn report(sequence: u64, release: &str) -> Report {
        Report {
            device: DeviceId::new("cam-7").unwrap(),
            boot: BootId::new("b1").unwrap(),
            sequence,
            at: NOW,
            generation: Generation(1),
            release: release.parse().unwrap(),
            event: DeploymentEvent::Probation,
        }
    }

    #[tokio::test]
    async fn reports_come_oldest_first_and_of_the_model_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(None, folder.path()).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        for (sequence, release) in [(1, "digits@1"), (2, "faces@1"), (3, "digits@2")] {
            Store::insert_report(&mut tx, &report(sequence, release), NOW).await.unwrap();
        }
        tx.commit().await.unwrap();
        let id = DeviceId::new("cam-7").unwrap();
        let sequences = |rows: Vec<ReportRow>| rows.iter().map(|row| row.report.sequence).collect::<Vec<_>>();
        let digits = ModelName::new("digits").unwrap();
        assert_eq!(sequences(store.reports_about(&id, None).await.unwrap()), [1, 2, 3]);
        assert_eq!(sequences(store.reports_about(&id, Some(&digits)).await.unwrap()), [1, 3]);
    }

    #[tokio::test]
    async fn approvers_are_read_from_the_events_of_their_rollout_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(None, folder.path()).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        for (subject, document) in [
            ("r1", json!({"event": "approved", "by": "ada"})),
            ("r1", json!({"event": "paused", "by": "bob"})),
            ("r2", json!({"event": "approved", "by": "eve"})),
        ] {
            Store::insert_event(&mut tx, NOW, "rollout", subject, &document).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(store.approvers_of(&RolloutId::new("r1").unwrap()).await.unwrap(), ["ada"]);
        let events = |rows: Vec<EventRow>| rows.iter().map(|row| row.sequence).collect::<Vec<_>>();
        assert_eq!(events(store.newest_events(2).await.unwrap()), [2, 3]);
        assert_eq!(events(store.every_event_after(1).await.unwrap()), [2, 3]);
    }
}
