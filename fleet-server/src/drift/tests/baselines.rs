use fleet_core::drift::{FeatureStatus, Whom};

use super::*;
use crate::drift::{RelearnOrder, relearn};

async fn order(plant: &Plant, feature: Option<&str>, whom: Whom) {
    let order =
        RelearnOrder { release: plant.versions[0].0.clone(), feature: feature.map(str::to_owned), whom };
    let mut tx = plant.app().store.begin().await.unwrap();
    relearn(plant.app(), &mut tx, order, plant.now).await.unwrap().unwrap();
    tx.commit().await.unwrap();
}

async fn status(plant: &Plant, feature: &str) -> FeatureStatus {
    let statuses = plant.app().store.drift_statuses(&plant.versions[0].0.model).await.unwrap();
    statuses.into_iter().find(|(_, name, _)| name == feature).unwrap().2
}

async fn a_feature_that_is_learnt_anew_takes_nothing_from_the_others(scene: &Scene) {
    let mut plant = Plant::start(scene, 14).await;
    plant.learn(&[0]).await;
    plant.bring(&[0], 300, SOUND).await;
    order(&plant, Some("level"), Whom::Everyone).await;
    order(&plant, Some("level"), Whom::Device("a-0".into())).await;
    // Counted before the order, and late.
    let (release, spec, devices) = plant.versions[0].clone();
    let ended = Timestamp(plant.now.as_millis() - 600_000);
    let window = window(&spec, &mut plant.random, (&devices[0], ended, 50), 40, SOUND);
    let late =
        SketchRow { device: devices[0].clone(), boot: BootId::new("boot-1").unwrap(), release, window };
    let drift = &plant.app().drift;
    plant.app().store.insert_windows(&[late], &drift.keep, &drift.strata, plant.now).await.unwrap();
    plant.bring(&[0], 200, SOUND).await;
    plant.check().await;
    let (level, heat) = (status(&plant, "level").await, status(&plant, "heat").await);
    assert_eq!((level.learning, level.watching, level.samples), (12, 0, 12 * 200));
    assert_eq!((heat.learning, heat.watching, heat.samples), (0, 12, 12 * 500 + 40));

    order(&plant, None, Whom::Device("a-0".into())).await;
    plant.bring(&[0], 200, SOUND).await;
    plant.check().await;
    let heat = status(&plant, "heat").await;
    assert_eq!((heat.learning, heat.watching), (1, 11));
}

#[tokio::test]
async fn sqlite_a_feature_that_is_learnt_anew_takes_nothing_from_the_others() {
    a_feature_that_is_learnt_anew_takes_nothing_from_the_others(&Scene::sqlite().await).await;
}

#[tokio::test]
async fn postgres_a_feature_that_is_learnt_anew_takes_nothing_from_the_others() {
    a_feature_that_is_learnt_anew_takes_nothing_from_the_others(&Scene::postgres().await).await;
}

#[tokio::test]
async fn what_waited_since_before_an_order_is_no_part_of_the_new_baseline() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 18).await;
    plant.learn(&[0]).await;
    plant.bring(&[0], 300, SOUND).await;
    let period = plant.close().await;
    // The check of this period is under way: what it holds is of the baseline before.
    order(&plant, Some("level"), Whom::Everyone).await;
    let sums = aside::write(&plant, "a-0", "nothing that was ever packed").await;
    plant.check_period(period).await;
    aside::write(&plant, "a-0", &sums).await;
    plant.bring(&[0], 200, SOUND).await;
    plant.check().await;
    let (level, heat) = (status(&plant, "level").await, status(&plant, "heat").await);
    assert_eq!((level.learning, level.samples), (12, 12 * 200));
    assert_eq!((heat.learning, heat.samples), (0, 12 * 500));
}

#[tokio::test]
async fn a_device_whose_clock_is_years_behind_learns_anew_after_a_day() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 15).await;
    plant.learn(&[0]).await;
    order(&plant, None, Whom::Everyone).await;
    let (release, spec, devices) = plant.versions[0].clone();
    let mut sequence = 60;
    for (hours, learning) in [(1, 0), (25, 1)] {
        plant.now = plant.now + Duration::from_secs(3_600 * hours);
        sequence += 1;
        let ended = Timestamp(plant.now.as_millis() - 10 * 365 * 86_400_000);
        let window = window(&spec, &mut plant.random, (&devices[0], ended, sequence), 40, SOUND);
        let boot = BootId::new("boot-1").unwrap();
        let row = SketchRow { device: devices[0].clone(), boot, release: release.clone(), window };
        let drift = &plant.app().drift;
        plant.app().store.insert_windows(&[row], &drift.keep, &drift.strata, plant.now).await.unwrap();
        plant.check().await;
        assert_eq!(status(&plant, "heat").await.learning, learning, "after {hours} hours");
    }
}
