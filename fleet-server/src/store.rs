//! Tables: the same SQL on SQLite and PostgreSQL.
//!
//! Every write goes through one connection, so two writers queue here and never meet in the database; reads have
//! their own connections and do not wait. A commit is on the disk when it
//! returns, because devices forget what the server has acknowledged.

mod audit;
mod desired;
mod devices;
mod enroll_tokens;
mod events;
mod figures;
mod freezes;
mod groups;
mod history;
mod limits;
mod marks;
mod releases;
mod reports;
mod rollouts;
mod telemetry;
mod tokens;

use std::{path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Any, AnyPool, Executor, Row, Transaction, any::AnyPoolOptions, any::AnyRow, migrate::Migrator};
use thiserror::Error;

pub use audit::{AuditEntry, AuditError};
pub use desired::{Desired, DesiredChange};
pub use devices::{DeviceRow, NewDevice};
pub use enroll_tokens::{NewEnrollToken, Redeemed};
pub use events::EventRow;
pub use figures::{DeviceFiguresRow, DevicesByStatus};
pub use freezes::{FreezeRow, NewFreeze};
pub use groups::{GroupAdded, GroupRow};
pub use limits::DeliverySums;
pub use marks::Pins;
pub use releases::{NewRelease, ReleaseRow, Stored};
pub use reports::ReportRow;
pub use rollouts::{NewRollout, RolloutRow, Saved};
pub use telemetry::{MinuteFigures, TelemetryRow};
pub use tokens::{NewToken, TokenRow};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Readers at once. More would only wait for the disk.
const READERS: u32 = 4;

/// Writers at once. One keeps the audit chain and the numbers of events without gaps and without retries; batching
/// makes it fast enough (see `telemetry`).
const WRITERS: u32 = 1;

/// A request waits this long for a connection before it fails, so that overload is an error and not a pile.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Rows of one answer of a list, at most.
pub const MAX_ROWS: i64 = 1_000;

/// Why the database gave no answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the database {url}")]
    Open {
        /// Where, without a password.
        url: String,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// Its tables cannot be brought to this version.
    #[error("cannot bring the database to the version of this program; was it written by a newer one?")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A query failed.
    #[error("the database refused a query")]
    Query(#[from] sqlx::Error),
    /// A row holds something that this program does not understand.
    #[error("the database holds an unreadable {what}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// Why it is unreadable.
        detail: String,
    },
}

/// The tables of one fleet.
#[derive(Debug, Clone)]
pub struct Store {
    writer: AnyPool,
    reader: AnyPool,
}

/// Several writes that happen together or not at all.
pub type Tx = Transaction<'static, Any>;

impl Store {
    /// Opens the database at `url`, or the SQLite file in `folder`, and brings its tables to this version.
    ///
    /// # Errors
    /// When it cannot be opened or its tables are of a newer version.
    pub async fn open(url: Option<&str>, folder: &Path) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let url = match url {
            Some(url) => url.to_owned(),
            None => format!("sqlite://{}?mode=rwc", folder.join("muster.db").display()),
        };
        let sqlite = url.starts_with("sqlite:");
        let failed = |source| StoreError::Open { url: without_password(&url), source };
        let writer = options(sqlite, WRITERS).connect(&url).await.map_err(failed)?;
        MIGRATIONS.run(&writer).await?;
        let reader = options(sqlite, READERS).connect(&url).await.map_err(failed)?;
        Ok(Self { writer, reader })
    }

    /// Starts several writes that happen together.
    ///
    /// # Errors
    /// When no connection becomes free in time.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(self.writer.begin().await?)
    }

    /// True when the database answers.
    pub async fn is_ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.reader).await.is_ok()
    }

    /// Closes every connection after the statements under way.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn options(sqlite: bool, connections: u32) -> AnyPoolOptions {
    let options = AnyPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
    if !sqlite {
        return options;
    }
    options.after_connect(|connection, _| {
        Box::pin(async move {
            connection
                .execute(
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                     PRAGMA busy_timeout = 10000;",
                )
                .await?;
            Ok(())
        })
    })
}

/// `postgres://user:secret@host` as `postgres://user@host`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, host)) = rest.split_once('@') else { return url.to_owned() };
    format!("{scheme}://{}@{host}", user.split(':').next().unwrap_or_default())
}

/// JSON text of a value that is made of texts, numbers and collections.
fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("stored documents are texts, numbers and collections")
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt { what, detail: error.to_string() })
}

fn parsed<T: std::str::FromStr<Err: ToString>>(what: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| StoreError::Corrupt { what, detail: error.to_string() })
}

/// Reads columns of the types that every database keeps as written.
trait Columns {
    fn text(&self, name: &str) -> Result<String, StoreError>;
    fn optional_text(&self, name: &str) -> Result<Option<String>, StoreError>;
    fn number(&self, name: &str) -> Result<i64, StoreError>;
    fn optional_number(&self, name: &str) -> Result<Option<i64>, StoreError>;
    fn unsigned(&self, name: &str) -> Result<u64, StoreError> {
        Ok(u64::try_from(self.number(name)?).unwrap_or(0))
    }
    fn flag(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.number(name)? != 0)
    }
    fn time(&self, name: &str) -> Result<shared::Timestamp, StoreError> {
        Ok(shared::Timestamp(self.unsigned(name)?))
    }
    fn optional_time(&self, name: &str) -> Result<Option<shared::Timestamp>, StoreError> {
        let number = self.optional_number(name)?;
        Ok(number.map(|millis| shared::Timestamp(u64::try_from(millis).unwrap_or(0))))
    }
}

impl Columns for AnyRow {
    fn text(&self, name: &str) -> Result<String, StoreError> {
        Ok(self.try_get(name)?)
    }
    fn optional_text(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.try_get(name)?)
    }
    fn number(&self, name: &str) -> Result<i64, StoreError> {
        Ok(self.try_get(name)?)
    }
    fn optional_number(&self, name: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(name)?)
    }
}

/// A number as the databases keep it; values beyond `i64` do not occur in times, sizes or counters.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(time: shared::Timestamp) -> i64 {
    signed(time.as_millis())
}

#[cfg(test)]
mod tests;
