//! Devices: who they are, and what they last said.

use serde::Serialize;
use shared::{
    BootId, DeviceId, Generation, Timestamp,
    device::{Inventory, Labels},
    message::{Hello, Limits},
    report::ModelState,
    telemetry::{Delivery, DeviceHealth},
    trust::PublicKey,
};
use sqlx::any::AnyRow;

use super::{
    Columns, NamedChallengers, Pins, Store, StoreError, Tx, from_json, marks, millis, parsed, signed, to_json,
};

/// Devices of one page.
const PAGE: i64 = 500;

/// A device as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceRow {
    /// Its name.
    pub id: DeviceId,
    /// Serial number of its newest certificate.
    pub certificate_serial: String,
    /// The one before, let in until the newest one was used.
    pub previous_serial: Option<String>,
    /// The key that signs its reports.
    pub report_key: PublicKey,
    /// Its labels.
    pub labels: Labels,
    /// What it is.
    pub inventory: Inventory,
    /// What it runs, as it last said.
    pub models: Vec<ModelState>,
    /// The run of its agent that spoke last.
    pub boot: Option<BootId>,
    /// The newest desired state that it has verified.
    pub seen_generation: Generation,
    /// When it joined.
    pub enrolled_at: Timestamp,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// Holds a connection.
    pub connected: bool,
    /// Taken out of every rollout by a person.
    pub quarantined: bool,
    /// Why, if that person said it.
    pub quarantine_reason: Option<String>,
    /// Versions that a person wants it to keep.
    pub pins: Pins,
    /// Not let in any more.
    pub revoked: bool,
    /// How it is, as it last said.
    pub health: Option<DeviceHealth>,
    /// Its clock less ours when it last said hello.
    pub clock_skew_ms: Option<i64>,
    /// What it may spend, where somebody has set a bound.
    pub limits: Option<Limits>,
    /// The newest limits that it follows.
    pub seen_limits_revision: u64,
    /// How its telemetry gets here, as it last said.
    pub delivery: Option<Delivery>,
    /// What it shall run beside its champions.
    pub challengers: NamedChallengers,
}

/// A device that joins.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Its name.
    pub id: DeviceId,
    /// Serial number of its certificate.
    pub certificate_serial: String,
    /// The key that signs its reports.
    pub report_key: PublicKey,
    /// Labels that the token presets.
    pub labels: Labels,
    /// What it is.
    pub inventory: Inventory,
}

impl DeviceRow {
    pub(super) fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let limits = row.optional_text("limits")?.map(|text| from_json("limits", &text)).transpose()?;
        let delivery = row.optional_text("delivery")?.map(|text| from_json("delivery", &text)).transpose()?;
        let health = row.optional_text("health")?.map(|text| from_json("health", &text)).transpose()?;
        Ok(Self {
            id: parsed("device id", &row.text("id")?)?,
            certificate_serial: row.text("certificate_serial")?,
            previous_serial: row.optional_text("previous_serial")?,
            report_key: from_json("report key", &row.text("report_key")?)?,
            labels: from_json("labels", &row.text("labels")?)?,
            inventory: from_json("inventory", &row.text("inventory")?)?,
            models: from_json("models", &row.text("models")?)?,
            boot: row.optional_text("boot")?.map(|text| parsed("boot id", &text)).transpose()?,
            seen_generation: Generation(row.unsigned("seen_generation")?),
            enrolled_at: row.time("enrolled_at")?,
            last_seen: row.optional_time("last_seen")?,
            connected: row.flag("connected")?,
            quarantined: row.flag("quarantined")?,
            quarantine_reason: row.optional_text("quarantine_reason")?,
            pins: marks::pins(row.optional_text("pins")?)?,
            revoked: row.flag("revoked")?,
            health,
            clock_skew_ms: row.optional_number("clock_skew_ms")?,
            limits,
            seen_limits_revision: row.unsigned("seen_limits_revision")?,
            delivery,
            challengers: NamedChallengers::from_row(row)?,
        })
    }
}

impl Store {
    /// Devices of one page.
    pub const DEVICE_PAGE: usize = 500;

    /// Stores a device that joins; false when its name is taken. The name of a revoked device is free again.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert_device(tx: &mut Tx, device: &NewDevice, now: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO devices (id, certificate_serial, report_key, labels, inventory, models, \
             seen_generation, enrolled_at, connected, quarantined, revoked) \
             VALUES ($1, $2, $3, $4, $5, '[]', 0, $6, 0, 0, 0) \
             ON CONFLICT (id) DO UPDATE SET certificate_serial = excluded.certificate_serial, \
             previous_serial = NULL, report_key = excluded.report_key, labels = excluded.labels, \
             inventory = excluded.inventory, models = '[]', boot = NULL, seen_generation = 0, \
             enrolled_at = excluded.enrolled_at, revoked = 0, health = NULL, clock_skew_ms = NULL, \
             pins = NULL, limits = NULL, delivery = NULL, seen_limits_revision = 0, windows_lost = 0, windows_waiting = 0, \
             telemetry_bytes_today = 0, counted = NULL, windows_counted = 0, challengers = NULL, \
             challenger_states = NULL, seen_challengers_revision = 0 WHERE devices.revoked = 1",
        )
        .bind(device.id.as_str())
        .bind(&device.certificate_serial)
        .bind(to_json(&device.report_key))
        .bind(to_json(&device.labels))
        .bind(to_json(&device.inventory))
        .bind(millis(now))
        .execute(&mut **tx)
        .await?;
        let added = done.rows_affected() == 1;
        if added {
            // Who takes a free name over does not take over what the device before did.
            Self::forget_device_figures(tx, &device.id).await?;
            Self::forget_challenger_devices(tx, &device.id).await?;
            Self::forget_drift_device(tx, &device.id).await?;
        }
        Ok(added)
    }

    /// One device.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn device(&self, id: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM devices WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(DeviceRow::from_row).transpose()
    }

    /// Up to [`Self::DEVICE_PAGE`] devices after the name `after`, by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn devices_after(&self, after: &str) -> Result<Vec<DeviceRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM devices WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(PAGE)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(DeviceRow::from_row).collect()
    }

    /// Stores what a device said when it connected.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn save_hello(&self, id: &DeviceId, hello: &Hello, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE devices SET inventory = $1, models = $2, boot = $3, seen_generation = $4, last_seen = $5, \
             clock_skew_ms = $6, seen_limits_revision = $7, connected = 1, server = $8, \
             seen_challengers_revision = $10 WHERE id = $9",
        )
        .bind(to_json(&hello.inventory))
        .bind(to_json(&hello.models))
        .bind(hello.boot.as_str())
        .bind(signed(hello.generation.0))
        .bind(millis(now))
        .bind(skew_ms(hello.at, now))
        .bind(signed(hello.limits_revision))
        .bind(self.server.as_str())
        .bind(id.as_str())
        .bind(signed(hello.challengers_revision))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Changes what is known of the models on a device.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn update_models(
        tx: &mut Tx,
        id: &DeviceId,
        now: Timestamp,
        change: impl FnOnce(Vec<ModelState>) -> Vec<ModelState>,
    ) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT models FROM devices WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let models = change(from_json("models", &row.text("models")?)?);
        sqlx::query("UPDATE devices SET models = $1, last_seen = $2 WHERE id = $3")
            .bind(to_json(&models))
            .bind(millis(now))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Notes whether a device holds a connection to this server. The end of one is of no interest when the device has
    /// meanwhile come to another server.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_connected(
        &self,
        id: &DeviceId,
        connected: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let query = if connected {
            sqlx::query("UPDATE devices SET connected = 1, last_seen = $1, server = $2 WHERE id = $3")
        } else {
            sqlx::query(
                "UPDATE devices SET connected = 0, last_seen = $1, server = NULL WHERE server = $2 AND id = $3",
            )
        };
        let query = query.bind(millis(now)).bind(self.server.as_str()).bind(id.as_str());
        query.execute(&self.writer).await?;
        Ok(())
    }

    /// Gives a device another certificate; the one before stays good until the new one is used. False when the
    /// device is not let in any more.
    ///
    /// A newest certificate that was never used may never have arrived. Another one replaces it, and the one
    /// before, which the device still uses, stays.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn renew_certificate(tx: &mut Tx, id: &DeviceId, serial: &str) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE devices SET previous_serial = COALESCE(previous_serial, certificate_serial), \
             certificate_serial = $1 WHERE id = $2 AND revoked = 0",
        )
        .bind(serial)
        .bind(id.as_str())
        .execute(&mut **tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The newest certificate, `serial`, was used, so the one before is not let in any more. Nothing happens when
    /// a newer one was made meanwhile.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drop_previous_certificate(&self, id: &DeviceId, serial: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET previous_serial = NULL WHERE id = $1 AND certificate_serial = $2")
            .bind(id.as_str())
            .bind(serial)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Replaces the labels of a device; false when there is no such device.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_labels(tx: &mut Tx, id: &DeviceId, labels: &Labels) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE devices SET labels = $1 WHERE id = $2")
            .bind(to_json(labels))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Locks a device out; false when there is no such device.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn revoke_device(tx: &mut Tx, id: &DeviceId) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE devices SET revoked = 1, connected = 0 WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes a device out of every rollout or puts it back; false when there is no such device.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_quarantined(tx: &mut Tx, id: &DeviceId, on: bool) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE devices SET quarantined = $1 WHERE id = $2")
            .bind(i64::from(on))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// How far a clock that shows `theirs` is ahead of one that shows `ours`; negative when it is behind.
fn skew_ms(theirs: Timestamp, ours: Timestamp) -> i64 {
    millis(theirs).saturating_sub(millis(ours))
}
