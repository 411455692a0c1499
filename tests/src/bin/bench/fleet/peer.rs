//! The peer of the ingest: the same number of rows by plain SQL, one a statement, fifty a transaction.

use std::time::Instant;

use sqlx::{AnyConnection, Connection as _, Executor as _};

/// What the peer is called.
pub const NAME: &str = "raw inserts, 50 a transaction";

/// Rows that are counted.
const ROWS: i64 = 20_000;

/// Rows of a transaction.
const BATCH: i64 = 50;

/// A document as long as the telemetry that is measured.
const DOCUMENT_BYTES: usize = 900;

/// Rows a second, in a table of their own in the database at `url`, one connection, each commit on the disk.
pub async fn inserts_per_second(url: &str) -> anyhow::Result<f64> {
    let mut connection = AnyConnection::connect(url).await?;
    if url.starts_with("sqlite:") {
        connection.execute("PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL").await?;
    }
    connection
        .execute(
            "CREATE TABLE bench_rows (device TEXT NOT NULL, boot TEXT NOT NULL, sequence BIGINT NOT NULL, \
             received_at BIGINT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (device, boot, sequence))",
        )
        .await?;
    let document = "x".repeat(DOCUMENT_BYTES);
    let began = Instant::now();
    for first in (0..ROWS).step_by(BATCH as usize) {
        let mut tx = connection.begin().await?;
        for row in first..first + BATCH {
            sqlx::query("INSERT INTO bench_rows VALUES ($1, $2, $3, $4, $5)")
                .bind(format!("bench-{}", row % 1_000))
                .bind("bench")
                .bind(row)
                .bind(row)
                .bind(document.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    connection.execute("DROP TABLE bench_rows").await?;
    Ok(ROWS as f64 / seconds)
}
