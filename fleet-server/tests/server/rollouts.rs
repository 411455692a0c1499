//! Rollouts as people order them: approval, the emergency stop, files, and devices that come later.

use crate::server_world::{
    World,
    device::{Device, now},
};
use muster::{auth::Role, config::Config, store::Store};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::report::DeploymentEvent;

const COMMITTED: DeploymentEvent = DeploymentEvent::Committed { inferences: 50, failures: 0 };

async fn start(world: &World, strategy: Value) -> Value {
    let body = json!({"release": "digits@1", "selector": "all", "strategy": strategy});
    let (status, view) = world.post("/api/v1/rollouts", body).await;
    assert_eq!(status, StatusCode::CREATED, "{view}");
    view["status"].clone()
}

fn id(status: &Value) -> &str {
    status["id"].as_str().unwrap()
}

fn is(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |view| view["status"]["state"]["kind"] == kind
}

#[tokio::test(flavor = "multi_thread")]
async fn guarded_devices_are_asked_only_after_somebody_other_than_the_author_agreed() {
    fn guard(config: &mut Config) {
        config.rollouts.approval = vec!["site=berlin".parse().unwrap()];
    }
    let world = World::start_with(guard).await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let status = start(&world, json!({})).await;
    assert_eq!(status["state"]["kind"], "awaiting_approval", "{status}");
    let path = format!("/api/v1/rollouts/{}/approve", id(&status));
    let (refused, problem) = world.post(&path, json!({"wave": 0})).await;
    assert_eq!((refused, &problem["code"]), (StatusCode::CONFLICT, &json!("author_approves")), "{problem}");
    let operator = world.token(Role::Operator).await;
    assert_eq!(world.post_as(&operator, &path, json!({"wave": 0})).await.0, StatusCode::FORBIDDEN);

    let approver = world.token(Role::Approver).await;
    let (approved, view) = world.post_as(&approver, &path, json!({"wave": 0})).await;
    assert_eq!(approved, StatusCode::OK, "{view}");
    assert_eq!(view["status"]["waves"][0]["approved_by"], "approver");
    let desired = device.until_generation(1).await;
    device.tell(desired.generation, COMMITTED).await;
    world.until_rollout(id(&status), is("completed")).await;
    let audit = world.get("/api/v1/audit").await;
    assert!(audit.to_string().contains("rollout.approve"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emergency_stop_halts_everything_at_once_and_leaves_devices_as_they_are() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    world.publish("other", 2).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let first = start(&world, json!({})).await;
    let second = json!({"release": "other@1", "selector": "all"});
    let (_, second) = world.post("/api/v1/rollouts", second).await;
    let generation = device.until_generation(2).await.generation;
    let text = world.muster("stop-everything --reason smoke --yes").await;
    for status in [&first, &second["status"]] {
        assert!(text.contains(id(status)), "{text}");
        let view = world.get(&format!("/api/v1/rollouts/{}", id(status))).await;
        assert_eq!(view["status"]["state"]["kind"], "halted", "{view}");
        assert_eq!(view["status"]["reason"], "stopped by admin: smoke");
    }
    let shown = world.get("/api/v1/devices/cam-7").await;
    assert_eq!(shown["generation"], json!(generation.0), "{shown}");
    assert_eq!(world.muster("stop-everything --reason again --yes").await, "nothing was under way\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_tried_answers_as_if_it_were_done_and_changes_nothing() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    Device::join(&world, "cam-7").await.hello().await;
    let approver = world.token(Role::Approver).await;
    let known = async || {
        let device = world.get("/api/v1/devices/cam-7").await;
        (world.get("/api/v1/audit").await, device["generation"].clone())
    };
    let before = known().await;
    let body = json!({"release": "digits@1", "selector": "all"});
    let (code, tried) = world.post("/api/v1/rollouts?dry_run=true", body).await;
    assert_eq!((code, &tried["status"]["state"]["kind"]), (StatusCode::OK, &json!("running")), "{tried}");
    assert_eq!(tried["status"]["devices"][0]["progress"]["kind"], "asked", "{tried}");
    let said = world.muster("rollout start digits@1 --to all --dry-run").await;
    assert!(said.contains("digits@1 to all: running"), "{said}");
    assert_eq!((world.get("/api/v1/rollouts").await, known().await), (json!([]), before));

    let guarded = json!({"waves": [{"share": "all", "approve": true}]});
    let status = start(&world, guarded).await;
    let path = format!("/api/v1/rollouts/{}", id(&status));
    let before = (world.get(&path).await, known().await);
    let approve = format!("{path}/approve?dry_run=true");
    let (_, tried) = world.post_as(&approver, &approve, json!({"wave": 0})).await;
    assert_eq!(tried["status"]["waves"][0]["approved_by"], "approver", "{tried}");
    let (code, refused) = world.post(&approve, json!({"wave": 0})).await;
    assert_eq!((code, &refused["code"]), (StatusCode::CONFLICT, &json!("author_approves")), "{refused}");
    for (order, state) in [("halt", "halted"), ("rollback", "rolled_back")] {
        let orders = format!("{path}/orders?dry_run=true");
        let (_, tried) = world.post(&orders, json!({"order": order})).await;
        assert_eq!(tried["status"]["state"]["kind"], state, "{tried}");
        assert_eq!(tried["finished"], true, "{tried}");
    }
    let stopped = world.muster("stop-everything --reason smoke --dry-run").await;
    assert_eq!(stopped, format!("would have halted {}\n", id(&status)));
    assert_eq!((world.get(&path).await, known().await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_file_whose_rollout_was_stopped_starts_another_only_when_told_so() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    Device::join(&world, "cam-7").await.hello().await;
    let file = world.folder.path().join("rollout.toml");
    std::fs::write(&file, "release = \"digits@1\"\nselector = \"all\"\n").unwrap();
    let apply = format!("rollout apply -f {}", file.display());
    let first = world.muster(&format!("{apply} -o name")).await;
    world.muster(&format!("rollout halt {} --reason rain", first.trim())).await;
    for line in [apply.clone(), format!("{apply} --dry-run")] {
        let (code, _, err) = world.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert!(code == 3 && err.contains("rain") && err.contains("--again"), "{code}: {err}");
    }
    // Also when another rollout has the devices of the stopped one meanwhile.
    world.muster("rollout start digits@1 --to all --bake 5s").await;
    let (code, ..) = world.run(&apply.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(code, 3);
    let second = world.muster(&format!("{apply} --again -o name")).await;
    assert_ne!(second, first);
    assert_eq!(world.muster(&format!("{apply} -o name")).await, second, "the newest is what counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_file_that_is_applied_twice_starts_one_rollout() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let file = world.folder.path().join("rollout.toml");
    let text = "release = \"digits@1\"\nselector = \"site=berlin\"\n\n[strategy]\nsilent_after_secs = 3600\n\n\
                [[strategy.waves]]\nshare = \"all\"\n";
    std::fs::write(&file, text).unwrap();
    let apply = format!("rollout apply -f {}", file.display());
    let tried = world.muster(&format!("{apply} --dry-run")).await;
    assert!(tried.contains("wave 1: updating, 0 of 1 committed"), "{tried}");
    assert_eq!(world.get("/api/v1/rollouts").await, json!([]));
    let first = world.muster(&format!("{apply} -o name")).await;
    assert_eq!(world.muster(&format!("{apply} -o name")).await, first);
    let generation = device.until_generation(1).await.generation;
    device.tell(generation, COMMITTED).await;
    world.until_rollout(first.trim(), is("completed")).await;
    assert_eq!(
        world.muster(&format!("{apply} -o name")).await,
        first,
        "what is complete is not started again"
    );
    assert_eq!(world.get("/api/v1/rollouts").await.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_metric_that_cannot_be_meant_is_refused_when_it_is_planned() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    Device::join(&world, "cam-7").await.hello().await;
    let strategy = world.folder.path().join("strategy.toml");
    let plan = format!("rollout plan digits@1 --to all --strategy {}", strategy.display());
    let words: Vec<&str> = plan.split(' ').collect();
    let told = async |check: &str| {
        let text = format!("control_percent = 10\n[metrics.checks]\n{check}\n");
        std::fs::write(&strategy, text).unwrap();
        world.run(&words).await
    };
    let (code, _, text) = told("latency = { margin = { relative = 5 } }").await;
    assert!(
        code != 0 && text.contains("metrics.checks.\"latency\"") && text.contains("0.05 is 5 %"),
        "{text}"
    );
    let (code, _, text) = told("speed = {}").await;
    assert!(code == 2 && text.contains("'speed' is no metric; write latency"), "{text}");
    let fine = "\"custom:queue\" = { margin = { absolute = 3 }, worse = \"higher\" }";
    let (code, plan, text) = told(fine).await;
    assert!(code == 0 && plan.contains("wave 1"), "{plan}{text}");

    let body = json!({"release": "digits@1", "selector": "all", "strategy": {"control_percent": 10,
        "metrics": {"checks": {"errors": {"margin": {"absolute": 25}}}}}});
    let (status, problem) = world.post("/api/v1/rollouts/plan", body).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("bad_strategy")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("0.02 is two points"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_enrolled_later_joins_a_continuous_rollout() {
    let mut world = World::start().await;
    world.publish("digits", 1).await;
    let mut first = Device::join(&world, "cam-1").await;
    first.hello().await;
    let status = start(&world, json!({"continuous": true})).await;
    let generation = first.until_generation(1).await.generation;
    first.tell(generation, COMMITTED).await;
    world.until_rollout(id(&status), is("watching")).await;

    world.restart().await;
    let mut late = Device::join(&world, "cam-2").await;
    late.hello().await;
    let desired = late.until_generation(1).await;
    assert_eq!(desired.assignments[0].release, late.release);
    late.tell(desired.generation, COMMITTED).await;
    let both = |view: &Value| view["status"]["counts"]["committed"] == 2;
    let view = world.until_rollout(id(&status), both).await;
    assert_eq!(view["status"]["waves"][1]["kind"], "late", "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_wave_says_why_and_goes_on_when_a_person_promotes_it() {
    let world = World::start().await;
    // A probation would have to be shorter than the silence.
    let policy = Some("[probation]\nduration_secs = 0\n");
    let (code, body) = world.publish_files("digits", "digits-v1.onnx", "digits-v1-golden.npz", policy).await;
    assert!(code.is_success(), "{body}");
    let (mut one, mut other) = (Device::join(&world, "cam-1").await, Device::join(&world, "cam-2").await);
    one.hello().await;
    other.hello().await;
    let waves = json!([{"share": {"selector": "id=cam-1"}}, {"share": "all"}]);
    let status = start(&world, json!({"silent_after_secs": 1, "waves": waves})).await;
    let held = |view: &Value| view["status"]["waves"][0]["state"]["kind"] == "held";
    let view = world.until_rollout(id(&status), held).await;
    assert_eq!(view["status"]["reason"], "held: 1 of 1 devices fell silent, 0 are allowed");
    let text = world.muster(&format!("rollout promote {}", id(&status))).await;
    assert!(text.contains("promoted by admin"), "{text}");
    assert_eq!(other.until_generation(1).await.assignments[0].release, other.release);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_a_rollout_to_a_group_until_it_is_removed() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    world.muster("group create berlin --selector site=berlin").await;
    let until = now().as_millis() + 3_600_000;
    let text = world.muster(&format!("freeze add --until {until} --reason harvest -o json")).await;
    let freeze: Value = serde_json::from_str(&text).unwrap();
    let body = json!({"release": "digits@1", "selector": "group:berlin"});
    let (status, view) = world.post("/api/v1/rollouts", body).await;
    assert_eq!(status, StatusCode::CREATED, "{view}");
    let status = &view["status"];
    assert_eq!((&status["selector"], &status["counts"]["waiting"]), (&json!("site=berlin"), &json!(1)));
    assert_eq!(status["frozen"]["reason"], "harvest", "{view}");
    world.muster(&format!("freeze remove {}", freeze["id"].as_str().unwrap())).await;
    assert_eq!(device.until_generation(1).await.assignments[0].release, device.release);
    let view = world.get(&format!("/api/v1/rollouts/{}", id(status))).await;
    assert_eq!(view["status"]["frozen"], Value::Null, "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_device_is_left_out_and_told_why() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    world.publish("digits", 2).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let status = start(&world, json!({})).await;
    let generation = device.until_generation(1).await.generation;
    device.tell(generation, COMMITTED).await;
    world.until_rollout(id(&status), is("completed")).await;
    world.muster("device pin cam-7 digits").await;
    let (refused, problem) =
        world.post("/api/v1/rollouts", json!({"release": "digits@2", "selector": "all"})).await;
    assert_eq!((refused, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("all_blocked")));
    assert!(problem["detail"].as_str().unwrap().contains("is pinned to version 1"), "{problem}");
    let plan = world.muster("rollout plan digits@2 --to all").await;
    assert!(plan.starts_with("nobody would be asked") && plan.contains("is pinned to version 1"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_the_server_died_on_is_told_to_rollouts_when_it_is_back() {
    let mut world = World::start().await;
    world.publish("digits", 1).await;
    let _devices = world.join(2).await;
    let waves = json!([{"share": {"count": 1}}, {"share": "all"}]);
    let status = start(&world, json!({"waves": waves})).await;
    let waits =
        |view: &Value, place: usize| view["status"]["devices"][place]["progress"]["kind"] == "waiting";
    let view = world.until_rollout(id(&status), |view| waits(view, 0) != waits(view, 1)).await;
    let waiting = usize::from(waits(&view, 1));
    // As the API does it, without what comes after the commit.
    let device = view["status"]["devices"][waiting]["device"].as_str().unwrap().parse().unwrap();
    let mut tx = world.server().app().store.begin().await.unwrap();
    Store::set_quarantined(&mut tx, &device, true).await.unwrap();
    tx.commit().await.unwrap();
    world.restart().await;
    let view = world.until_rollout(id(&status), |view| !waits(view, waiting)).await;
    assert_eq!(view["status"]["devices"][waiting]["progress"]["kind"], "superseded", "{view}");
}
