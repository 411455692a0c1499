//! Alarms of drift.

use fleet_core::drift::{FleetAlarm, RaisedBy};
use muster_sketch::detector::Scope;
use shared::{DeviceId, ModelName, ReleaseId, Timestamp};
use sqlx::any::AnyRow;

use super::{
    super::{Columns as _, MAX_ROWS, Store, StoreError, Tx, from_json, millis, signed, to_json},
    bound,
};

/// Which alarms.
#[derive(Debug, Clone, Default)]
pub struct AlarmFilter {
    /// Of one model; of all when absent.
    pub model: Option<ModelName>,
    /// In this state, in a word; in any when absent.
    pub state: Option<String>,
    /// Only those that are not over.
    pub open_only: bool,
    /// Of one feature.
    pub feature: Option<String>,
    /// Found last at or after this moment.
    pub since: Option<Timestamp>,
}

fn from_row(row: &AnyRow) -> Result<FleetAlarm, StoreError> {
    let alarm = from_json("drift alarm", &row.text("document")?);
    let id = row.unsigned("id")?;
    alarm.map_err(|error| error.in_row(&format_args!("drift_alarms, id {id}")))
}

/// The device that raised it by itself.
fn raised_by(alarm: &FleetAlarm) -> Option<&str> {
    match (alarm.found.raised_by, &alarm.found.scope) {
        (RaisedBy::Device, Scope::Sensor { device }) => Some(device),
        (RaisedBy::Device | RaisedBy::Server, _) => None,
    }
}

impl Store {
    /// Alarms of one model that are not over, at most: more are not read, and one that is closed makes room.
    pub const MAX_OPEN_ALARMS: usize = 1_000;

    /// Alarms of one feature of a release that are not over, or were closed at or after `since`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn known_alarms(
        tx: &mut Tx,
        release: &ReleaseId,
        feature: &str,
        since: Timestamp,
    ) -> Result<Vec<FleetAlarm>, StoreError> {
        let (model, version) = bound(release);
        let rows = sqlx::query(
            "SELECT id, document FROM drift_alarms WHERE model = $1 AND version = $2 AND feature = $3 \
             AND (state <> 'closed' OR closed_at >= $4) ORDER BY id",
        )
        .bind(model)
        .bind(version)
        .bind(feature)
        .bind(millis(since))
        .fetch_all(&mut **tx)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// How many alarms of a model are not over.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_open_alarms(tx: &mut Tx, model: &ModelName) -> Result<usize, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS alarms_there FROM drift_alarms WHERE model = $1 AND state <> 'closed'",
        )
        .bind(model.as_str())
        .fetch_one(&mut **tx)
        .await?;
        Ok(usize::try_from(row.unsigned("alarms_there")?).unwrap_or(usize::MAX))
    }

    /// How many alarms that a device raised by itself are not over.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_open_alarms_by(tx: &mut Tx, device: &DeviceId) -> Result<usize, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS alarms_there FROM drift_alarms WHERE device = $1 AND state <> 'closed'",
        )
        .bind(device.as_str())
        .fetch_one(&mut **tx)
        .await?;
        Ok(usize::try_from(row.unsigned("alarms_there")?).unwrap_or(usize::MAX))
    }

    /// A number for a new alarm.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn next_alarm(tx: &mut Tx) -> Result<u64, StoreError> {
        let row = sqlx::query("UPDATE drift_periods SET alarms = alarms + 1 WHERE id = 1 RETURNING alarms")
            .fetch_one(&mut **tx)
            .await?;
        row.unsigned("alarms")
    }

    /// Stores an alarm, new or changed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_alarm(tx: &mut Tx, alarm: &FleetAlarm) -> Result<(), StoreError> {
        let (model, version) = bound(&alarm.release);
        sqlx::query(
            "INSERT INTO drift_alarms (id, model, version, feature, state, opened_at, last_at, closed_at, document, device) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE SET state = excluded.state, \
             last_at = excluded.last_at, closed_at = excluded.closed_at, document = excluded.document, \
             device = excluded.device",
        )
        .bind(signed(alarm.id))
        .bind(model)
        .bind(version)
        .bind(&alarm.found.feature)
        .bind(alarm.state.word())
        .bind(millis(alarm.opened_at))
        .bind(millis(alarm.last_at))
        .bind(alarm.state.closed_at().map(millis))
        .bind(to_json(alarm))
        .bind(raised_by(alarm))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// One alarm, as it is while nobody else writes.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn alarm_to_change(tx: &mut Tx, id: u64) -> Result<Option<FleetAlarm>, StoreError> {
        let row = sqlx::query("SELECT id, document FROM drift_alarms WHERE id = $1")
            .bind(signed(id))
            .fetch_optional(&mut **tx)
            .await?;
        row.as_ref().map(from_row).transpose()
    }

    /// One alarm.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn alarm(&self, id: u64) -> Result<Option<FleetAlarm>, StoreError> {
        let row = sqlx::query("SELECT id, document FROM drift_alarms WHERE id = $1")
            .bind(signed(id))
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(from_row).transpose()
    }

    /// Alarms of a release that are not over, as they are while nobody else writes.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open_alarms_of(tx: &mut Tx, release: &ReleaseId) -> Result<Vec<FleetAlarm>, StoreError> {
        let (model, version) = bound(release);
        let rows = sqlx::query(
            "SELECT id, document FROM drift_alarms WHERE model = $1 AND version = $2 AND state <> 'closed' \
             ORDER BY id",
        )
        .bind(model)
        .bind(version)
        .fetch_all(&mut **tx)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// The newest alarms that fit the filter, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn alarms(&self, filter: &AlarmFilter) -> Result<Vec<FleetAlarm>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, document FROM drift_alarms WHERE ($1 = '' OR model = $1) AND ($2 = '' OR state = $2) \
             AND ($3 = '' OR feature = $3) AND last_at >= $4 AND ($5 = 0 OR state <> 'closed') \
             ORDER BY id DESC LIMIT $6",
        )
        .bind(filter.model.as_ref().map_or("", ModelName::as_str))
        .bind(filter.state.as_deref().unwrap_or_default())
        .bind(filter.feature.as_deref().unwrap_or_default())
        .bind(millis(filter.since.unwrap_or_default()))
        .bind(i64::from(filter.open_only))
        .bind(MAX_ROWS)
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }
}
