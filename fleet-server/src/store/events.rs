//! What happened, in order: rollouts tell it, people and scripts follow it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::Timestamp;
use sqlx::any::AnyRow;

use super::{Columns, Store, StoreError, Tx, from_json, millis, signed, to_json};

/// Events of one answer.
pub(super) const PAGE: i64 = 500;

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// Its number; later events have higher ones.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What kind, such as `rollout`.
    pub kind: String,
    /// About what: the id of a rollout or device.
    pub subject: String,
    /// The event itself.
    pub document: Value,
}

impl EventRow {
    pub(super) fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            sequence: row.unsigned("sequence")?,
            at: row.time("at")?,
            kind: row.text("kind")?,
            subject: row.text("subject")?,
            document: from_json("event", &row.text("document")?)?,
        })
    }
}

impl Store {
    /// Adds an event as part of `tx`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_event<T: Serialize + Sync>(
        tx: &mut Tx,
        at: Timestamp,
        kind: &str,
        subject: &str,
        document: &T,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO events (sequence, at, kind, subject, document) \
             SELECT COALESCE(MAX(sequence), 0) + 1, $1, $2, $3, $4 FROM events",
        )
        .bind(millis(at))
        .bind(kind)
        .bind(subject)
        .bind(to_json(document))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Events about `subject` after number `after`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn events_after(&self, subject: &str, after: u64) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM events WHERE subject = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        )
        .bind(subject)
        .bind(signed(after))
        .bind(PAGE)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(EventRow::from_row).collect()
    }
}
