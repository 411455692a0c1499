//! What a plan must know of each device, in one pass over the fleet: a plan for a large fleet spends its time here, so
//! nothing is read that it does not use.

use fleet_core::DeviceFacts;
use futures_util::TryStreamExt as _;
use shared::{DeviceId, Generation, message::Assignment, report::ModelState};
use sqlx::{any::AnyRow, query::Query};

use super::{Columns, Store, StoreError, from_json, marks, parsed};

/// Of each device, with what was asked of it. The condition comes after it.
macro_rules! facts_where {
    ($condition:literal) => {
        concat!(
            "SELECT devices.id, labels, inventory, models, last_seen, connected, quarantined, pins, ",
            "desired.generation, desired.assignments FROM devices ",
            "LEFT JOIN desired ON desired.device = devices.id WHERE ",
            $condition
        )
    };
}

impl Store {
    /// Every device that is not revoked, by name. Rows are read while those before them are understood. What a device
    /// says it runs is its own word: `committed` may name what was never published here.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn every_device_facts(&self) -> Result<Vec<DeviceFacts>, StoreError> {
        let mut rows = sqlx::query(facts_where!("revoked = 0")).fetch(&self.reader);
        let mut devices = Vec::new();
        while let Some(row) = rows.try_next().await? {
            devices.push(from_row(&row)?);
        }
        devices.sort_by(|a: &DeviceFacts, b| a.id.cmp(&b.id));
        Ok(devices)
    }

    /// One device in the same way; revoked or not.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn device_facts(&self, id: &DeviceId) -> Result<Option<DeviceFacts>, StoreError> {
        let query: Query<'_, sqlx::Any, _> = sqlx::query(facts_where!("devices.id = $1"));
        let row = query.bind(id.as_str()).fetch_optional(&self.reader).await?;
        row.as_ref().map(from_row).transpose()
    }
}

fn from_row(row: &AnyRow) -> Result<DeviceFacts, StoreError> {
    let models: Vec<ModelState> = from_json("models", &row.text("models")?)?;
    let assignments = row.optional_text("assignments")?;
    let assignments: Vec<Assignment> =
        assignments.map_or(Ok(vec![]), |text| from_json("assignments", &text))?;
    let generation = row.optional_number("generation")?.unwrap_or_default();
    Ok(DeviceFacts {
        id: parsed("device id", &row.text("id")?)?,
        labels: from_json("labels", &row.text("labels")?)?,
        connected: row.flag("connected")?,
        last_seen: row.optional_time("last_seen")?,
        inventory: from_json("inventory", &row.text("inventory")?)?,
        desired: assignments.into_iter().map(|assignment| assignment.release).collect(),
        committed: models.into_iter().filter_map(|model| model.committed).collect(),
        generation: Generation(u64::try_from(generation).unwrap_or(0)),
        quarantined: row.flag("quarantined")?,
        pins: marks::pins(row.optional_text("pins")?)?,
    })
}
