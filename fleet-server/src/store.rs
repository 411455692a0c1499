//! Tables: the same SQL on SQLite and PostgreSQL.
//!
//! Every write goes through one connection, so two writers of a server queue here, and transactions of several servers
//! on one database take turns there (see `connect`); reads have their own connections and do not wait. A commit is on
//! the disk when it returns, because devices forget what the server has acknowledged.

mod audit;
mod challengers;
mod connect;
mod counted;
mod cursors;
mod desired;
mod devices;
mod drift;
mod enroll_tokens;
mod events;
mod experiments;
mod figures;
mod freezes;
mod groups;
mod history;
mod limits;
mod many;
mod marks;
mod packed;
mod planning;
mod releases;
mod reports;
mod repository;
mod rollouts;
mod servers;
mod telemetry;
mod tokens;
mod verdicts;
mod webhooks;

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Any, AnyPool, Row, Transaction, any::AnyRow, migrate::Migrator};
use thiserror::Error;

use crate::servers::ServerId;

use connect::{Begin, Connected, connect};

pub use audit::{AuditEntry, AuditError};
pub use challengers::{ChallengedDevice, MatchRow, NamedChallengers};
pub use desired::{Desired, DesiredChange};
pub use devices::{DeviceRow, NewDevice};
pub use drift::{
    AlarmFilter, DriftState, KEPT_PERIODS, LeftOutOfWindows, Pending, Period, SketchRow, Strata, SummedRow,
};
pub use enroll_tokens::{NewEnrollToken, Redeemed};
pub use events::EventRow;
pub use experiments::{ExperimentLookRow, ExperimentRow};
pub use figures::{DeviceFiguresRow, DevicesByStatus};
pub use freezes::{FreezeRow, NewFreeze};
pub use groups::{GroupAdded, GroupRow};
pub use limits::DeliverySums;
pub use marks::{MarkedDevice, Pins};
pub use packed::Packed;
pub use releases::{NewRelease, ReleaseRow, Stored};
pub use reports::ReportRow;
pub use repository::SharedRepository;
pub use rollouts::{NewRollout, RolloutRow, Saved};
pub use servers::{Beat, Lease, ServerRow};
pub use telemetry::{MinuteFigures, TelemetryRow};
pub use tokens::{NewToken, TokenRow};
pub use verdicts::{ComparisonRow, LookRow, Opening};
pub use webhooks::{Advance, NewWebhook, WebhookRow};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

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
    #[error("the database holds an unreadable {what}: {detail}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// Which one, where that helps to find it, and why it is unreadable.
        detail: String,
    },
}

impl StoreError {
    /// Says which row it is that cannot be understood.
    fn in_row(self, row: &dyn std::fmt::Display) -> Self {
        match self {
            Self::Corrupt { what, detail } => Self::Corrupt { what, detail: format!("{row}: {detail}") },
            Self::Open { .. } | Self::Migrate(_) | Self::Query(_) => self,
        }
    }
}

/// The tables of one fleet.
#[derive(Debug, Clone)]
pub struct Store {
    writer: AnyPool,
    reader: AnyPool,
    begin: Begin,
    server: ServerId,
    is_shared: bool,
}

/// Several writes that happen together or not at all.
pub type Tx = Transaction<'static, Any>;

impl Store {
    /// Opens the database at `url`, or the SQLite file in `folder`, for this server, and brings its tables to this
    /// version.
    ///
    /// # Errors
    /// When it cannot be opened or its tables are of a newer version.
    pub async fn open(url: Option<&str>, folder: &Path, server: ServerId) -> Result<Self, StoreError> {
        let Connected { writer, reader, begin } = connect(url, folder).await?;
        Ok(Self { writer, reader, begin, server, is_shared: url.is_some() })
    }

    /// The server that this is.
    #[must_use]
    pub fn server(&self) -> &ServerId {
        &self.server
    }

    /// True when other servers may use the same database. The file in the data directory is of one server only, which
    /// has locked that.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Starts several writes that happen together, while nobody else writes.
    ///
    /// # Errors
    /// When no connection becomes free, or another server goes on writing for too long.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(self.begin.on(&self.writer).await?)
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

/// JSON text of a value that is made of texts, numbers and collections.
fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("stored documents are texts, numbers and collections")
}

/// A text that somebody else wrote, as a column takes it. PostgreSQL takes no NUL, and what is made for a terminal to
/// obey belongs into no log. JSON needs none of this: it writes such characters as `\u0000`.
fn printable(text: &str) -> String {
    let is_bad = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    text.replace(is_bad, "\u{fffd}")
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
pub(crate) mod tests;
