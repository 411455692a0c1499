//! What operators lay down around rollouts: groups and freeze periods, through the command line.

#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

mod server_world;

use serde_json::{Value, json};
use server_world::World;

async fn enrol(world: &World, names: &[&str]) {
    let token = world.enroll_token(u32::try_from(names.len()).unwrap()).await;
    for name in names {
        world.enroll(&token, Some(name)).await;
    }
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
