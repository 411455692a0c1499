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

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupRow {
        GroupRow {
            name: GroupName::new(name).unwrap(),
            selector: "site=berlin".into(),
            created_by: "ops".into(),
            created_at: Timestamp(1_800_000_000_000),
        }
    }

    async fn add(store: &Store, name: &str) -> GroupAdded {
        let mut tx = store.begin().await.unwrap();
        let added = Store::insert_group(&mut tx, &group(name)).await.unwrap();
        tx.commit().await.unwrap();
        added
    }

    #[tokio::test]
    async fn a_group_is_there_until_it_is_deleted_and_its_name_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(None, folder.path()).await.unwrap();
        assert_eq!(add(&store, "cams").await, GroupAdded::Done);
        assert_eq!(add(&store, "cams").await, GroupAdded::Taken);
        assert_eq!(store.groups().await.unwrap(), [group("cams")]);
        let mut tx = store.begin().await.unwrap();
        assert!(Store::delete_group(&mut tx, &group("cams").name).await.unwrap());
        assert!(!Store::delete_group(&mut tx, &group("cams").name).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(store.group(&group("cams").name).await.unwrap(), None);
    }

    #[tokio::test]
    async fn beyond_the_bound_no_group_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(None, folder.path()).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        for number in 0..Store::MAX_GROUPS {
            let added = Store::insert_group(&mut tx, &group(&format!("g{number}"))).await.unwrap();
            assert_eq!(added, GroupAdded::Done);
        }
        assert_eq!(Store::insert_group(&mut tx, &group("more")).await.unwrap(), GroupAdded::Full);
    }
}
