//! Challengers are named under a number that grows, and what came of them adds up.

use shared::challenger::{Challenger, ChallengerFigures, ChallengerState, ChallengerWindow, Terms};

use super::*;

on_each_database! {
    a_challenger_raises_its_own_number_and_nothing_of_the_desired_state,
    figures_of_challengers_add_up_once_by_match_and_by_device,
}

fn named(release: &str, order: u64) -> Challenger {
    Challenger {
        release: release.parse().unwrap(),
        manifest_digest: Digest::of(b"manifest"),
        manifest_size_bytes: 8,
        order,
        terms: Terms::default(),
    }
}

async fn name(store: &Store, release: &str) {
    let mut tx = store.begin().await.unwrap();
    let change = |all: &mut Vec<Challenger>, revision| {
        all.push(named(release, revision));
        true
    };
    Store::change_challengers(&mut tx, &device_id(), NOW, change).await.unwrap();
    tx.commit().await.unwrap();
}

fn window(sequence: u64, agreed: u64, step: &str) -> TelemetryRow {
    let mut figures = ChallengerFigures::new("digits@1".parse().unwrap(), release());
    (0..agreed).for_each(|_| figures.decided(Some(3), Some(3)));
    figures.decided(Some(3), Some(8));
    figures.differed(0.5);
    let ghost = ChallengerFigures::new("digits@1".parse().unwrap(), "digits@9".parse().unwrap());
    let state = ChallengerState { release: release(), order: 1, step: step.into(), detail: String::new() };
    let telemetry = Telemetry {
        boot: BootId::new("b1").unwrap(),
        sequence,
        from: NOW,
        to: NOW,
        health: DeviceHealth::default(),
        delivery: Delivery::default(),
        versions: vec![],
        challengers: ChallengerWindow { matches: vec![figures, ghost], states: vec![state] },
        drift_alarms: Vec::new(),
    };
    TelemetryRow { device: device_id(), telemetry }
}

async fn a_challenger_raises_its_own_number_and_nothing_of_the_desired_state(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    store.set_connected(&device_id(), true, NOW).await.unwrap();
    assert!(store.challenged_devices().await.unwrap().is_empty());
    name(&store, "digits@2").await;
    name(&store, "faces@3").await;
    assert_eq!(store.desired(&device_id()).await.unwrap().generation, Generation(0));
    assert_eq!(store.lagging_devices().await.unwrap(), [device_id()], "it is told again until it confirms");
    let challenged = store.challenged_devices().await.unwrap();
    let named = &challenged[0].named;
    let orders: Vec<u64> = named.challengers.iter().map(|named| named.order).collect();
    assert!(orders[0] < orders[1] && orders[1] == named.revision, "{named:?}");
    assert_eq!(challenged[0].runs(&release()).map(|named| named.order), Some(orders[0]));
    assert_eq!(store.device(&device_id()).await.unwrap().unwrap().challengers, *named);
    let hello = Hello {
        boot: BootId::new("b1").unwrap(),
        at: NOW,
        generation: Generation(0),
        inventory: Inventory::default(),
        models: Vec::new(),
        limits_revision: 0,
        challengers_revision: named.revision,
    };
    store.save_hello(&device_id(), &hello, NOW).await.unwrap();
    assert!(store.lagging_devices().await.unwrap().is_empty());
}

async fn figures_of_challengers_add_up_once_by_match_and_by_device(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    add_release(&store, "digits@1".parse().unwrap()).await;
    add_release(&store, release()).await;
    name(&store, "digits@2").await;
    store.insert_telemetry(&[window(1, 3, "starting"), window(2, 5, "running")], NOW, NOW).await.unwrap();
    store.insert_telemetry(&[window(2, 5, "running")], NOW, NOW).await.unwrap();
    let matches = store.matches(&release()).await.unwrap();
    assert_eq!(matches.len(), 1, "what was never published makes no rows");
    let figures = &matches[0].figures;
    assert_eq!((figures.agreed, figures.disagreed, figures.score_delta.count()), (8, 2, 2));
    assert_eq!(figures.disagreements[0].count, 2);
    assert_eq!(matches[0].devices, [(8, 10)]);
    assert_eq!(store.challenged_devices().await.unwrap()[0].states[0].step, "running");
    let mut tx = store.begin().await.unwrap();
    Store::revoke_device(&mut tx, &device_id()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(add_device(&store).await);
    assert!(store.challenged_devices().await.unwrap().is_empty(), "a name that is taken over names nothing");
    let matches = store.matches(&release()).await.unwrap();
    assert_eq!((matches[0].devices.len(), matches[0].figures.agreed), (0, 8));
}
