//! The signed repository of servers that share a database.

use super::{Columns, Store, StoreError, Tx, signed};

/// The one row.
const ID: i64 = 1;

/// The repository as the servers know it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRepository {
    /// Raised by every change.
    pub change: u64,
    /// The repository, as JSON.
    pub document: String,
}

impl Store {
    /// The repository, if it changed after the change of number `known`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repository(&self, known: u64) -> Result<Option<SharedRepository>, StoreError> {
        read(&mut *self.reader.acquire().await?, known).await
    }

    /// The same, read where nobody can change it any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repository_in(tx: &mut Tx, known: u64) -> Result<Option<SharedRepository>, StoreError> {
        read(tx, known).await
    }

    /// Puts a newer repository in its place.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_repository(tx: &mut Tx, newer: &SharedRepository) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO repository (id, change, document) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET change = excluded.change, document = excluded.document",
        )
        .bind(ID)
        .bind(signed(newer.change))
        .bind(&newer.document)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

async fn read(
    connection: &mut sqlx::AnyConnection,
    known: u64,
) -> Result<Option<SharedRepository>, StoreError> {
    let row = sqlx::query("SELECT change, document FROM repository WHERE id = $1 AND change > $2")
        .bind(ID)
        .bind(signed(known))
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(SharedRepository { change: row.unsigned("change")?, document: row.text("document")? }))
        .transpose()
}
