/// Each of these tests, once on each database.
macro_rules! on_each_database {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(&super::Scene::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(&super::Scene::postgres().await).await; })*
        }
    };
}

mod begin;
mod challengers;
mod drift;
mod experiments;
mod foreign_texts;
mod freezes;
mod groups;
mod history;
mod marks;
pub(crate) mod scene;
mod servers;
mod verdicts;
mod webhooks;

use std::{collections::BTreeMap, time::Duration};

use shared::{
    BootId, DeviceId, Digest, Generation, ModelName, ReleaseId, RolloutId, Timestamp,
    device::Inventory,
    message::{Assignment, Hello, Limits},
    report::{DeploymentEvent, Report},
    telemetry::{Delivery, DeviceHealth, Telemetry, VersionFigures},
    trust::Signer,
};

use super::*;
use crate::auth::Role;
use scene::Scene;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

on_each_database! {
    a_database_opened_again_holds_what_was_stored,
    a_taken_name_is_free_again_only_after_revocation,
    ten_devices_race_for_three_uses_and_three_win,
    an_expired_or_unknown_enrolment_token_says_which,
    a_report_delivered_twice_is_stored_once,
    of_two_writers_with_the_same_revision_one_is_outdated,
    every_change_of_desired_state_raises_the_generation,
    telemetry_counts_once_and_only_for_published_versions,
    a_device_of_an_old_name_starts_anew_and_the_sum_of_all_keeps_what_was_done,
    a_changed_audit_entry_is_found,
    events_are_numbered_in_order_and_read_by_subject,
    a_revoked_or_expired_token_is_not_valid,
    the_certificate_in_use_is_dropped_only_when_the_newest_was_used,
    newer_limits_have_a_higher_revision_and_a_device_that_lacks_them_is_told_again,
}

fn release() -> ReleaseId {
    "digits@2".parse().unwrap()
}

fn device_id() -> DeviceId {
    DeviceId::new("cam-7").unwrap()
}

async fn add_device(store: &Store) -> bool {
    add_device_named(store, device_id()).await
}

async fn add_device_named(store: &Store, id: DeviceId) -> bool {
    let new = NewDevice {
        id,
        certificate_serial: "40aa".into(),
        report_key: Signer::from_seed(&[7; 32]).public().clone(),
        labels: BTreeMap::from([("site".into(), "berlin".into())]),
        inventory: Inventory::default(),
    };
    let mut tx = store.begin().await.unwrap();
    let added = Store::insert_device(&mut tx, &new, NOW).await.unwrap();
    tx.commit().await.unwrap();
    added
}

async fn add_release(store: &Store, release: ReleaseId) {
    let new = NewRelease {
        content_digest: Digest::of(release.to_string().as_bytes()),
        release,
        manifest_json: "{}".into(),
        model_digest: Digest::of(b"model"),
        gate: "{}".into(),
        published_by: "test".into(),
    };
    let mut tx = store.begin().await.unwrap();
    Store::insert_release(&mut tx, &new, NOW).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_database_opened_again_holds_what_was_stored(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    store.close().await;
    let store = scene.open().await;
    let device = store.device(&device_id()).await.unwrap().unwrap();
    assert_eq!(device.labels["site"], "berlin");
    assert!(!device.connected && !device.revoked);
}

async fn a_taken_name_is_free_again_only_after_revocation(scene: &Scene) {
    let store = scene.open().await;
    assert!(add_device(&store).await);
    assert!(!add_device(&store).await);
    let mut tx = store.begin().await.unwrap();
    assert!(Store::revoke_device(&mut tx, &device_id()).await.unwrap());
    tx.commit().await.unwrap();
    assert!(add_device(&store).await);
    assert!(!store.device(&device_id()).await.unwrap().unwrap().revoked);
}

async fn ten_devices_race_for_three_uses_and_three_win(scene: &Scene) {
    let store = scene.open().await;
    let token = NewEnrollToken { hash: "h".into(), labels: BTreeMap::new(), uses: 3, expires_at: NOW + HOUR };
    let mut tx = store.begin().await.unwrap();
    Store::insert_enroll_token(&mut tx, &token, NOW).await.unwrap();
    tx.commit().await.unwrap();
    let tries = (0..10).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            let redeemed = Store::redeem(&mut tx, "h", NOW).await.unwrap();
            tx.commit().await.unwrap();
            redeemed
        })
    });
    let (mut accepted, mut used_up) = (0, 0);
    for attempt in tries.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Redeemed::Accepted(_) => accepted += 1,
            Redeemed::UsedUp => used_up += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((accepted, used_up), (3, 7));
}

async fn an_expired_or_unknown_enrolment_token_says_which(scene: &Scene) {
    let store = scene.open().await;
    let token = NewEnrollToken { hash: "h".into(), labels: BTreeMap::new(), uses: 3, expires_at: NOW };
    let mut tx = store.begin().await.unwrap();
    Store::insert_enroll_token(&mut tx, &token, NOW).await.unwrap();
    assert_eq!(Store::redeem(&mut tx, "h", NOW).await.unwrap(), Redeemed::Expired);
    assert_eq!(Store::redeem(&mut tx, "other", NOW).await.unwrap(), Redeemed::Unknown);
}

async fn a_report_delivered_twice_is_stored_once(scene: &Scene) {
    let store = scene.open().await;
    let report = Report {
        device: device_id(),
        boot: BootId::new("b1").unwrap(),
        sequence: 1,
        at: NOW,
        generation: Generation(1),
        release: release(),
        event: DeploymentEvent::Probation,
    };
    let mut tx = store.begin().await.unwrap();
    assert!(Store::insert_report(&mut tx, &report, NOW).await.unwrap());
    assert!(!Store::insert_report(&mut tx, &report, NOW).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(store.reports_of(&device_id()).await.unwrap()[0].report, report);
}

async fn of_two_writers_with_the_same_revision_one_is_outdated(scene: &Scene) {
    let store = scene.open().await;
    let id = RolloutId::new("r1").unwrap();
    let new = NewRollout {
        id: id.clone(),
        release: release(),
        state: "1".into(),
        phase: "running".into(),
        created_by: "test".into(),
    };
    let mut tx = store.begin().await.unwrap();
    Store::insert_rollout(&mut tx, &new, NOW).await.unwrap();
    tx.commit().await.unwrap();
    let row = store.rollout(&id).await.unwrap().unwrap();
    let next = RolloutRow { state: "2".into(), finished: true, ..row };
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::save_rollout(&mut tx, &next, NOW).await.unwrap(), Saved::Done(2));
    assert_eq!(Store::save_rollout(&mut tx, &next, NOW).await.unwrap(), Saved::Outdated);
    tx.commit().await.unwrap();
    assert!(store.unfinished_rollouts().await.unwrap().is_empty());
    assert_eq!(store.rollout(&id).await.unwrap().unwrap().state, "2");
}

async fn every_change_of_desired_state_raises_the_generation(scene: &Scene) {
    let store = scene.open().await;
    let assignment = |release: &str| Assignment {
        release: release.parse().unwrap(),
        manifest_digest: Digest::of(b"m"),
        manifest_size_bytes: 1,
        retry: false,
        pinned: false,
    };
    let change = |model: &str, assignment| DesiredChange {
        device: device_id(),
        model: ModelName::new(model).unwrap(),
        assignment,
    };
    let mut tx = store.begin().await.unwrap();
    for change in [
        change("digits", Some(assignment("digits@1"))),
        change("faces", Some(assignment("faces@1"))),
        change("digits", Some(assignment("digits@2"))),
        change("faces", None),
    ] {
        store.change_desired(&mut tx, &change, NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    let desired = store.desired(&device_id()).await.unwrap();
    assert_eq!(desired.generation, Generation(4));
    assert_eq!(desired.assignments, [assignment("digits@2")]);
}

async fn telemetry_counts_once_and_only_for_published_versions(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    add_release(&store, release()).await;
    let figures = |release: ReleaseId| {
        let mut figures = VersionFigures::new(release);
        figures.counts.ok = 5;
        figures.latency_ms.record(3.0);
        figures
    };
    let row = |sequence| TelemetryRow {
        device: device_id(),
        telemetry: Telemetry {
            boot: BootId::new("b1").unwrap(),
            sequence,
            from: NOW,
            to: NOW,
            health: DeviceHealth { cpu_percent: 12.5, ..DeviceHealth::default() },
            delivery: Delivery { windows_lost: 2, ..Delivery::default() },
            versions: vec![figures(release()), figures("ghost@9".parse().unwrap())],
            challengers: Default::default(),
            drift_alarms: Vec::new(),
        },
    };
    let oldest = Timestamp(NOW.0 - 3_600_000);
    store.insert_telemetry(&[row(1), row(2), row(1)], NOW, oldest).await.unwrap();
    store.insert_telemetry(&[row(2), row(3)], NOW, oldest).await.unwrap();
    let minutes = store.minutes(&release(), oldest).await.unwrap();
    assert_eq!(minutes.len(), 1);
    assert_eq!((minutes[0].figures.counts.ok, minutes[0].figures.latency_ms.count()), (15, 3));
    assert!(store.minutes(&"ghost@9".parse().unwrap(), oldest).await.unwrap().is_empty());
    assert_eq!(store.device(&device_id()).await.unwrap().unwrap().health.unwrap().cpu_percent, 12.5);
    assert_eq!(store.delivery_sums().await.unwrap().windows_lost, 2);
    let of_device = store.figures_of(&device_id()).await.unwrap();
    assert_eq!(of_device.iter().map(|row| row.figures.counts.ok).collect::<Vec<_>>(), [15]);
    store.trim_telemetry(NOW + HOUR).await.unwrap();
    assert!(store.minutes(&release(), oldest).await.unwrap().is_empty());
    assert_eq!(store.figures_of_releases(9).await.unwrap()[0].counts.ok, 15, "sums outlive the minutes");
}

async fn a_device_of_an_old_name_starts_anew_and_the_sum_of_all_keeps_what_was_done(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    let releases: Vec<ReleaseId> = (1..=3).map(|n| format!("digits@{n}").parse().unwrap()).collect();
    for release in &releases {
        add_release(&store, release.clone()).await;
    }
    let telemetry = Telemetry {
        boot: BootId::new("b1").unwrap(),
        sequence: 1,
        from: NOW,
        to: NOW,
        health: DeviceHealth::default(),
        delivery: Delivery::default(),
        versions: releases.iter().cloned().map(VersionFigures::new).collect(),
        challengers: Default::default(),
        drift_alarms: Vec::new(),
    };
    let row = TelemetryRow { device: device_id(), telemetry };
    store.insert_telemetry(&[row], NOW, NOW).await.unwrap();
    assert_eq!(store.figures_of(&device_id()).await.unwrap().len(), 3);
    let newest: Vec<_> = store.figures_of_releases(2).await.unwrap().into_iter().map(|f| f.release).collect();
    assert_eq!(newest, [releases[2].clone(), releases[1].clone()]);
    assert_eq!(store.devices_by_status().await.unwrap().offline, 1);
    let mut tx = store.begin().await.unwrap();
    Store::revoke_device(&mut tx, &device_id()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        store.devices_by_status().await.unwrap(),
        DevicesByStatus { revoked: 1, ..Default::default() }
    );
    assert!(add_device(&store).await);
    assert_eq!(store.figures_of(&device_id()).await.unwrap(), []);
    assert_eq!(store.figures_of_releases(9).await.unwrap().len(), 3);
}

async fn a_changed_audit_entry_is_found(scene: &Scene) {
    let store = scene.open().await;
    for number in 0..3 {
        let mut tx = store.begin().await.unwrap();
        Store::audit(&mut tx, NOW, "ann", "model.publish", &format!("digits@{number}"), "").await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(store.verify_audit().await.unwrap(), 3);
    sqlx::query("UPDATE audit SET actor = 'bob' WHERE sequence = 2").execute(&store.writer).await.unwrap();
    assert!(matches!(store.verify_audit().await, Err(AuditError::Broken(2))));
}

async fn events_are_numbered_in_order_and_read_by_subject(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    for subject in ["r1", "r2", "r1"] {
        Store::insert_event(&mut tx, NOW, "rollout", subject, &"moved").await.unwrap();
    }
    tx.commit().await.unwrap();
    let events = store.events_after("r1", 1).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [3]);
}

async fn a_revoked_or_expired_token_is_not_valid(scene: &Scene) {
    let store = scene.open().await;
    let new = NewToken {
        name: "ci".into(),
        prefix: "muster_api_abcd".into(),
        hash: "h".into(),
        role: Role::Publisher,
        expires_at: Some(NOW + HOUR),
    };
    let mut tx = store.begin().await.unwrap();
    let id = Store::insert_token(&mut tx, &new, NOW).await.unwrap();
    tx.commit().await.unwrap();
    let token = store.token_by_hash("h").await.unwrap().unwrap();
    assert!(token.is_valid(NOW) && !token.is_valid(NOW + HOUR));
    let mut tx = store.begin().await.unwrap();
    assert!(Store::revoke_token(&mut tx, &id).await.unwrap());
    tx.commit().await.unwrap();
    assert!(!store.token_by_hash("h").await.unwrap().unwrap().is_valid(NOW));
}

async fn renew(store: &Store, serial: &str) -> bool {
    let mut tx = store.begin().await.unwrap();
    let renewed = Store::renew_certificate(&mut tx, &device_id(), serial).await.unwrap();
    tx.commit().await.unwrap();
    renewed
}

async fn serials(store: &Store) -> (String, Option<String>) {
    let device = store.device(&device_id()).await.unwrap().unwrap();
    (device.certificate_serial, device.previous_serial)
}

async fn the_certificate_in_use_is_dropped_only_when_the_newest_was_used(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    for lost in ["40bb", "40cc"] {
        assert!(renew(&store, lost).await);
        assert_eq!(serials(&store).await, (lost.into(), Some("40aa".into())));
    }
    store.drop_previous_certificate(&device_id(), "40bb").await.unwrap();
    assert_eq!(serials(&store).await, ("40cc".into(), Some("40aa".into())), "40bb is not the newest");
    store.drop_previous_certificate(&device_id(), "40cc").await.unwrap();
    assert_eq!(serials(&store).await, ("40cc".into(), None));

    let mut tx = store.begin().await.unwrap();
    Store::revoke_device(&mut tx, &device_id()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!renew(&store, "40dd").await, "a device that is locked out gets nothing");
}

async fn newer_limits_have_a_higher_revision_and_a_device_that_lacks_them_is_told_again(scene: &Scene) {
    let store = scene.open().await;
    add_device(&store).await;
    store.set_connected(&device_id(), true, NOW).await.unwrap();
    assert!(store.lagging_devices().await.unwrap().is_empty());
    let mut revisions = Vec::new();
    for _ in 0..2 {
        let limits = Limits { telemetry_bytes_per_day: Some(9), ..Limits::default() };
        let mut tx = store.begin().await.unwrap();
        revisions
            .push(Store::set_limits(&mut tx, &device_id(), limits, NOW).await.unwrap().unwrap().revision);
        tx.commit().await.unwrap();
    }
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    assert_eq!(store.lagging_devices().await.unwrap(), [device_id()]);
    let hello = Hello {
        boot: BootId::new("b1").unwrap(),
        at: NOW,
        generation: Generation(0),
        inventory: Inventory::default(),
        models: Vec::new(),
        limits_revision: revisions[1],
        challengers_revision: 0,
    };
    store.save_hello(&device_id(), &hello, NOW).await.unwrap();
    assert!(store.lagging_devices().await.unwrap().is_empty());
}
