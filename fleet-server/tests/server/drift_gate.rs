//! Drift alarms in the events, and what rollouts of their releases make of them.

use std::time::{Duration, Instant};

use crate::server_world::{World, device::Device};
use muster::store::Store;
use serde_json::{Value, json};
use shared::{Timestamp, report::DeploymentEvent};

/// Far beyond anything that should happen.
const DEADLINE: Duration = Duration::from_secs(60);
const COMMITTED: DeploymentEvent = DeploymentEvent::Committed { inferences: 50, failures: 0 };

/// The alarm as the check writes it, with the kinds of figures that it has.
fn alarm(id: u64, release: &str, scope: &Value, devices: usize, at: Timestamp) -> Value {
    json!({
        "event": "drift.detected",
        "alarm": {
            "id": id, "release": release, "opened_at": at, "last_at": at, "times": 1, "state": {"state": "open"},
            "found": {
                "feature": "brightness", "scope": scope, "raised_by": "server", "evidence": null,
                "cause": {"kind": "drift", "others": 0, "finding": {
                    "feature": "brightness", "scope": scope, "devices": devices, "devices_alarmed": 1,
                    "alarm": {
                        "direction": {"score": "location", "sign": "up"}, "evidence": 3e6, "threshold": 1e6,
                        "at_secs": at.as_millis() / 1_000, "since_secs": 0, "checks": 3, "samples": 4_000, "shift": 0.4
                    },
                    "contrast": null
                }}
            }
        }
    })
}

/// Writes an event as the check does, and tells nobody.
async fn write(world: &World, document: &Value) {
    let app = world.server().app();
    let mut tx = app.store.begin().await.unwrap();
    Store::insert_event(&mut tx, app.clock.now(), "drift", "digits", document).await.unwrap();
    tx.commit().await.unwrap();
}

async fn raise(world: &World, id: u64, release: &str, scope: Value, devices: usize) {
    let now = world.server().app().clock.now();
    write(world, &alarm(id, release, &scope, devices, now)).await;
    world.server().app().rollouts.hear_alarms();
}

/// A rollout whose only device keeps the release and is watched for an hour.
async fn watched(world: &World, strategy: Value) -> (String, Device) {
    world.publish("digits", 1).await;
    let mut device = Device::join(world, "cam-7").await;
    device.hello().await;
    let mut strategy = strategy;
    strategy["waves"] = json!([{"share": "all", "bake_time_secs": 3_600}]);
    let body = json!({"release": "digits@1", "selector": "all", "strategy": strategy});
    let (_, view) = world.post("/api/v1/rollouts", body).await;
    let id = view["status"]["id"].as_str().unwrap().to_owned();
    let generation = device.until_generation(1).await.generation;
    device.tell(generation, COMMITTED).await;
    world.until_rollout(&id, |view| view["status"]["waves"][0]["state"]["kind"] == "baking").await;
    (id, device)
}

fn is(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |view| view["status"]["state"]["kind"] == kind
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_takes_the_release_back_and_every_view_of_the_rollout_says_why() {
    let world = World::start().await;
    let (id, mut device) = watched(&world, json!({})).await;
    raise(&world, 7, "digits@1", json!("model"), 1).await;
    let view = world.until_rollout(&id, |view| view["status"]["counts"]["restored"] == 1).await;
    let why = "wave 1: brightness drifts on devices with this release and not the others: larger by 0.40";
    assert!(view["status"]["reason"].as_str().unwrap().starts_with(why), "{view}");
    assert_eq!(view["status"]["waves"][0]["drift"]["number"], 7);
    device.until_generation(2).await;
    let explained = world.muster(&format!("rollout explain {id}")).await;
    assert!(explained.contains(why), "{explained}");
    let told = world.get(&format!("/api/v1/rollouts/{id}/events")).await;
    assert!(told.to_string().contains("wave_drifted"), "{told}");
    let audit = world.get("/api/v1/audit").await.to_string();
    assert!(audit.contains("rollout.drift") && audit.contains("rollout.roll_back"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_of_a_server_that_died_before_it_told_anybody_reaches_the_rollout_once() {
    let mut world = World::start().await;
    let (id, _device) = watched(&world, json!({"drift": {"on_alarm": "hold"}})).await;
    let now = world.server().app().clock.now();
    write(&world, &json!({"event": "drift.detected", "alarm": "of a newer program"})).await;
    write(&world, &alarm(3, "digits@1", &json!("model"), 1, now)).await;
    world.restart().await;
    let held = world.until_rollout(&id, |view| view["status"]["waves"][0]["state"]["kind"] == "held").await;
    assert!(held["status"]["reason"].as_str().unwrap().starts_with("held: brightness drifts"), "{held}");
    world.restart().await;
    world.server().app().rollouts.hear_alarms();
    raise(&world, 4, "digits@1", json!("model"), 1).await;
    let path = format!("/api/v1/rollouts/{id}/events");
    let deadline = Instant::now() + DEADLINE;
    let mut told = world.get(&path).await;
    while !told.to_string().contains(r#""number":4"#) {
        assert!(Instant::now() < deadline, "{told}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = world.get(&path).await;
    }
    let numbers: Vec<_> =
        told.as_array().unwrap().iter().map(|event| &event["document"]["alarm"]["number"]).collect();
    let told_of = |wanted: u64| numbers.iter().filter(|number| **number == &json!(wanted)).count();
    assert_eq!((told_of(3), told_of(4)), (1, 1), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_of_one_device_of_broken_data_of_the_world_and_of_other_releases_stop_nothing() {
    let world = World::start().await;
    let (id, _device) = watched(&world, json!({})).await;
    raise(&world, 1, "digits@9", json!("model"), 40).await;
    raise(&world, 2, "digits@1", json!({"sensor": {"device": "cam-7"}}), 1).await;
    let now = world.server().app().clock.now();
    let mut broken = alarm(3, "digits@1", &json!("world"), 1, now);
    broken["alarm"]["found"]["cause"] =
        json!({"kind": "quality", "devices": 1, "finding": {"kind": "missing"}});
    write(&world, &broken).await;
    let mut worlds = alarm(5, "digits@1", &json!("world"), 1, now);
    worlds["alarm"]["found"]["cause"]["others"] = json!(40);
    write(&world, &worlds).await;
    // An alarm that counts, and after which nothing else is to come.
    raise(&world, 6, "digits@1", json!("model"), 1).await;
    let view = world.until_rollout(&id, |view| view["status"]["counts"]["restored"] == 1).await;
    assert_eq!(view["status"]["waves"][0]["drift"]["number"], 6, "{view}");
    let told = world.get(&format!("/api/v1/rollouts/{id}/events")).await;
    assert_eq!(told.to_string().matches("wave_drifted").count(), 1, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_of_everybody_with_the_release_stops_it_when_nobody_else_is_watched() {
    let world = World::start().await;
    let (id, _device) = watched(&world, json!({"on_halt": "halt"})).await;
    raise(&world, 1, "digits@1", json!("world"), 1).await;
    // A halted rollout is finished, which ends the long poll.
    let mut view = world.get(&format!("/api/v1/rollouts/{id}")).await;
    if !is("halted")(&view) {
        view = world.until_rollout(&id, is("halted")).await;
    }
    assert!(
        view["status"]["reason"].as_str().unwrap().contains("brightness drifts on all devices: larger"),
        "{view}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_does_not_hear_of_what_was_found_before_it_began() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    // Nobody was told of this one.
    let now = world.server().app().clock.now();
    write(&world, &alarm(1, "digits@1", &json!("model"), 1, now)).await;
    let strategy = json!({"waves": [{"share": "all", "bake_time_secs": 3_600}]});
    let body = json!({"release": "digits@1", "selector": "all", "strategy": strategy});
    let (_, view) = world.post("/api/v1/rollouts", body).await;
    let id = view["status"]["id"].as_str().unwrap().to_owned();
    raise(&world, 2, "digits@1", json!("model"), 1).await;
    let view = world.until_rollout(&id, |view| view["status"]["waves"][0]["drift"].is_object()).await;
    assert_eq!(view["status"]["waves"][0]["drift"]["number"], 2, "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_hears_of_an_alarm_from_before_it_began_when_that_is_found_again() {
    let world = World::start().await;
    let now = world.server().app().clock.now();
    let before = alarm(1, "digits@1", &json!("model"), 1, now);
    write(&world, &before).await;
    let (id, _device) = watched(&world, json!({})).await;
    let mut again = before;
    again["event"] = json!("drift.repeated");
    write(&world, &again).await;
    world.server().app().rollouts.hear_alarms();
    let view = world.until_rollout(&id, |view| view["status"]["counts"]["restored"] == 1).await;
    assert_eq!(view["status"]["waves"][0]["drift"]["number"], 1, "{view}");
}
