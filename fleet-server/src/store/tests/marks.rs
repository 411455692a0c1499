//! What people lay down about a device.

use shared::{Timestamp, Version, device::Inventory, trust::Signer};

use super::*;
use crate::store::NewDevice;

on_each_database! {
    pins_and_the_reason_of_a_quarantine_are_kept_and_pins_end_with_the_device,
}

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

async fn pins_and_the_reason_of_a_quarantine_are_kept_and_pins_end_with_the_device(scene: &Scene) {
    let store = scene.open().await;
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
