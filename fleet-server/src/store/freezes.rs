//! Freeze periods: times in which rollouts ask nobody new.
//!
//! They may overlap. What is over stays to be read until its place is needed.

use serde::Serialize;
use shared::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{Columns, Store, StoreError, Tx, millis, printable};

/// A freeze period as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FreezeRow {
    /// Its id, short enough to be typed.
    pub id: String,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends; this moment is free again.
    pub until: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// Which devices, as a selector that names no group; all when absent.
    pub selector: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// A freeze period to be made.
#[derive(Debug, Clone)]
pub struct NewFreeze {
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Which devices; all when absent.
    pub selector: Option<String>,
    /// Who makes it.
    pub created_by: String,
}

impl FreezeRow {
    /// True when it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        (self.from..self.until).contains(&now)
    }

    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            from: row.time("starts_at")?,
            until: row.time("ends_at")?,
            reason: row.text("reason")?,
            selector: row.optional_text("selector")?,
            created_by: row.text("created_by")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Store {
    /// Freeze periods, at most: each is asked about each device whenever a rollout moves, and more than a person can
    /// keep in mind are a mistake.
    pub const MAX_FREEZES: i64 = 64;

    /// Stores a freeze period; `None` when there are as many as there may be that are not over.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_freeze(
        tx: &mut Tx,
        new: &NewFreeze,
        now: Timestamp,
    ) -> Result<Option<FreezeRow>, StoreError> {
        if count(tx).await? >= Self::MAX_FREEZES {
            sqlx::query("DELETE FROM freezes WHERE ends_at <= $1")
                .bind(millis(now))
                .execute(&mut **tx)
                .await?;
            if count(tx).await? >= Self::MAX_FREEZES {
                return Ok(None);
            }
        }
        let NewFreeze { from, until, reason, selector, created_by } = new.clone();
        let reason = printable(&reason);
        let row = FreezeRow { id: new_id(), from, until, reason, selector, created_by, created_at: now };
        insert(tx, &row).await?;
        Ok(Some(row))
    }

    /// Removes a freeze period and returns it; `None` when there is no such one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn delete_freeze(tx: &mut Tx, id: &str) -> Result<Option<FreezeRow>, StoreError> {
        let row = sqlx::query("DELETE FROM freezes WHERE id = $1 RETURNING *")
            .bind(id)
            .fetch_optional(&mut **tx)
            .await?;
        row.as_ref().map(FreezeRow::from_row).transpose()
    }

    /// Every freeze period, those that are over too, by their beginning.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn freezes(&self) -> Result<Vec<FreezeRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM freezes ORDER BY starts_at, id").fetch_all(&self.reader).await?;
        rows.iter().map(FreezeRow::from_row).collect()
    }
}

async fn count(tx: &mut Tx) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) AS freezes_there FROM freezes").fetch_one(&mut **tx).await?;
    row.number("freezes_there")
}

async fn insert(tx: &mut Tx, row: &FreezeRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO freezes (id, starts_at, ends_at, reason, selector, created_by, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&row.id)
    .bind(millis(row.from))
    .bind(millis(row.until))
    .bind(&row.reason)
    .bind(row.selector.as_deref())
    .bind(&row.created_by)
    .bind(millis(row.created_at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Eight digits: unique among the few there may be, and fit for the telephone.
fn new_id() -> String {
    let random = Uuid::new_v4().simple().to_string();
    random[..8].to_owned()
}
