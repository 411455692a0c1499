//! The API over a real server in this process: TLS, tokens, publication with the gate worker, enrolment, rollouts.

use std::collections::BTreeMap;

use crate::server_world::World;
use muster::{
    api::{self, RouteSpec},
    auth::Role,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn the_openapi_document_is_the_committed_one() {
    let found = serde_json::to_string_pretty(&api::openapi()).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == committed,
        "the API changed; look at the difference after UPDATE_OPENAPI=1 cargo test -p muster"
    );
}

#[tokio::test]
async fn every_route_lets_in_exactly_the_roles_it_names() {
    let world = World::start().await;
    let mut tokens = BTreeMap::new();
    for role in Role::ALL {
        tokens.insert(role, world.token(role).await);
    }
    for route in api::route_specs() {
        let Some(permission) = route.permission else { continue };
        let (status, problem) = world.request(&route.method(), &path(&route), None, None).await;
        assert_eq!((status, code(&problem)), (StatusCode::UNAUTHORIZED, "no_token"), "{route:?}");
        let (status, problem) =
            world.request(&route.method(), &path(&route), Some("muster_api_x"), None).await;
        assert_eq!((status, code(&problem)), (StatusCode::UNAUTHORIZED, "bad_token"), "{route:?}");
        for (role, token) in &tokens {
            let (status, _) = world.request(&route.method(), &path(&route), Some(token), None).await;
            let let_in = status != StatusCode::FORBIDDEN && status != StatusCode::UNAUTHORIZED;
            assert_eq!(let_in, role.grants(permission), "{role} at {route:?}: {status}");
        }
    }
}

trait RouteMethod {
    fn method(&self) -> Method;
}

impl RouteMethod for RouteSpec {
    fn method(&self) -> Method {
        self.method.parse().unwrap()
    }
}

/// Parameters that name nothing, so that no request of the matrix changes anything.
fn path(route: &RouteSpec) -> String {
    let filled = route.path.replace("{*name}", "none.json").replace("{version}", "7");
    filled.replace("{model}", "none").replace("{id}", "none")
}

fn code(problem: &Value) -> &str {
    problem["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn errors_are_problem_documents_with_a_request_id() {
    let world = World::start().await;
    for (method, path, status, code) in [
        (Method::GET, "/api/v1/nothing", 404, "no_such_path"),
        (Method::DELETE, "/api/v1/models", 405, "method_not_allowed"),
        (Method::GET, "/api/v1/devices/none", 404, "device_not_found"),
        (Method::GET, "/api/v1/devices/%20", 400, "bad_device_id"),
        (Method::GET, "/api/v1/devices?selector=%3D", 400, "bad_selector"),
        (Method::GET, "/api/v1/devices?after=%00", 400, "bad_address"),
        (Method::DELETE, "/api/v1/freezes/%00", 400, "bad_address"),
        (Method::GET, "/api/v1/models/none/versions/x", 400, "bad_request"),
    ] {
        let (found, problem) = world.request(&method, path, Some(&world.admin), None).await;
        assert_eq!((found.as_u16(), self::code(&problem)), (status, code), "{method} {path}: {problem}");
        assert!(problem["request_id"].is_string() && problem["detail"].is_string());
    }
    let body = Some(json!({"name": "x", "role": "king"}));
    let (status, problem) = world.request(&Method::POST, "/api/v1/tokens", Some(&world.admin), body).await;
    assert!(status.is_client_error() && problem["detail"].as_str().unwrap().contains("king"), "{problem}");
}

#[tokio::test]
async fn a_published_model_is_signed_numbered_and_never_published_twice() {
    let world = World::start().await;
    let first = world.publish("digits", 1).await;
    assert_eq!(first["release"], "digits@1");
    assert_eq!((first["created"].clone(), first["gate"]["cases"].clone()), (json!(true), json!(8)));
    let again = world.publish("digits", 1).await;
    assert_eq!((again["release"].clone(), again["created"].clone()), (json!("digits@1"), json!(false)));
    let second = world.publish("digits", 2).await;
    assert_eq!(second["release"], "digits@2");

    let targets = world.get("/api/v1/metadata/3.targets.json").await;
    let manifest = world.get("/api/v1/metadata/digits/2.json").await;
    assert_eq!(manifest["release"], "digits@2");
    assert!(targets["signed"]["targets"]["digits/2.json"]["length"].is_u64(), "{targets}");
    let models = world.get("/api/v1/models").await;
    assert_eq!((models[0]["newest"].clone(), models[0]["versions"].clone()), (json!(2), json!(2)));
    let audit = world.get("/api/v1/audit").await;
    assert_eq!(audit["intact"], true);
}

#[tokio::test]
async fn a_model_with_the_golden_vectors_of_another_is_refused_with_the_case() {
    let world = World::start().await;
    let (status, problem) =
        world.publish_files("digits", "digits-v1.onnx", "digits-v2-golden.npz", None).await;
    assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, "golden_mismatch"), "{problem}");
    let (status, problem) = world
        .publish_files("digits", "digits-v1.onnx", "digits-v1-golden.npz", Some("[budgets]\nlatency = 1"))
        .await;
    assert_eq!((status, code(&problem)), (StatusCode::BAD_REQUEST, "bad_file"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("policy:2:1"), "{problem}");
    let (status, problem) = world.publish_files("digits", "README.md", "digits-v1-golden.npz", None).await;
    assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, "bad_structure"), "{problem}");
    let (status, problem) =
        world.publish_files("stats", "digits-v1.onnx", "digits-v1-golden.npz", None).await;
    assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, "reserved_name"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("/v2/models/stats"), "{problem}");
    assert_eq!(world.get("/api/v1/models").await, json!([]));
}

#[tokio::test]
async fn a_device_enrols_once_per_use_and_a_name_is_taken_once() {
    let world = World::start().await;
    let token = world.enroll_token(2).await;
    let (status, joined) = world.enroll(&token, Some("cam-7")).await;
    assert_eq!((status, joined["device"].clone()), (StatusCode::CREATED, json!("cam-7")), "{joined}");
    assert_eq!(joined["labels"]["site"], "berlin");
    assert!(joined["root"]["signed"]["version"].is_u64());

    let (status, problem) = world.enroll(&token, Some("cam-7")).await;
    assert_eq!((status, code(&problem)), (StatusCode::CONFLICT, "device_exists"));
    let (status, _) = world.enroll(&token, None).await;
    assert_eq!(status, StatusCode::CREATED, "the refused request used nothing up");
    let (status, problem) = world.enroll(&token, Some("cam-8")).await;
    assert_eq!((status, code(&problem)), (StatusCode::FORBIDDEN, "enroll_token_used_up"));

    let devices = world.get("/api/v1/devices?selector=site%3Dberlin").await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
    let why = world.get("/api/v1/devices/cam-7/why").await;
    assert!(why["reasons"].to_string().contains("offline"), "{why}");
}

#[tokio::test]
async fn a_rollout_is_planned_started_and_ordered() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let token = world.enroll_token(1).await;
    world.enroll(&token, Some("cam-7")).await;
    let wanted = json!({"release": "digits@1", "selector": "site=berlin"});
    let (status, plan) = world.post("/api/v1/rollouts/plan", wanted.clone()).await;
    assert_eq!(
        (status, plan["plan"]["waves"][0]["devices"][0]["device"].clone()),
        (StatusCode::OK, json!("cam-7"))
    );

    let (status, rollout) = world.post("/api/v1/rollouts", wanted).await;
    assert_eq!((status, rollout["status"]["state"]["kind"].clone()), (StatusCode::CREATED, json!("running")));
    let device = world.get("/api/v1/devices/cam-7").await;
    assert_eq!((device["desired"].clone(), device["generation"].clone()), (json!(["digits@1"]), json!(1)));

    let orders = format!("/api/v1/rollouts/{}/orders", rollout["status"]["id"].as_str().unwrap());
    let (status, paused) = world.post(&orders, json!({"order": "pause"})).await;
    assert_eq!((status, paused["status"]["state"]["kind"].clone()), (StatusCode::OK, json!("paused")));
    let (status, problem) = world.post(&orders, json!({"order": "pause"})).await;
    assert_eq!((status, code(&problem)), (StatusCode::CONFLICT, "wrong_state"));
    let (_, back) = world.post(&orders, json!({"order": "rollback"})).await;
    assert!(back["status"]["state"]["kind"].as_str().unwrap().starts_with("roll"), "{back}");
    assert_eq!(world.get("/api/v1/devices/cam-7").await["desired"], json!([]));

    let nobody = json!({"release": "digits@1", "selector": "site=paris"});
    let (status, problem) = world.post("/api/v1/rollouts", nobody).await;
    assert_eq!((status, code(&problem)), (StatusCode::UNPROCESSABLE_ENTITY, "nobody_selected"));
}

#[tokio::test]
async fn a_restarted_server_knows_everything_again() {
    let mut world = World::start().await;
    world.publish("digits", 1).await;
    let token = world.enroll_token(1).await;
    world.enroll(&token, Some("cam-7")).await;
    let (_, rollout) =
        world.post("/api/v1/rollouts", json!({"release": "digits@1", "selector": "all"})).await;
    world.restart().await;
    let again = world.get(&format!("/api/v1/rollouts/{}", rollout["status"]["id"].as_str().unwrap())).await;
    assert_eq!(again["status"]["state"], rollout["status"]["state"]);
    assert_eq!(world.get("/api/v1/devices/cam-7").await["desired"], json!(["digits@1"]));
    let orders = format!("/api/v1/rollouts/{}/orders", rollout["status"]["id"].as_str().unwrap());
    let (status, _) = world.post(&orders, json!({"order": "halt", "reason": "test"})).await;
    assert_eq!(status, StatusCode::OK);
}
