//! Groups are kept under their names.

use shared::GroupName;

use super::*;

on_each_database! {
    a_group_is_there_until_it_is_deleted_and_its_name_is_taken_once,
    beyond_the_bound_no_group_is_added,
}

fn group(name: &str) -> GroupRow {
    GroupRow {
        name: GroupName::new(name).unwrap(),
        selector: "site=berlin".into(),
        created_by: "ops".into(),
        created_at: Timestamp(1_800_000_000_000),
    }
}

async fn add(store: &Store, name: &str) -> GroupAdded {
    let mut tx = store.begin().await.unwrap();
    let added = Store::insert_group(&mut tx, &group(name)).await.unwrap();
    tx.commit().await.unwrap();
    added
}

async fn a_group_is_there_until_it_is_deleted_and_its_name_is_taken_once(scene: &Scene) {
    let store = scene.open().await;
    assert_eq!(add(&store, "cams").await, GroupAdded::Done);
    assert_eq!(add(&store, "cams").await, GroupAdded::Taken);
    assert_eq!(store.groups().await.unwrap(), [group("cams")]);
    let mut tx = store.begin().await.unwrap();
    assert!(Store::delete_group(&mut tx, &group("cams").name).await.unwrap());
    assert!(!Store::delete_group(&mut tx, &group("cams").name).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(store.group(&group("cams").name).await.unwrap(), None);
}

async fn beyond_the_bound_no_group_is_added(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    for number in 0..Store::MAX_GROUPS {
        let added = Store::insert_group(&mut tx, &group(&format!("g{number}"))).await.unwrap();
        assert_eq!(added, GroupAdded::Done);
    }
    assert_eq!(Store::insert_group(&mut tx, &group("more")).await.unwrap(), GroupAdded::Full);
}
