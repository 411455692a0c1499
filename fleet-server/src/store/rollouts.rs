//! Rollouts: the machine's state, changed only by whoever read its newest revision.

use shared::{ReleaseId, RolloutId, Timestamp, Version};
use sqlx::any::AnyRow;

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, millis, parsed, signed};

/// A rollout as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRow {
    /// Which.
    pub id: RolloutId,
    /// What it brings.
    pub release: ReleaseId,
    /// The machine, as JSON.
    pub state: String,
    /// Where it stands, in a word.
    pub phase: String,
    /// Nothing will happen any more.
    pub finished: bool,
    /// Raised by every change.
    pub revision: u64,
    /// The number of its newest change among the changes of all rollouts.
    pub change: u64,
    /// Who started it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
}

/// A rollout that starts.
#[derive(Debug, Clone)]
pub struct NewRollout {
    /// Which.
    pub id: RolloutId,
    /// What it brings.
    pub release: ReleaseId,
    /// The machine, as JSON.
    pub state: String,
    /// Where it stands, in a word.
    pub phase: String,
    /// Who started it.
    pub created_by: String,
}

/// What came of saving a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It is stored under the next revision, as the change of this number.
    Done(u64),
    /// Somebody else changed it in between; nothing was stored.
    Outdated,
}

impl RolloutRow {
    pub(super) fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let number = u32::try_from(row.number("version")?).unwrap_or(0);
        let version = Version::try_from(number)
            .map_err(|error| StoreError::Corrupt { what: "version", detail: error.to_string() })?;
        Ok(Self {
            id: parsed("rollout id", &row.text("id")?)?,
            release: ReleaseId::new(parsed("model name", &row.text("model")?)?, version),
            state: row.text("state")?,
            phase: row.text("phase")?,
            finished: row.flag("finished")?,
            revision: row.unsigned("revision")?,
            change: row.unsigned("change")?,
            created_by: row.text("created_by")?,
            created_at: row.time("created_at")?,
            changed_at: row.time("changed_at")?,
        })
    }
}

impl Store {
    /// Stores a rollout that starts.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_rollout(tx: &mut Tx, new: &NewRollout, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rollouts (id, model, version, state, phase, finished, revision, created_by, \
             created_at, changed_at, change) VALUES ($1, $2, $3, $4, $5, 0, 1, $6, $7, $7, \
             (SELECT COALESCE(MAX(change), 0) + 1 FROM rollouts))",
        )
        .bind(new.id.as_str())
        .bind(new.release.model.as_str())
        .bind(i64::from(new.release.version.get()))
        .bind(&new.state)
        .bind(&new.phase)
        .bind(&new.created_by)
        .bind(millis(now))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Stores the next state of a rollout, if `row` is still its newest.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_rollout(tx: &mut Tx, row: &RolloutRow, now: Timestamp) -> Result<Saved, StoreError> {
        let done = sqlx::query(
            "UPDATE rollouts SET state = $1, phase = $2, finished = $3, revision = revision + 1, \
             changed_at = $4, change = (SELECT COALESCE(MAX(change), 0) + 1 FROM rollouts) \
             WHERE id = $5 AND revision = $6 RETURNING change",
        )
        .bind(&row.state)
        .bind(&row.phase)
        .bind(i64::from(row.finished))
        .bind(millis(now))
        .bind(row.id.as_str())
        .bind(signed(row.revision))
        .fetch_optional(&mut **tx)
        .await?;
        done.map_or(Ok(Saved::Outdated), |row| Ok(Saved::Done(row.unsigned("change")?)))
    }

    /// One rollout.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rollout(&self, id: &RolloutId) -> Result<Option<RolloutRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM rollouts WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(RolloutRow::from_row).transpose()
    }

    /// Rollouts that changed after the change of number `after`, oldest change first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rollouts_changed(tx: &mut Tx, after: u64) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM rollouts WHERE change > $1 ORDER BY change")
            .bind(signed(after))
            .fetch_all(&mut **tx)
            .await?;
        rows.iter().map(RolloutRow::from_row).collect()
    }

    /// The number of the newest change.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_rollout_change(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(change), 0) AS change FROM rollouts")
            .fetch_one(&self.reader)
            .await?;
        row.unsigned("change")
    }

    /// The newest rollouts, at most `most` and a thousand, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rollouts(&self, most: u32) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM rollouts ORDER BY id DESC LIMIT $1")
            .bind(MAX_ROWS.min(most.into()))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(RolloutRow::from_row).collect()
    }

    /// The newest thousand rollouts without their machines, which hold a line for each device; newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rollout_heads(&self) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, model, version, '' AS state, phase, finished, revision, change, created_by, created_at, \
             changed_at FROM rollouts ORDER BY id DESC LIMIT $1",
        )
        .bind(MAX_ROWS)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(RolloutRow::from_row).collect()
    }

    /// Rollouts that something may still happen to, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn unfinished_rollouts(&self) -> Result<Vec<RolloutRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM rollouts WHERE finished = 0 ORDER BY id LIMIT $1")
            .bind(MAX_ROWS)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(RolloutRow::from_row).collect()
    }
}
