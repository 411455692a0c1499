//! A release of which something cannot be read is left aside, and nothing of it is lost.

use fleet_core::drift::{Cause, FeatureStatus, Order, Whom};
use muster_sketch::detector::Scope;

use super::*;

/// How the feature stands under each version, the first one first.
async fn levels(plant: &Plant) -> Vec<FeatureStatus> {
    let statuses = plant.app().store.drift_statuses(&plant.versions[0].0.model).await.unwrap();
    statuses
        .into_iter()
        .rev()
        .filter(|(_, feature, _)| feature == "level")
        .map(|(.., status)| status)
        .collect()
}

/// Writes what a device counted in the open period, and returns what was there.
pub(super) async fn write(plant: &Plant, device: &str, sums: &str) -> String {
    use sqlx::Row as _;
    let mut tx = plant.app().store.begin().await.unwrap();
    let select = "SELECT sums FROM drift_pending WHERE device = $1 ORDER BY period";
    let before = sqlx::query(select).bind(device).fetch_one(&mut *tx).await.unwrap().get("sums");
    sqlx::query("UPDATE drift_pending SET sums = $1 WHERE device = $2")
        .bind(sums)
        .bind(device)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    before
}

async fn what_cannot_be_read_of_one_release_keeps_no_other_waiting_and_is_counted_when_it_can(scene: &Scene) {
    let mut plant = Plant::start(scene, 12).await;
    plant.add_version(&["c", "d"]).await;
    plant.learn(&[0, 1]).await;
    plant.bring(&[0, 1], 300, SOUND).await;
    let sums = write(&plant, "a-0", "nothing that was ever packed").await;
    let order = Order::Relearn { feature: None, whom: Whom::Device("b-5".into()) };
    let mut tx = plant.app().store.begin().await.unwrap();
    assert!(Store::order_drift(&mut tx, &plant.versions[0].0, &order).await.unwrap());
    tx.commit().await.unwrap();
    plant.check().await;
    let of = |levels: &[FeatureStatus]| levels.iter().map(|of| of.samples).collect::<Vec<_>>();
    assert_eq!(of(&levels(&plant).await), [12 * BASELINE as u64, 12 * 300]);
    assert_eq!(levels(&plant).await[0].learning, 0, "the order waits as well");

    write(&plant, "a-0", &sums).await;
    plant.bring(&[0, 1], 200, SOUND).await;
    plant.check().await;
    assert_eq!(of(&levels(&plant).await), [12 * 500, 12 * 200]);
    assert_eq!(levels(&plant).await[0].learning, 1);
    plant.bring(&[0, 1], 100, SOUND).await;
    plant.check().await;
    assert_eq!(of(&levels(&plant).await), [12 * 100, 12 * 100], "everything once");
}

#[tokio::test]
async fn sqlite_what_cannot_be_read_of_one_release_keeps_no_other_waiting() {
    let scene = Scene::sqlite().await;
    what_cannot_be_read_of_one_release_keeps_no_other_waiting_and_is_counted_when_it_can(&scene).await;
}

#[tokio::test]
async fn postgres_what_cannot_be_read_of_one_release_keeps_no_other_waiting() {
    let scene = Scene::postgres().await;
    what_cannot_be_read_of_one_release_keeps_no_other_waiting_and_is_counted_when_it_can(&scene).await;
}

#[tokio::test]
async fn what_nobody_sees_to_for_a_day_of_checks_is_given_up() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 13).await;
    plant.bring(&[0], 40, SOUND).await;
    write(&plant, "a-0", "nothing that was ever packed").await;
    for _ in 0..24 {
        plant.check().await;
        assert!(levels(&plant).await.is_empty());
    }
    plant.bring(&[0], 30, SOUND).await;
    plant.check().await;
    plant.check().await;
    let level = levels(&plant).await.remove(0);
    assert_eq!((level.devices, level.samples), (12, 12 * 30));
}

/// Writes what stands of the only alarm there is, and returns what stood there.
async fn write_alarm(plant: &Plant, document: &str) -> String {
    use sqlx::Row as _;
    let mut tx = plant.app().store.begin().await.unwrap();
    let select = sqlx::query("SELECT document FROM drift_alarms");
    let before = select.fetch_one(&mut *tx).await.unwrap().get("document");
    let update = sqlx::query("UPDATE drift_alarms SET document = $1").bind(document);
    update.execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    before
}

#[tokio::test]
async fn an_alarm_that_cannot_be_read_keeps_only_its_own_feature_and_release_waiting() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 16).await;
    plant.add_version(&["c", "d"]).await;
    plant.learn(&[0, 1]).await;
    plant.bring(&[0, 1], 300, &|device, value| if device == "a-1" { value + 3.0 } else { value }).await;
    plant.check().await;
    let alarm = write_alarm(&plant, "nothing that was ever an alarm").await;
    plant.bring(&[0, 1], 200, SOUND).await;
    plant.check().await;
    let of = |levels: &[FeatureStatus]| levels.iter().map(|of| of.samples).collect::<Vec<_>>();
    assert_eq!(of(&levels(&plant).await), [12 * 300, 12 * 200]);

    write_alarm(&plant, &alarm).await;
    plant.bring(&[0, 1], 150, SOUND).await;
    plant.check().await;
    assert_eq!(of(&levels(&plant).await), [12 * 350, 12 * 150]);
    let statuses = plant.app().store.drift_statuses(&plant.versions[0].0.model).await.unwrap();
    let heats = statuses.into_iter().filter(|(_, feature, _)| feature == "heat");
    assert!(heats.map(|(.., of)| of.samples).eq([12 * 150; 2]), "what was checked in time counts once");
}

/// With how many devices of other versions the drift of the second version is said to have been compared, and whether some could not be
/// counted, where all devices move and a row of the first version may be damaged.
async fn others_of_a_drift_of_the_world(spoil: Option<&str>) -> (usize, bool) {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 17).await;
    plant.add_version(&["c", "d"]).await;
    plant.learn(&[0, 1]).await;
    for _ in 0..6 {
        plant.bring(&[0, 1], 300, &|_, value| value + 0.8).await;
        if let Some(sums) = spoil {
            write(&plant, "a-0", sums).await;
        }
        plant.check().await;
        let of_second = plant.drifts().await.into_iter().find(|alarm| alarm.release == plant.versions[1].0);
        if let Some(alarm) = of_second {
            assert_eq!(alarm.found.scope, Scope::World);
            let Cause::Drift { others, uncounted, .. } = alarm.found.cause else { panic!("{alarm:?}") };
            return (others, uncounted);
        }
    }
    panic!("no drift");
}

#[tokio::test]
async fn a_damaged_row_of_one_release_is_no_evidence_against_another() {
    assert_eq!(others_of_a_drift_of_the_world(None).await, (12, false));
    let unknown = others_of_a_drift_of_the_world(Some("nothing that was ever packed")).await;
    assert_eq!(unknown, (0, true));
}
