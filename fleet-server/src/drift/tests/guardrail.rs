use fleet_core::drift::RaisedBy;
use muster_sketch::detector::{Alarm, Direction, ScoreName, Sign};
use shared::telemetry::DriftAlarm;

use super::*;
use crate::drift::told_by_device;

fn alarm(at_secs: u64) -> DriftAlarm {
    let alarm = Alarm {
        direction: Direction { score: ScoreName::Location, sign: Sign::Up },
        evidence: 2e6,
        threshold: 1e6,
        at_secs,
        since_secs: at_secs - 600,
        checks: 2,
        samples: 400,
        shift: 1.5,
    };
    DriftAlarm { release: "digits@1".parse().unwrap(), feature: "level".into(), alarm }
}

#[tokio::test]
async fn what_a_device_finds_by_itself_is_one_alarm_however_often_it_is_told() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 4).await;
    plant.bring(&[0], 40, SOUND).await;
    let device = DeviceId::new("a-0").unwrap();
    let tell = |at_secs| told_by_device(plant.app(), &device, vec![alarm(at_secs)]);
    for _ in 0..3 {
        tell(1_800_000_000).await.unwrap();
    }
    let told = plant.alarms().await;
    assert_eq!((told.len(), told[0].times, told[0].found.raised_by), (1, 1, RaisedBy::Device));
    assert!(told[0].found.to_string().ends_with("as the device says"), "{}", told[0].found);
    assert_eq!(plant.events().await.len(), 1);

    tell(1_800_090_000).await.unwrap();
    assert_eq!(plant.alarms().await[0].times, 2, "the same once more is the same alarm");

    let mut closed = plant.alarms().await.remove(0);
    assert!(closed.close("ann", "lens cleaned", plant.app().clock.now()));
    let mut tx = plant.app().store.begin().await.unwrap();
    Store::save_alarm(&mut tx, &closed).await.unwrap();
    tx.commit().await.unwrap();
    tell(1_800_090_000).await.unwrap();
    assert_eq!(plant.alarms().await.len(), 1, "a device that tells it again opens nothing");
    tell(1_800_190_000).await.unwrap();
    assert_eq!(plant.alarms().await.len(), 2, "what it finds later is another alarm");
}

#[tokio::test]
async fn what_the_server_finds_of_the_same_sensor_is_the_same_alarm() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 4).await;
    plant.learn(&[0]).await;
    let device = DeviceId::new("a-0").unwrap();
    told_by_device(plant.app(), &device, vec![alarm(1_800_000_000)]).await.unwrap();
    for _ in 0..2 {
        plant.bring(&[0], 300, &|device, value| if device == "a-0" { value + 3.0 } else { value }).await;
        plant.check().await;
    }
    let drifts = plant.drifts().await;
    assert_eq!((drifts.len(), drifts[0].times), (1, 2));
    assert!(drifts[0].found.evidence.is_some(), "the server knows what was counted");
}

/// So many alarms of one device, each of another feature.
fn made_up(count: usize) -> Vec<DriftAlarm> {
    (0..count).map(|n| DriftAlarm { feature: format!("f-{n}"), ..alarm(1_800_000_000) }).collect()
}

#[tokio::test]
async fn a_device_that_makes_alarms_up_takes_no_room_from_others() {
    let scene = Scene::sqlite().await;
    let mut plant = Plant::start(&scene, 4).await;
    plant.bring(&[0], 40, SOUND).await;
    let [hostile, honest] = ["a-0", "b-1"].map(|name| DeviceId::new(name).unwrap());
    for _ in 0..3 {
        told_by_device(plant.app(), &hostile, made_up(40)).await.unwrap();
    }
    assert_eq!(plant.alarms().await.len(), 16);
    told_by_device(plant.app(), &honest, made_up(1)).await.unwrap();
    assert_eq!(plant.alarms().await.len(), 17);
}

#[tokio::test]
async fn an_alarm_that_comes_before_the_first_window_of_its_release_is_raised() {
    let scene = Scene::sqlite().await;
    let plant = Plant::start(&scene, 4).await;
    told_by_device(plant.app(), &DeviceId::new("a-0").unwrap(), vec![alarm(1_800_000_000)]).await.unwrap();
    let alarms = plant.alarms().await;
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].found.raised_by, RaisedBy::Device);
}
