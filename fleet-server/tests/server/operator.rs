//! What operators lay down around rollouts: groups, freeze periods, pins and quarantine, through the command line.

use crate::server_world::{World, device::Device};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{Generation, ReleaseId, report::ModelState};

async fn enrol(world: &World, names: &[&str]) {
    let token = world.enroll_token(u32::try_from(names.len()).unwrap()).await;
    for name in names {
        world.enroll(&token, Some(name)).await;
    }
}

fn runs(release: &str) -> Vec<ModelState> {
    let release: ReleaseId = release.parse().unwrap();
    let model = release.model.clone();
    vec![ModelState { model, committed: Some(release), candidate: None, step: String::new(), held: vec![] }]
}

async fn audited(world: &World) -> Vec<String> {
    let audit = world.get("/api/v1/audit").await;
    assert_eq!(audit["intact"], true);
    let entries = audit["entries"].as_array().unwrap().clone();
    entries.iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_stands_for_its_selector_until_it_is_deleted() {
    let world = World::start().await;
    enrol(&world, &["cam-1", "cam-2", "cam-3"]).await;
    world.said(&["device", "label", "cam-1", "tier=a"]).await;
    world.said(&["device", "label", "cam-2", "tier=b"]).await;
    let create = ["group", "create", "front", "--selector", "site=berlin, tier in (a,b)"];
    let tried = world.json(&[&create[..], &["--dry-run"]].concat()).await;
    assert_eq!(tried["selector"], "site=berlin,tier in (a,b)");
    assert_eq!(world.json(&["group", "list"]).await, json!([]), "nothing was changed");

    world.said(&create).await;
    let shown = world.json(&["group", "show", "front"]).await;
    assert_eq!((&shown["count"], &shown["devices"]), (&json!(2), &json!(["cam-1", "cam-2"])));
    assert_eq!(world.said(&["group", "list", "-o", "name"]).await, "front\n");
    assert_eq!(world.said(&["device", "list", "-l", "group:front", "-o", "name"]).await, "cam-1\ncam-2\n");
    world.said(&["device", "label", "cam-2", "tier-"]).await;
    let text = world.said(&["group", "show", "front"]).await;
    assert!(text.contains("devices   1") && text.contains("    cam-1"), "{text}");

    let (code, _, err) = world.run(&create).await;
    assert_eq!(code, 6, "{err}");
    world.said(&["group", "delete", "front", "--dry-run"]).await;
    world.said(&["group", "delete", "front"]).await;
    assert_eq!(world.run(&["group", "show", "front"]).await.0, 7);
    let (code, _, err) = world.run(&["device", "list", "-l", "group:front"]).await;
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("there is no group front"), "{err}");
    let actions = audited(&world).await;
    assert_eq!(actions.iter().filter(|action| action.starts_with("group.")).count(), 2, "{actions:?}");
}

#[tokio::test]
async fn a_group_that_cannot_be_is_refused_with_what_is_wrong() {
    let world = World::start().await;
    for (name, selector, status, code) in [
        ("two words", "all", 400, "bad_group_name"),
        ("g", "site=", 400, "bad_selector"),
        ("g", "group:ghost", 404, "group_not_found"),
        ("g", "group:ghost,site=berlin", 400, "bad_selector"),
    ] {
        let body = json!({"name": name, "selector": selector});
        let (found, problem) = world.post("/api/v1/groups", body).await;
        assert_eq!((found.as_u16(), problem["code"].as_str().unwrap()), (status, code), "{problem}");
    }
    assert_eq!(world.get("/api/v1/groups").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_by_their_status() {
    let world = World::start().await;
    enrol(&world, &["cam-1", "cam-2", "cam-3"]).await;
    let mut online = Device::join(&world, "cam-9").await;
    online.hello().await;
    world.said(&["device", "quarantine", "cam-1"]).await;
    world.said(&["device", "retire", "cam-2", "--dry-run"]).await;
    assert_eq!(world.get("/api/v1/devices/cam-2").await["revoked"], false);
    world.said(&["device", "retire", "cam-2"]).await;
    for (status, name) in
        [("quarantined", "cam-1\n"), ("revoked", "cam-2\n"), ("offline", "cam-3\n"), ("connected", "cam-9\n")]
    {
        assert_eq!(world.said(&["device", "list", "--status", status, "-o", "name"]).await, name);
    }
    assert_eq!(world.run(&["device", "list", "--status", "asleep"]).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_keeps_what_the_device_runs_and_is_told_until_it_is_taken_off() {
    let world = World::start().await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello_with(Generation(0), runs("digits@3")).await;
    let tried = world.json(&["device", "pin", "cam-7", "digits", "--dry-run"]).await;
    assert_eq!(tried["pins"], json!(["digits@3"]));
    assert_eq!(world.get("/api/v1/devices/cam-7").await["pins"], json!([]), "nothing was changed");

    let text = world.said(&["device", "pin", "cam-7", "digits"]).await;
    assert!(text.contains("pinned      digits@3"), "{text}");
    let why = world.said(&["device", "why", "cam-7"]).await;
    assert!(why.contains("digits is pinned to digits@3: rollouts of digits pass it over"), "{why}");
    let (code, _, err) = world.run(&["device", "pin", "cam-7", "faces"]).await;
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("keeps no version of faces"), "{err}");

    world.said(&["device", "unpin", "cam-7", "digits"]).await;
    assert_eq!(world.run(&["device", "unpin", "cam-7", "digits"]).await.0, 7);
    assert_eq!(world.run(&["device", "pin", "ghost", "digits"]).await.0, 7);
    let actions = audited(&world).await;
    let pins = actions.iter().filter(|action| action.contains("pin")).collect::<Vec<_>>();
    assert_eq!(pins, ["device.pin", "device.unpin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_is_told_with_its_reason_until_the_device_is_released() {
    let world = World::start().await;
    enrol(&world, &["cam-7"]).await;
    world.said(&["device", "quarantine", "cam-7", "--reason", "smells of smoke"]).await;
    let shown = world.said(&["device", "show", "cam-7"]).await;
    assert!(shown.contains("quarantine  rollouts pass it over: smells of smoke"), "{shown}");
    let why = world.said(&["device", "why", "cam-7"]).await;
    assert!(why.contains("it is quarantined (smells of smoke): rollouts pass it over"), "{why}");
    let long = "x".repeat(501);
    assert_eq!(world.run(&["device", "quarantine", "cam-7", "--reason", &long]).await.0, 1);
    world.said(&["device", "release", "cam-7"]).await;
    let view = world.get("/api/v1/devices/cam-7").await;
    assert_eq!((&view["quarantined"], &view["quarantine_reason"]), (&json!(false), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_is_listed_and_told_to_the_devices_it_is_about_until_it_is_removed() {
    let world = World::start().await;
    enrol(&world, &["cam-1", "cam-2"]).await;
    world.said(&["device", "label", "cam-1", "tier=a"]).await;
    world.said(&["group", "create", "front", "--selector", "tier=a"]).await;
    let add = ["freeze", "add", "--until", "in 2h", "--reason", "harvest", "--selector", "group:front"];
    world.said(&[&add[..], &["--dry-run"]].concat()).await;
    assert_eq!(world.json(&["freeze", "list"]).await, json!([]), "nothing was changed");

    let id = world.said(&[&add[..], &["-o", "name"]].concat()).await.trim().to_owned();
    world.said(&["group", "delete", "front"]).await;
    let later = ["freeze", "add", "--from", "in 1h", "--until", "in 3h", "--reason", "overlaps"];
    world.said(&later).await;
    let listed = world.json(&["freeze", "list"]).await;
    let told =
        |entry: &Value| (entry["selector"].clone(), entry["holds"].clone(), entry["created_by"].clone());
    assert_eq!(told(&listed[0]), (json!("tier=a"), json!(true), json!("admin")), "{listed}");
    assert_eq!(told(&listed[1]), (Value::Null, json!(false), json!("admin")), "{listed}");
    let why = world.said(&["device", "why", "cam-1"]).await;
    assert!(why.contains("rollouts are frozen until ") && why.contains(&format!("({id}): harvest")), "{why}");
    assert!(!why.contains("overlaps"), "it does not hold yet: {why}");
    assert!(!world.said(&["device", "why", "cam-2"]).await.contains("harvest"));

    world.said(&["freeze", "remove", &id]).await;
    assert_eq!(world.run(&["freeze", "remove", &id]).await.0, 7);
    assert!(!world.said(&["device", "why", "cam-1"]).await.contains("frozen"));
    for wrong in [["--until", "2h ago"], ["--until", "in 400d"]] {
        let (code, _, err) =
            world.run(&[&["freeze", "add", "--reason", "x", "--from", "3h ago"][..], &wrong].concat()).await;
        assert_eq!(code, 1, "{err}");
    }
    assert_eq!(world.run(&["freeze", "add", "--reason", "x", "--until", "soon"]).await.0, 2);
}

#[tokio::test]
async fn a_trial_of_a_change_is_refused_like_the_change() {
    let world = World::start().await;
    let path = "/api/v1/devices/none/labels";
    for (query, status, code) in
        [("dry_run=true", 404, "device_not_found"), ("dry_run=perhaps", 400, "bad_request")]
    {
        let (path, body) = (format!("{path}?{query}"), Some(json!({"labels": {}})));
        let (found, problem) = world.request(&Method::PUT, &path, Some(&world.admin), body).await;
        assert_eq!((found.as_u16(), problem["code"].as_str().unwrap()), (status, code), "{problem}");
    }
}
