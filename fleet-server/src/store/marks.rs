//! What people lay down about one device: versions that it keeps, and why it is in quarantine.

use std::collections::BTreeMap;

use shared::{DeviceId, ModelName, Version};

use super::{DeviceRow, Store, StoreError, Tx, from_json, to_json};

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
            .bind(reason)
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

#[cfg(test)]
mod tests {
    use shared::{Timestamp, device::Inventory, trust::Signer};

    use super::*;
    use crate::store::NewDevice;

    fn id() -> DeviceId {
        DeviceId::new("cam-7").unwrap()
    }

    async fn enrol(store: &Store) {
        let new = NewDevice {
            id: id(),
            certificate_serial: "40aa".into(),
            report_key: Signer::from_seed(&[7; 32]).public().clone(),
            labels: BTreeMap::new(),
            inventory: Inventory::default(),
        };
        let mut tx = store.begin().await.unwrap();
        assert!(Store::insert_device(&mut tx, &new, Timestamp(1)).await.unwrap());
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn pins_and_the_reason_of_a_quarantine_are_kept_and_pins_end_with_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(None, folder.path()).await.unwrap();
        enrol(&store).await;
        let pins = Pins::from([(ModelName::new("digits").unwrap(), Version::FIRST)]);
        let mut tx = store.begin().await.unwrap();
        Store::set_pins(&mut tx, &id(), &pins).await.unwrap();
        Store::set_quarantine_reason(&mut tx, &id(), Some("smoke")).await.unwrap();
        let inside = Store::device_in(&mut tx, &id()).await.unwrap().unwrap();
        assert_eq!((&inside.pins, inside.quarantine_reason.as_deref()), (&pins, Some("smoke")));
        assert_eq!(store.device(&id()).await.unwrap().unwrap().pins, Pins::new(), "nothing is committed yet");
        Store::set_quarantine_reason(&mut tx, &id(), None).await.unwrap();
        Store::revoke_device(&mut tx, &id()).await.unwrap();
        tx.commit().await.unwrap();
        let after = store.device(&id()).await.unwrap().unwrap();
        assert_eq!((after.pins, after.quarantine_reason), (pins, None));
        enrol(&store).await;
        assert_eq!(store.device(&id()).await.unwrap().unwrap().pins, Pins::new());
    }
}
