//! What each device shall run. Every change raises the device's generation.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::{DeviceId, Generation, ModelName, Timestamp, message::Assignment};
use sqlx::{AnyConnection, any::AnyRow};

use super::{Columns, MAX_ROWS, Store, StoreError, Tx, from_json, millis, parsed, signed, to_json};

/// The desired state of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// Its number; zero when nothing was ever asked of the device.
    pub generation: Generation,
    /// One entry for each model.
    pub assignments: Vec<Assignment>,
    /// When it became this.
    pub changed_at: Timestamp,
}

/// One change to the desired state of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredChange {
    /// Whose.
    pub device: DeviceId,
    /// Of which model.
    pub model: ModelName,
    /// What to run of it; nothing when absent.
    pub assignment: Option<Assignment>,
}

impl Desired {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            generation: Generation(row.unsigned("generation")?),
            assignments: from_json("assignments", &row.text("assignments")?)?,
            changed_at: row.time("changed_at")?,
        })
    }

    fn with(mut self, change: &DesiredChange, now: Timestamp) -> Self {
        self.assignments.retain(|assignment| assignment.release.model != change.model);
        self.assignments.extend(change.assignment.clone());
        self.assignments.sort_by(|a, b| a.release.cmp(&b.release));
        self.generation = self.generation.next();
        self.changed_at = now;
        self
    }
}

impl Store {
    /// What `device` shall run.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn desired(&self, device: &DeviceId) -> Result<Desired, StoreError> {
        let mut connection = self.reader.acquire().await?;
        read(&mut connection, device).await
    }

    /// What the devices from after the name `after` up to `last` shall run, by device; those of whom nothing was ever
    /// asked are missing.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn desired_of_page(
        &self,
        after: &str,
        last: &DeviceId,
    ) -> Result<BTreeMap<DeviceId, Desired>, StoreError> {
        let query = sqlx::query("SELECT * FROM desired WHERE device > $1 AND device <= $2");
        let rows = query.bind(after).bind(last.as_str()).fetch_all(&self.reader).await?;
        rows.iter()
            .map(|row| Ok((parsed("device id", &row.text("device")?)?, Desired::from_row(row)?)))
            .collect()
    }

    /// Changes what a device shall run and returns the whole new state.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn change_desired(
        &self,
        tx: &mut Tx,
        change: &DesiredChange,
        now: Timestamp,
    ) -> Result<Desired, StoreError> {
        let desired = read(tx, &change.device).await?.with(change, now);
        sqlx::query(
            "INSERT INTO desired (device, generation, assignments, changed_at, writer, change) \
             VALUES ($1, $2, $3, $4, $5, (SELECT COALESCE(MAX(change), 0) + 1 FROM desired)) \
             ON CONFLICT (device) DO UPDATE SET generation = excluded.generation, \
             assignments = excluded.assignments, changed_at = excluded.changed_at, writer = excluded.writer, \
             change = excluded.change",
        )
        .bind(change.device.as_str())
        .bind(signed(desired.generation.0))
        .bind(to_json(&desired.assignments))
        .bind(millis(desired.changed_at))
        .bind(self.server.as_str())
        .execute(&mut **tx)
        .await?;
        Ok(desired)
    }

    /// The number of the newest change.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_desired_change(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(change), 0) AS change FROM desired")
            .fetch_one(&self.reader)
            .await?;
        row.unsigned("change")
    }

    /// Changes after number `after`, oldest first, at most [`MAX_ROWS`]: the number, and whose desired state another
    /// server changed; `None` where this one did.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn desired_changes(&self, after: u64) -> Result<Vec<(u64, Option<DeviceId>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT change, device, writer FROM desired WHERE change > $1 ORDER BY change LIMIT $2",
        )
        .bind(signed(after))
        .bind(MAX_ROWS)
        .fetch_all(&self.reader)
        .await?;
        let change = |row: &AnyRow| {
            let is_ours = row.text("writer")? == self.server.as_str();
            let device = (!is_ours).then(|| parsed("device id", &row.text("device")?)).transpose()?;
            Ok((row.unsigned("change")?, device))
        };
        rows.iter().map(change).collect()
    }

    /// Devices connected to this server that have not yet confirmed their desired state, their limits or their challengers.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn lagging_devices(&self) -> Result<Vec<DeviceId>, StoreError> {
        let rows = sqlx::query(
            "SELECT devices.id FROM devices LEFT JOIN desired ON desired.device = devices.id \
             WHERE devices.connected = 1 AND devices.server = $1 AND devices.revoked = 0 AND (desired.generation > devices.seen_generation \
             OR (devices.limits IS NOT NULL AND devices.limits_revision > devices.seen_limits_revision) \
             OR (devices.challengers IS NOT NULL \
             AND devices.challengers_revision > devices.seen_challengers_revision)) \
             ORDER BY devices.id",
        )
        .bind(self.server.as_str())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| parsed("device id", &row.text("id")?)).collect()
    }

    /// A device showed that it knows its desired state of this generation.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn saw_generation(
        tx: &mut Tx,
        device: &DeviceId,
        generation: Generation,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET seen_generation = $1 WHERE id = $2 AND seen_generation < $1")
            .bind(signed(generation.0))
            .bind(device.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

async fn read(connection: &mut AnyConnection, device: &DeviceId) -> Result<Desired, StoreError> {
    let row = sqlx::query("SELECT * FROM desired WHERE device = $1")
        .bind(device.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Ok(Desired::default()), Desired::from_row)
}
