//! What people lay down about one device: versions that it keeps, and why it is in quarantine.

use std::collections::BTreeMap;

use shared::{DeviceId, ModelName, Version};

use sqlx::any::AnyRow;

use super::{Columns, DeviceRow, Store, StoreError, Tx, from_json, parsed, printable, to_json};

/// Versions that a device keeps, by model.
pub type Pins = BTreeMap<ModelName, Version>;

/// A device that a person took out of some rollouts or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedDevice {
    /// Which.
    pub device: DeviceId,
    /// Out of all.
    pub quarantined: bool,
    /// Out of those of these models.
    pub pins: Pins,
}

impl Store {
    /// Every device that is quarantined or has pins, by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn marked_devices(&self) -> Result<Vec<MarkedDevice>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, quarantined, pins FROM devices WHERE quarantined = 1 OR pins IS NOT NULL ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await?;
        let read = |row: &AnyRow| {
            Ok(MarkedDevice {
                device: parsed("device id", &row.text("id")?)?,
                quarantined: row.flag("quarantined")?,
                pins: pins(row.optional_text("pins")?)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// One device as it is inside of `tx`, with what `tx` has changed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn device_in(tx: &mut Tx, id: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM devices WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        row.as_ref().map(DeviceRow::from_row).transpose()
    }

    /// Replaces the pins of a device.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_pins(tx: &mut Tx, id: &DeviceId, pins: &Pins) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET pins = $1 WHERE id = $2")
            .bind(to_json(pins))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Writes down why a device is in quarantine; nothing when nobody said it, or it is in none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_quarantine_reason(
        tx: &mut Tx,
        id: &DeviceId,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET quarantine_reason = $1 WHERE id = $2")
            .bind(reason.map(printable))
            .bind(id.as_str())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// The column `pins`; a device of which nobody ever pinned anything has none.
pub(super) fn pins(text: Option<String>) -> Result<Pins, StoreError> {
    text.map_or_else(|| Ok(Pins::new()), |text| from_json("pins", &text))
}
