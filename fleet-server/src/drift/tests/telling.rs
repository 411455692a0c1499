use fleet_core::drift::{Cause, RaisedBy, Whom};
use muster_sketch::detector::Scope;

use super::*;
use crate::drift::{RelearnOrder, relearn};

/// The drift that is told when the devices of these versions bring something else than before.
async fn told(versions: usize, twist: &Twist) -> Vec<(ReleaseId, Scope)> {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 5).await;
    let of_all: Vec<_> = (0..versions).collect();
    for _ in 1..versions {
        plant.add_version(&["c", "d"]).await;
    }
    plant.learn(&of_all).await;
    for check in 0..3 {
        plant.bring(&of_all, 300, SOUND).await;
        plant.check().await;
        assert!(plant.alarms().await.is_empty(), "check {check}");
    }
    for _ in 0..3 {
        plant.bring(&of_all, 300, twist).await;
        plant.check().await;
        let drifts = plant.drifts().await;
        if !drifts.is_empty() {
            let told = drifts.into_iter().map(|alarm| (alarm.release, alarm.found.scope));
            return told.collect();
        }
    }
    vec![]
}

fn digits(version: u32) -> ReleaseId {
    format!("digits@{version}").parse().unwrap()
}

#[tokio::test]
async fn one_device_that_moves_is_a_sensor() {
    let told = told(1, &|device, value| if device == "a-3" { value + 3.0 } else { value }).await;
    assert_eq!(told, [(digits(1), Scope::Sensor { device: "a-3".into() })]);
}

#[tokio::test]
async fn a_site_that_moves_is_a_stratum() {
    let told = told(1, &|device, value| if device.starts_with('b') { value + 0.8 } else { value }).await;
    assert_eq!(told, [(digits(1), Scope::Stratum { key: "site".into(), value: "b".into() })]);
}

#[tokio::test]
async fn all_devices_that_move_are_the_world_under_every_version() {
    let told = told(2, &|_, value| value + 0.8).await;
    assert_eq!(told, [(digits(2), Scope::World), (digits(1), Scope::World)]);
}

#[tokio::test]
async fn a_version_whose_devices_move_alone_is_the_model() {
    let told = told(2, &|device, value| if device < "c" { value } else { value + 0.8 }).await;
    assert_eq!(told, [(digits(2), Scope::Model)]);
}

#[tokio::test]
async fn while_nothing_moves_nothing_is_told() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 9).await;
    plant.learn(&[0]).await;
    for check in 0..12 {
        plant.bring(&[0], 300, SOUND).await;
        plant.check().await;
        assert!(plant.alarms().await.is_empty(), "check {check}");
    }
    assert!(plant.events().await.is_empty());
}

#[tokio::test]
async fn an_incident_is_one_alarm_with_its_evidence_and_a_new_baseline_ends_it() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 6).await;
    plant.learn(&[0]).await;
    let broken: &Twist = &|device, value| if device == "b-2" { value - 2.5 } else { value };
    for _ in 0..28 {
        plant.bring(&[0], 300, broken).await;
        plant.check().await;
    }
    let drifts = plant.drifts().await;
    let [alarm] = drifts.as_slice() else { panic!("{drifts:#?}") };
    assert_eq!((alarm.times, alarm.found.raised_by), (3, RaisedBy::Server), "told again every day");
    let evidence = alarm.found.evidence.as_ref().unwrap();
    assert_eq!((evidence.devices, evidence.counts.rows()), (1, 300));
    assert!(matches!(&alarm.found.cause, Cause::Drift { finding, .. } if finding.alarm.shift > 0.2));
    let events = plant.events().await;
    let of_drift: Vec<_> = events.iter().filter(|event| event.document["alarm"]["id"] == alarm.id).collect();
    assert_eq!(of_drift.len(), 1, "once told");
    assert_eq!((of_drift[0].kind.as_str(), of_drift[0].subject.as_str()), ("drift", "digits"));
    assert_eq!(of_drift[0].document["event"], "drift.detected");
    assert!(of_drift[0].document["text"].as_str().unwrap().starts_with("level of b-2: "));

    let order = RelearnOrder { release: digits(1), feature: None, whom: Whom::Device("b-2".into()) };
    let mut tx = plant.app().store.begin().await.unwrap();
    relearn(plant.app(), &mut tx, order, plant.now).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    plant.bring(&[0], BASELINE, broken).await;
    plant.check().await;
    let before = plant.drifts().await;
    for _ in 0..30 {
        plant.bring(&[0], 300, broken).await;
        plant.check().await;
    }
    assert_eq!(plant.drifts().await, before, "that is normal for it now");
}

#[tokio::test]
async fn a_drift_of_all_devices_that_goes_on_is_told_again_when_it_is_found_again() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 6).await;
    plant.learn(&[0]).await;
    for _ in 0..28 {
        plant.bring(&[0], 300, &|_, value| value + 0.9).await;
        plant.check().await;
    }
    let drifts = plant.drifts().await;
    let [alarm] = drifts.as_slice() else { panic!("{drifts:#?}") };
    assert_eq!(
        (&alarm.found.scope, alarm.times),
        (&Scope::World, 3),
        "its devices are silent for a day each time"
    );
    let events = plant.events().await;
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.document["alarm"]["id"] == alarm.id)
        .map(|event| (event.document["event"].as_str().unwrap(), event.document["alarm"]["times"].as_u64()))
        .collect();
    assert_eq!(told, [("drift.detected", Some(1)), ("drift.repeated", Some(2)), ("drift.repeated", Some(3))]);
}

#[tokio::test]
async fn a_device_that_is_locked_out_is_of_the_fleet_no_more() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 7).await;
    plant.learn(&[0]).await;
    let mut tx = plant.app().store.begin().await.unwrap();
    assert!(Store::revoke_device(&mut tx, &DeviceId::new("a-0").unwrap()).await.unwrap());
    tx.commit().await.unwrap();
    plant.bring(&[0], 300, SOUND).await;
    plant.check().await;
    let statuses = plant.app().store.drift_statuses(&digits(1).model).await.unwrap();
    assert!(
        statuses.iter().all(|(.., status)| (status.watching, status.devices) == (11, 11)),
        "{statuses:?}"
    );
}
