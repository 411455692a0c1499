//! What the history of a device is read from.

use serde_json::json;
use shared::{BootId, Generation, Timestamp, report::DeploymentEvent, report::Report};

use super::*;

on_each_database! {
    reports_come_oldest_first_and_of_the_model_that_is_asked_for,
    approvers_are_read_from_the_events_of_their_rollout_alone,
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn report(sequence: u64, release: &str) -> Report {
    Report {
        device: DeviceId::new("cam-7").unwrap(),
        boot: BootId::new("b1").unwrap(),
        sequence,
        at: NOW,
        generation: Generation(1),
        release: release.parse().unwrap(),
        event: DeploymentEvent::Probation,
    }
}

async fn reports_come_oldest_first_and_of_the_model_that_is_asked_for(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    for (sequence, release) in [(1, "digits@1"), (2, "faces@1"), (3, "digits@2")] {
        Store::insert_report(&mut tx, &report(sequence, release), NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    let id = DeviceId::new("cam-7").unwrap();
    let sequences = |rows: Vec<ReportRow>| rows.iter().map(|row| row.report.sequence).collect::<Vec<_>>();
    let digits = ModelName::new("digits").unwrap();
    assert_eq!(sequences(store.reports_about(&id, None).await.unwrap()), [1, 2, 3]);
    assert_eq!(sequences(store.reports_about(&id, Some(&digits)).await.unwrap()), [1, 3]);
}

async fn approvers_are_read_from_the_events_of_their_rollout_alone(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    for (subject, document) in [
        ("r1", json!({"event": "approved", "by": "ada"})),
        ("r1", json!({"event": "paused", "by": "bob"})),
        ("r2", json!({"event": "approved", "by": "eve"})),
    ] {
        Store::insert_event(&mut tx, NOW, "rollout", subject, &document).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(store.approvers_of(&RolloutId::new("r1").unwrap()).await.unwrap(), ["ada"]);
    let events = |rows: Vec<EventRow>| rows.iter().map(|row| row.sequence).collect::<Vec<_>>();
    assert_eq!(events(store.newest_events(2).await.unwrap()), [2, 3]);
    assert_eq!(events(store.every_event_after(1).await.unwrap()), [2, 3]);
}
