//! Groups: selectors with a name.
//!
//! What uses a group takes its selector at that moment, so a group may go without anything left behind.

use serde::Serialize;
use shared::{GroupName, Timestamp};
use sqlx::any::AnyRow;

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, millis, parsed};

/// A group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupRow {
    /// Its name.
    pub name: GroupName,
    /// The selector, as text.
    pub selector: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// What came of making a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupAdded {
    /// It is there.
    Done,
    /// Another group has the name.
    Taken,
    /// There are as many as there may be.
    Full,
}

impl GroupRow {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: parsed("group name", &row.text("name")?)?,
            selector: row.text("selector")?,
            created_by: row.text("created_by")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Store {
    /// Groups, at most: as many as one answer of a list holds.
    pub const MAX_GROUPS: i64 = MAX_ROWS;

    /// Stores a group.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_group(tx: &mut Tx, group: &GroupRow) -> Result<GroupAdded, StoreError> {
        let count =
            sqlx::query("SELECT COUNT(*) AS groups_there FROM device_groups").fetch_one(&mut **tx).await?;
        if count.number("groups_there")? >= Self::MAX_GROUPS {
            return Ok(GroupAdded::Full);
        }
        let done = sqlx::query(
            "INSERT INTO device_groups (name, selector, created_by, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(group.name.as_str())
        .bind(&group.selector)
        .bind(&group.created_by)
        .bind(millis(group.created_at))
        .execute(&mut **tx)
        .await?;
        Ok(if done.rows_affected() == 1 { GroupAdded::Done } else { GroupAdded::Taken })
    }

    /// Removes a group; false when there is none of this name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn delete_group(tx: &mut Tx, name: &GroupName) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM device_groups WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// One group.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn group(&self, name: &GroupName) -> Result<Option<GroupRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM device_groups WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(GroupRow::from_row).transpose()
    }

    /// Every group, by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn groups(&self) -> Result<Vec<GroupRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM device_groups ORDER BY name").fetch_all(&self.reader).await?;
        rows.iter().map(GroupRow::from_row).collect()
    }
}
