//! Two servers on one database.

use super::*;
use crate::servers::{Identity, ServerId};

on_each_database! {
    numbers_have_no_gap_and_the_audit_chain_holds_when_two_servers_write_at_once,
    a_device_that_came_to_another_server_is_not_struck_by_the_one_it_left,
    a_server_hears_of_the_desired_states_that_others_changed_and_of_no_other,
    a_name_that_another_process_took_over_is_noticed_by_the_first,
    the_connections_of_a_server_that_was_given_up_are_struck_and_those_of_others_stay,
    a_server_that_comes_back_notes_its_devices_and_leaves_those_that_went_to_another,
    a_lease_changes_hands_under_a_higher_epoch,
}

/// Turns of each writer.
const TURNS: u64 = 40;

fn identity(id: &ServerId) -> Identity {
    Identity { id: id.clone(), run: ServerId::new().to_string() }
}

async fn join(store: &Store, me: &Identity) {
    let mut tx = store.begin().await.unwrap();
    Store::join_servers(&mut tx, me).await.unwrap();
    tx.commit().await.unwrap();
}

async fn numbers_have_no_gap_and_the_audit_chain_holds_when_two_servers_write_at_once(scene: &Scene) {
    let stores = [scene.open().await, scene.open().await];
    let writers = stores.clone().map(|store| {
        tokio::spawn(async move {
            for _ in 0..TURNS {
                let mut tx = store.begin().await.unwrap();
                Store::insert_event(&mut tx, NOW, "rollout", "r1", &"moved").await.unwrap();
                Store::audit(&mut tx, NOW, "ann", "rollout.pause", "r1", "").await.unwrap();
                let change = DesiredChange {
                    device: device_id(),
                    model: ModelName::new("digits").unwrap(),
                    assignment: None,
                };
                store.change_desired(&mut tx, &change, NOW).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    let [store, _] = stores;
    assert_eq!(store.verify_audit().await.unwrap(), 2 * TURNS);
    let events = store.events_after("r1", 0).await.unwrap();
    assert!(events.iter().map(|event| event.sequence).eq(1..=2 * TURNS));
    assert_eq!(store.desired(&device_id()).await.unwrap().generation, Generation(2 * TURNS));
}

async fn a_device_that_came_to_another_server_is_not_struck_by_the_one_it_left(scene: &Scene) {
    let (left, joined) = (scene.open().await, scene.open().await);
    add_device(&left).await;
    left.set_connected(&device_id(), true, NOW).await.unwrap();
    joined.set_connected(&device_id(), true, NOW).await.unwrap();
    left.set_connected(&device_id(), false, NOW).await.unwrap();
    assert!(left.device(&device_id()).await.unwrap().unwrap().connected);
    joined.set_connected(&device_id(), false, NOW).await.unwrap();
    assert!(!left.device(&device_id()).await.unwrap().unwrap().connected);
}

async fn a_server_hears_of_the_desired_states_that_others_changed_and_of_no_other(scene: &Scene) {
    let (one, other) = (scene.open().await, scene.open().await);
    let change = |device: &str| DesiredChange {
        device: DeviceId::new(device).unwrap(),
        model: ModelName::new("digits").unwrap(),
        assignment: None,
    };
    for (store, device) in [(&one, "a"), (&other, "b"), (&one, "c"), (&other, "a")] {
        let mut tx = store.begin().await.unwrap();
        store.change_desired(&mut tx, &change(device), NOW).await.unwrap();
        tx.commit().await.unwrap();
    }
    let told = |device: &str| Some(DeviceId::new(device).unwrap());
    assert_eq!(one.desired_changes(0).await.unwrap(), [(2, told("b")), (3, None), (4, told("a"))]);
    assert_eq!(other.desired_changes(2).await.unwrap(), [(3, told("c")), (4, None)]);
    assert_eq!(one.newest_desired_change().await.unwrap(), 4);
}

async fn a_name_that_another_process_took_over_is_noticed_by_the_first(scene: &Scene) {
    let store = scene.open().await;
    let (first, second) = (identity(store.server()), identity(store.server()));
    join(&store, &first).await;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::beat(&mut tx, &first).await.unwrap(), Beat::Heard);
    Store::join_servers(&mut tx, &second).await.unwrap();
    assert_eq!(Store::beat(&mut tx, &first).await.unwrap(), Beat::Stolen);
    assert_eq!(Store::beat(&mut tx, &second).await.unwrap(), Beat::Heard);
    Store::forget_server(&mut tx, &second.id).await.unwrap();
    assert_eq!(Store::beat(&mut tx, &second).await.unwrap(), Beat::Anew);
}

async fn the_connections_of_a_server_that_was_given_up_are_struck_and_those_of_others_stay(scene: &Scene) {
    let (gone, other) = (scene.open().await, scene.open().await);
    join(&gone, &identity(gone.server())).await;
    join(&other, &identity(other.server())).await;
    add_device(&gone).await;
    for (store, stays) in [(&other, true), (&gone, false)] {
        store.set_connected(&device_id(), true, NOW).await.unwrap();
        let mut tx = other.begin().await.unwrap();
        Store::forget_server(&mut tx, gone.server()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(other.device(&device_id()).await.unwrap().unwrap().connected, stays);
    }
    let mut tx = other.begin().await.unwrap();
    let left = Store::servers(&mut tx).await.unwrap();
    assert_eq!(left.into_iter().map(|row| row.id).collect::<Vec<_>>(), [other.server().clone()]);
}

async fn a_server_that_comes_back_notes_its_devices_and_leaves_those_that_went_to_another(scene: &Scene) {
    let (back, other) = (scene.open().await, scene.open().await);
    let devices: Vec<_> = (0..21).map(|number| DeviceId::new(format!("cam-{number}")).unwrap()).collect();
    for device in &devices {
        assert!(add_device_named(&back, device.clone()).await);
    }
    other.set_connected(&devices[5], true, NOW).await.unwrap();
    let mut tx = back.begin().await.unwrap();
    back.note_connections(&mut tx, &devices, NOW).await.unwrap();
    tx.commit().await.unwrap();
    // Each server can strike only what it holds itself.
    back.set_connected(&devices[5], false, NOW).await.unwrap();
    other.set_connected(&devices[6], false, NOW).await.unwrap();
    for device in &devices {
        assert!(back.device(device).await.unwrap().unwrap().connected, "{device}");
    }
}

async fn a_lease_changes_hands_under_a_higher_epoch(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::lease(&mut tx, "rollouts").await.unwrap(), None);
    for epoch in [1, 2] {
        let lease = Lease { holder: ServerId::new(), epoch };
        Store::take_lease(&mut tx, "rollouts", &lease).await.unwrap();
        assert_eq!(Store::lease(&mut tx, "rollouts").await.unwrap(), Some(lease));
    }
}
