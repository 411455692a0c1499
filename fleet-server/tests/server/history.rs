//! What was: which version answered at a moment, and what happened in a rollout, over real MQTT connections.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use crate::server_world::{
    World,
    device::{Device, now},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::report::{DeploymentEvent, TrialFigures};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(30);

async fn roll_out(world: &World, device: &mut Device) -> String {
    let body = json!({"release": "digits@1", "selector": "all"});
    let (status, view) = world.post("/api/v1/rollouts", body).await;
    assert_eq!(status, StatusCode::CREATED, "{view}");
    let asked = device.until_generation(1).await.generation;
    let figures = TrialFigures { cases: 8, latency_p50_us: 183, ..TrialFigures::default() };
    device.tell(asked, DeploymentEvent::SelfTested(figures)).await;
    device.tell(asked, DeploymentEvent::Probation).await;
    device.tell(asked, DeploymentEvent::Committed { inferences: 50, failures: 1 }).await;
    view["status"]["id"].as_str().unwrap().to_owned()
}

/// Waits by the server's own long poll.
async fn until_finished(world: &World, id: &str) -> Value {
    let (deadline, mut after) = (Instant::now() + DEADLINE, 0);
    loop {
        let view = world.get(&format!("/api/v1/rollouts/{id}?after={after}&wait_ms=2000")).await;
        if view["finished"] == true {
            return view;
        }
        assert!(Instant::now() < deadline, "{view}");
        after = view["revision"].as_u64().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answered_at_a_moment_is_told_with_its_evidence_and_the_people_behind_it() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let before = now();
    let id = roll_out(&world, &mut device).await;
    until_finished(&world, &id).await;

    let view = world.json(&["device", "at", "cam-7", "now", "--model", "digits"]).await;
    let answer = &view["answers"][0];
    assert_eq!(
        (&answer["release"], &answer["standing"]),
        (&json!("digits@1"), &json!("committed")),
        "{view}"
    );
    let kinds = answer["evidence"].as_array().unwrap().iter();
    let kinds: Vec<_> = kinds.map(|report| report["report"]["event"]["kind"].clone()).collect();
    assert_eq!(kinds, ["self_tested", "probation", "committed"]);
    assert_eq!(answer["evidence"][2]["report"]["event"]["failures"], 1);
    let rollout = &answer["rollout"];
    assert_eq!((&rollout["id"], &rollout["started_by"]), (&json!(id), &json!("admin")), "{view}");
    assert_eq!(rollout["approved_by"], json!([]));
    let text = world.said(&["device", "at", "cam-7", "now"]).await;
    assert!(text.contains("digits@1  answered (committed), since "), "{text}");
    assert!(text.contains("the device reported digits@1: committed after 50 inferences, 1 failed"), "{text}");
    assert!(text.contains(&format!("brought by rollout {id}, started by admin at ")), "{text}");

    let path = format!("/api/v1/devices/cam-7/at?time={}", before.as_millis());
    let view = world.get(&path).await;
    assert_eq!(
        (&view["answers"][0]["model"], &view["answers"][0]["release"]),
        (&json!("digits"), &Value::Null)
    );
    let text = world.said(&["device", "at", "cam-7", "2h", "ago", "--model", "faces"]).await;
    assert!(text.contains("faces  no version answered"), "{text}");
    assert_eq!(world.run(&["device", "at", "cam-7", "yesterday"]).await.0, 2);
    assert_eq!(world.run(&["device", "at", "ghost", "now"]).await.0, 7);
    let (code, _, err) = world.run(&["device", "at", "cam-7", "in", "2h"]).await;
    assert!(code == 1 && err.contains("has not come yet"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_taken_away_answers_no_longer_although_no_report_tells_it() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let id = roll_out(&world, &mut device).await;
    // Before the order, which takes longer than a millisecond: afterwards both moments may be one.
    let answered = now();
    let (status, view) =
        world.post(&format!("/api/v1/rollouts/{id}/orders"), json!({"order": "rollback"})).await;
    assert_eq!(status, StatusCode::OK, "{view}");
    let back = device.until_generation(2).await;
    assert_eq!(back.assignments, []);
    device.hello_with(back.generation, vec![]).await;
    until_finished(&world, &id).await;
    let view = world.json(&["device", "at", "cam-7", "now"]).await;
    assert_eq!(view["answers"][0]["release"], Value::Null, "{view}");
    assert!(view["answers"][0]["since"].is_u64(), "{view}");
    let view = world.get(&format!("/api/v1/devices/cam-7/at?time={}", answered.as_millis())).await;
    assert_eq!(view["answers"][0]["release"], "digits@1", "{view}");
    assert!(view["answers"][0]["until"].is_u64(), "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_rollout_is_told_and_events_are_followed_as_they_come() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    assert_eq!(world.json(&["events"]).await, json!([]));
    let mut follow = Command::new(env!("CARGO_BIN_EXE_muster"));
    follow.env("MUSTER_CONTEXT", world.context()).args(["events", "-f"]).kill_on_drop(true);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();

    let id = roll_out(&world, &mut device).await;
    let mut followed = String::new();
    while !followed.contains("completed: 1 of 1 devices committed") {
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("in time").unwrap();
        followed.push_str(&line.expect("it goes on following"));
        followed.push('\n');
    }
    assert!(followed.contains(&id) && followed.contains("wave 1 started: 1 devices"), "{followed}");
    let history = world.said(&["rollout", "history", &id]).await;
    let at = |text: &str| history.find(text).unwrap_or_else(|| panic!("no '{text}' in {history}"));
    assert!(at("wave 1 started") < at("cam-7 committed after 50 inferences, 1 failed"));
    assert!(at("cam-7 committed") < at("completed: 1 of 1"));
    let events = world.json(&["rollout", "history", &id]).await;
    assert_eq!(events.as_array().unwrap().len(), history.lines().count() - 1);
    assert_eq!(world.json(&["events"]).await, events);
    assert_eq!(world.run(&["rollout", "history", "none"]).await.0, 7);
}
