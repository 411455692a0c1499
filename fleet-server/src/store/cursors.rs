//! How far parts of the server have come in following events of one kind.

use super::{Columns, EventRow, Store, StoreError, Tx, events::PAGE, signed};

impl Store {
    /// The number of the last event that `name` has taken in; 0 for one who has taken in nothing.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cursor(tx: &mut Tx, name: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT sequence FROM cursors WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut **tx)
            .await?;
        row.map_or(Ok(0), |row| row.unsigned("sequence"))
    }

    /// Writes down that `name` has taken in everything up to this event.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_cursor(tx: &mut Tx, name: &str, sequence: u64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO cursors (name, sequence) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence",
        )
        .bind(name)
        .bind(signed(sequence))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// The next events of a kind after number `after`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn events_of_kind(tx: &mut Tx, kind: &str, after: u64) -> Result<Vec<EventRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM events WHERE kind = $1 AND sequence > $2 ORDER BY sequence LIMIT $3")
                .bind(kind)
                .bind(signed(after))
                .bind(PAGE)
                .fetch_all(&mut **tx)
                .await?;
        rows.iter().map(EventRow::from_row).collect()
    }

    /// The number of the newest event of a kind; 0 when there is none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_event_of_kind(&self, kind: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(sequence), 0) AS newest FROM events WHERE kind = $1")
            .bind(kind)
            .fetch_one(&self.reader)
            .await?;
        row.unsigned("newest")
    }
}
