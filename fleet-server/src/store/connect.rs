//! Connections to SQLite and PostgreSQL, and how a write begins on each.

use std::{path::Path, time::Duration};

use sqlx::{AnyPool, Executor as _, any::AnyPoolOptions};

use super::{MIGRATIONS, StoreError, Tx};

/// Readers at once. More would only wait for the disk.
const READERS: u32 = 4;

/// Writers at once. One keeps the audit chain and the numbers of events without gaps and without retries; batching
/// makes it fast enough (see `telemetry`).
const WRITERS: u32 = 1;

/// A request waits this long for a connection before it fails, so that overload is an error and not a pile.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writers of other processes are waited for this long; turns take milliseconds. A server that stopped in the middle of
/// a turn, or whose network is gone, loses its transaction after twice that, or it would hold up all others.
const ON_SQLITE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                         PRAGMA busy_timeout = 10000;";
const ON_POSTGRES: &str = "SET synchronous_commit = on; SET lock_timeout = 10000; \
                           SET idle_in_transaction_session_timeout = 20000";

/// The number stands for "writing to a Muster database" among the locks that programs agree on.
const LOCK_POSTGRES: &str = "SELECT pg_advisory_xact_lock(5567201)";

/// How a transaction begins that will write: it waits until no other process writes, so what it reads stays true until
/// its commit. Numbers without gaps and the chain of the audit log rest on it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// With the lock on the file.
    Sqlite,
    /// With a lock that is asked for inside of the transaction: a refusal must find one that can be rolled back.
    Postgres,
}

impl Begin {
    /// Begins on the one connection of `writer`.
    ///
    /// Runs to its end even when nobody waits for it any more. Were it cut off halfway, the connection would return to
    /// its pool inside of a transaction of which the pool knows nothing.
    pub(super) async fn on(self, writer: &AnyPool) -> Result<Tx, sqlx::Error> {
        let writer = writer.clone();
        let begun = tokio::spawn(async move {
            match self {
                Self::Sqlite => writer.begin_with("BEGIN IMMEDIATE").await,
                Self::Postgres => {
                    let mut tx = writer.begin().await?;
                    tx.execute(LOCK_POSTGRES).await?;
                    Ok(tx)
                }
            }
        });
        begun.await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed))
    }
}

/// Open connections.
pub(super) struct Connected {
    pub(super) writer: AnyPool,
    pub(super) reader: AnyPool,
    pub(super) begin: Begin,
}

/// Opens the database at `url`, or the SQLite file in `folder`, and brings its tables to this version.
pub(super) async fn connect(url: Option<&str>, folder: &Path) -> Result<Connected, StoreError> {
    sqlx::any::install_default_drivers();
    let url = match url {
        Some(url) => url.to_owned(),
        None => format!("sqlite://{}?mode=rwc", folder.join("muster.db").display()),
    };
    let (settings, begin) =
        if url.starts_with("sqlite:") { (ON_SQLITE, Begin::Sqlite) } else { (ON_POSTGRES, Begin::Postgres) };
    let failed = |source| StoreError::Open { url: without_secrets(&url), source };
    let writer = options(settings, WRITERS).connect(&url).await.map_err(failed)?;
    MIGRATIONS.run(&writer).await?;
    let reader = options(settings, READERS).connect(&url).await.map_err(failed)?;
    Ok(Connected { writer, reader, begin })
}

fn options(settings: &'static str, connections: u32) -> AnyPoolOptions {
    let options = AnyPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
    options.after_connect(move |connection, _| {
        Box::pin(async move {
            connection.execute(settings).await?;
            Ok(())
        })
    })
}

/// `postgres://user:secret@host/name?password=secret` as `postgres://user@host/name`.
fn without_secrets(url: &str) -> String {
    let url = url.split_once('?').map_or(url, |(before, _)| before);
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    format!("{scheme}://{}@{host}", user.split(':').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_reaches_an_error_message() {
        assert_eq!(without_secrets("postgres://ann:secret@db/muster"), "postgres://ann@db/muster");
        assert_eq!(without_secrets("postgres://ann:se@cret@db/muster"), "postgres://ann@db/muster");
        assert_eq!(without_secrets("postgres://db/muster?user=ann&password=secret"), "postgres://db/muster");
        assert_eq!(without_secrets("sqlite:///var/x.db"), "sqlite:///var/x.db");
    }
}
