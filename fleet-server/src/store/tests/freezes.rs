//! Freeze periods are kept, bounded and removed once.

use std::time::Duration;

use super::*;

on_each_database! {
    a_freeze_is_read_as_it_was_written_and_removed_once,
    freezes_are_bounded_and_those_that_are_over_make_room,
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn new(until: Timestamp) -> NewFreeze {
    NewFreeze {
        from: NOW,
        until,
        reason: "harvest".into(),
        selector: Some("site=berlin".into()),
        created_by: "ops".into(),
    }
}

async fn add(store: &Store, new: &NewFreeze, now: Timestamp) -> Option<FreezeRow> {
    let mut tx = store.begin().await.unwrap();
    let added = Store::insert_freeze(&mut tx, new, now).await.unwrap();
    tx.commit().await.unwrap();
    added
}

async fn a_freeze_is_read_as_it_was_written_and_removed_once(scene: &Scene) {
    let store = scene.open().await;
    let part = add(&store, &new(NOW + HOUR), NOW).await.unwrap();
    let all = add(&store, &NewFreeze { selector: None, from: NOW + HOUR, ..new(NOW + 2 * HOUR) }, NOW).await;
    assert_eq!(store.freezes().await.unwrap(), [part.clone(), all.unwrap()]);
    assert!(part.holds(NOW) && !part.holds(NOW + HOUR));
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::delete_freeze(&mut tx, &part.id).await.unwrap(), Some(part.clone()));
    assert_eq!(Store::delete_freeze(&mut tx, &part.id).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(store.freezes().await.unwrap().len(), 1);
}

async fn freezes_are_bounded_and_those_that_are_over_make_room(scene: &Scene) {
    let store = scene.open().await;
    let later = NOW + HOUR;
    for _ in 1..Store::MAX_FREEZES {
        assert!(add(&store, &new(NOW + 2 * HOUR), NOW).await.is_some());
    }
    assert!(add(&store, &new(later), NOW).await.is_some());
    assert_eq!(add(&store, &new(NOW + 2 * HOUR), NOW).await, None);
    assert!(add(&store, &new(NOW + 2 * HOUR), later).await.is_some());
    assert_eq!(store.freezes().await.unwrap().len() as i64, Store::MAX_FREEZES);
}
