//! What people lay down about one device: versions that it keeps, and why it is in quarantine.

use std::collections::BTreeMap;

use shared::{DeviceId, ModelName, Version};

use super::{DeviceRow, Store, StoreError, Tx, from_json, printable, to_json};

/// Versions that a device keeps, by model.
pub type Pins = BTreeMap<ModelName, Version>;

impl Store {
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
