//! Webhooks over real connections: a receiver that listens, and what it gets.

mod receiver;

use std::time::Duration;

use crate::server_world::World;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use muster::{auth::Role, store::Store};
use receiver::{Answer, Delivery, Receiver, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

/// Adds a webhook and returns its id and secret.
async fn add(world: &World, body: Value) -> (String, String) {
    let (status, added) = world.post("/api/v1/webhooks", body).await;
    assert_eq!(status, StatusCode::CREATED, "{added}");
    (added["webhook"]["id"].as_str().unwrap().to_owned(), added["secret"].as_str().unwrap().to_owned())
}

/// Something happens.
async fn happens(world: &World, kind: &str, document: &Value) {
    let app = world.server().app();
    let mut tx = app.store.begin().await.unwrap();
    Store::insert_event(&mut tx, app.clock.now(), kind, "digits", document).await.unwrap();
    tx.commit().await.unwrap();
    app.changes.send_modify(|count| *count += 1);
}

async fn numbered(world: &World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        happens(world, "drift", &json!({"event": "drift.detected", "number": number})).await;
    }
}

fn number(delivery: &Delivery) -> u64 {
    delivery.event()["data"]["number"].as_u64().unwrap()
}

async fn view(world: &World, id: &str) -> Value {
    let webhooks = world.get("/api/v1/webhooks").await;
    webhooks.as_array().unwrap().iter().find(|webhook| webhook["id"] == id).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_posted_as_a_signed_cloud_event_and_only_what_was_asked_for() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    happens(&world, "drift", &json!({"event": "drift.detected", "number": 0})).await;
    let (id, secret) =
        add(&world, json!({"url": receiver.url(), "events": ["drift", "rollout.halted"]})).await;
    happens(&world, "rollout", &json!({"event": "paused"})).await;
    happens(&world, "rollout", &json!({"event": "halted", "by": "ann"})).await;
    numbered(&world, 1..2).await;
    let deliveries = receiver.until(2).await;
    let types: Vec<_> = deliveries.iter().map(|delivery| delivery.event()["type"].clone()).collect();
    assert_eq!(types, ["dev.muster.rollout.halted", "dev.muster.drift.detected"]);
    for delivery in &deliveries {
        assert!(delivery.is_signed_by(&secret));
        assert!(!delivery.is_signed_by(&format!("whsec_{}", BASE64.encode([7; 32]))));
        assert_eq!(delivery.header("content-type"), "application/cloudevents+json");
        assert_eq!(delivery.header("webhook-id"), delivery.event()["id"]);
    }
    let event = deliveries[1].event();
    assert_eq!((&event["specversion"], &event["subject"]), (&json!("1.0"), &json!("digits")));
    until("it is written down", async || view(&world, &id).await["delivered_at"].is_u64()).await;
    let figures = world.text("/metrics").await;
    assert!(figures.contains(r#"muster_webhook_deliveries_total{outcome="delivered"} 2"#), "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_gets_everything_in_order_when_it_is_back() {
    let (mut world, receiver) = (World::start().await, Receiver::start().await);
    let (id, _) = add(&world, json!({"url": receiver.url()})).await;
    receiver.answers(Answer::Status(503));
    numbered(&world, 1..6).await;
    until("the first is refused", async || view(&world, &id).await["state"] == "failing").await;
    let failing = view(&world, &id).await;
    assert!(failing["last_error"].as_str().unwrap().contains("503"), "{failing}");
    // Events go on, and the server goes and comes back.
    numbered(&world, 6..9).await;
    world.restart().await;
    receiver.forget();
    receiver.answers(Answer::Status(204));
    let (status, enabled) = world.post(&format!("/api/v1/webhooks/{id}/enable"), json!(null)).await;
    assert_eq!((status, &enabled["state"]), (StatusCode::OK, &json!("active")), "{enabled}");
    let deliveries = receiver.until(8).await;
    assert_eq!(deliveries.iter().map(number).collect::<Vec<_>>(), (1..9).collect::<Vec<_>>());
    until("all is written down", async || view(&world, &id).await["state"] == "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_tried_from_here_is_failing_and_says_why() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (id, _) = add(&world, json!({"url": receiver.url()})).await;
    let mut tx = world.server().app().store.begin().await.unwrap();
    let spoil = sqlx::query("UPDATE webhooks SET ca_pem = 'no PEM' WHERE id = $1").bind(&id);
    spoil.execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    numbered(&world, 1..2).await;
    until("it is failing", async || view(&world, &id).await["state"] == "failing").await;
    let failing = view(&world, &id).await;
    assert!(failing["last_error"].as_str().unwrap().contains("no certificate in PEM form"), "{failing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_holds_up_nobody_else() {
    let world = World::start().await;
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    slow.answers(Answer::Never);
    add(&world, json!({"url": slow.url()})).await;
    add(&world, json!({"url": quick.url()})).await;
    numbered(&world, 1..101).await;
    let deliveries = quick.until(100).await;
    assert_eq!(deliveries.iter().map(number).collect::<Vec<_>>(), (1..101).collect::<Vec<_>>());
    assert_eq!(slow.seen().len(), 1, "it holds the first one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_once_comes_again_under_the_same_id_and_to_the_byte() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let (id, secret) = add(&world, json!({"url": receiver.url()})).await;
    receiver.answers(Answer::Status(500));
    numbered(&world, 1..2).await;
    receiver.until(1).await;
    receiver.answers(Answer::Status(200));
    until("it is failing", async || view(&world, &id).await["state"] == "failing").await;
    world.post(&format!("/api/v1/webhooks/{id}/enable"), json!(null)).await;
    let both = receiver.until(2).await;
    assert_eq!((both[0].header("webhook-id"), &both[0].body), (both[1].header("webhook-id"), &both[1].body));
    assert!(both.iter().all(|delivery| delivery.is_signed_by(&secret)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_wants_no_more_is_given_up_and_everybody_is_told() {
    let world = World::start().await;
    let (gone, other) = (Receiver::start().await, Receiver::start().await);
    gone.answers(Answer::Status(410));
    let (id, _) = add(&world, json!({"url": gone.url(), "events": ["drift"]})).await;
    add(&world, json!({"url": other.url(), "events": ["webhook"]})).await;
    numbered(&world, 1..3).await;
    let told = other.until(1).await;
    let event = told[0].event();
    assert_eq!((&event["type"], &event["subject"]), (&json!("dev.muster.webhook.disabled"), &json!(id)));
    assert_eq!(event["data"]["host"], "127.0.0.1");
    let disabled = view(&world, &id).await;
    assert_eq!(
        (&disabled["state"], disabled["disabled_at"].is_u64()),
        (&json!("disabled"), true),
        "{disabled}"
    );
    assert_eq!(gone.seen().len(), 1);
    let audit = world.get("/api/v1/audit").await.to_string();
    assert!(audit.contains("webhook.disable") && audit.contains("410"), "{audit}");
    gone.answers(Answer::Status(200));
    world.muster(&format!("webhook enable {id}")).await;
    assert_eq!(gone.until(3).await.iter().map(number).collect::<Vec<_>>(), [1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_believed_by_the_ca_that_was_named_and_by_no_other() {
    let (world, receiver) = (World::start().await, Receiver::start_tls().await);
    let (stranger, _) = add(&world, json!({"url": receiver.url()})).await;
    let other_ca = receiver::certificate().0;
    let (wrong, _) = add(&world, json!({"url": receiver.url(), "ca_pem": other_ca})).await;
    for id in [&stranger, &wrong] {
        let (status, tested) = world.post(&format!("/api/v1/webhooks/{id}/test"), json!(null)).await;
        assert_eq!((status, &tested["delivered"]), (StatusCode::OK, &json!(false)), "{tested}");
        assert!(tested["detail"].as_str().unwrap().contains("certificate"), "{tested}");
    }
    numbered(&world, 1..2).await;
    until("nothing is delivered", async || view(&world, &wrong).await["state"] == "failing").await;
    assert_eq!(receiver.seen().len(), 0);
    let (_, secret) = add(&world, json!({"url": receiver.url(), "ca_pem": receiver.ca()})).await;
    numbered(&world, 2..3).await;
    let deliveries = receiver.until(1).await;
    assert!(number(&deliveries[0]) == 2 && deliveries[0].is_signed_by(&secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_an_endless_answer_is_cut_off() {
    let (world, receiver, trap) = (World::start().await, Receiver::start().await, Receiver::start().await);
    let (id, _) = add(&world, json!({"url": receiver.url()})).await;
    receiver.answers(Answer::Redirect(trap.url()));
    let (_, tested) = world.post(&format!("/api/v1/webhooks/{id}/test"), json!(null)).await;
    assert!(tested["detail"].as_str().unwrap().contains("redirects are not followed"), "{tested}");
    receiver.answers(Answer::Endless);
    let (_, tested) = world.post(&format!("/api/v1/webhooks/{id}/test"), json!(null)).await;
    assert_eq!(tested["delivered"], true, "{tested}");
    assert!(tested["millis"].as_u64().unwrap() < 10_000, "{tested}");
    assert_eq!(trap.seen().len(), 0);
    assert!(receiver.seen().iter().all(|delivery| delivery.event()["type"] == "dev.muster.webhook.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_meant_is_refused_and_only_admins_see_any() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    for (body, code) in [
        (json!({"url": "http://hooks.example/x"}), "bad_address"),
        (json!({"url": "hooks"}), "bad_address"),
        (json!({"url": receiver.url(), "events": ["drifft"]}), "bad_events"),
        (json!({"url": receiver.url(), "ca_pem": "x"}), "bad_ca"),
    ] {
        let (status, problem) = world.post("/api/v1/webhooks", body).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{problem}");
    }
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Admin) {
        let token = world.token(role).await;
        let (status, _) = world.request(&Method::GET, "/api/v1/webhooks", Some(&token), None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{role}");
    }
    for _ in 0..Store::MAX_WEBHOOKS {
        add(&world, json!({"url": receiver.url()})).await;
    }
    let (status, problem) = world.post("/api/v1/webhooks", json!({"url": receiver.url()})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("too_many_webhooks")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_adds_tests_lists_and_removes_and_the_secret_is_shown_once() {
    let (world, receiver) = (World::start().await, Receiver::start().await);
    let url = format!("{}?key=hidden", receiver.url());
    let added = world.json(&["webhook", "add", &url, "--events", "drift,rollout"]).await;
    let (id, secret) = (added["webhook"]["id"].as_str().unwrap(), added["secret"].as_str().unwrap());
    assert!(secret.starts_with("whsec_"), "{added}");
    let said = world.muster(&format!("webhook test {id}")).await;
    assert!(said.contains("the receiver answered 200"), "{said}");
    assert!(receiver.until(1).await[0].is_signed_by(secret));
    receiver.answers(Answer::Status(404));
    let (code, _, err) = world.run(&["webhook", "test", id]).await;
    assert!(code == 1 && err.contains("404"), "{code}: {err}");
    let listed = world.muster("webhook list").await;
    assert!(listed.contains(id) && listed.contains("drift,rollout") && !listed.contains(secret), "{listed}");
    let audit = world.get("/api/v1/audit").await.to_string();
    assert!(audit.contains("webhook.add") && !audit.contains("hidden") && !audit.contains(secret), "{audit}");
    world.muster(&format!("webhook remove {id}")).await;
    assert_eq!(world.get("/api/v1/webhooks").await, json!([]));
    numbered(&world, 1..2).await;
    // Nothing is left that could deliver; another webhook shows that the event has passed.
    let other = Receiver::start().await;
    add(&world, json!({"url": other.url()})).await;
    numbered(&world, 2..3).await;
    other.until(1).await;
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_of_the_documentation_starts_one_retraining_for_a_drift() {
    let world = World::start().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let (id, secret) = add(&world, json!({"url": url, "events": ["drift"]})).await;
    let (stranger, _) = add(&world, json!({"url": url, "events": ["rollout"]})).await;
    let trained = world.folder.path().join("trained");
    let retrain = format!("cat >> {0} && echo >> {0}", trained.display());
    let python = std::env::var("MUSTER_PYTHON")
        .expect("MUSTER_PYTHON names a Python with the packages of tests/setup");
    let _receiver = tokio::process::Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/retrain_on_drift.py"))
        .args(["--port", &port.to_string(), "--", "sh", "-c", &retrain])
        .env("MUSTER_WEBHOOK_SECRET", secret)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let test = async |id: &str| {
        let (_, tested) = world.post(&format!("/api/v1/webhooks/{id}/test"), json!(null)).await;
        tested["detail"].as_str().unwrap().to_owned()
    };
    until("it listens, and takes what is signed", async || test(&id).await.ends_with("204")).await;
    assert!(test(&stranger).await.contains("401"), "another webhook's signature is refused");
    let alarm = |id: u64, scope: Value| {
        let found = json!({"feature": "brightness", "cause": {"kind": "drift"}, "scope": scope});
        json!({"event": "drift.detected", "alarm": {"id": id, "release": "digits@1", "found": found}})
    };
    // A broken camera is no reason to train on what it sees.
    happens(&world, "drift", &alarm(1, json!({"sensor": {"device": "cam-7"}}))).await;
    happens(&world, "drift", &alarm(2, json!("world"))).await;
    let read = || std::fs::read_to_string(&trained).unwrap_or_default();
    until("a retraining was started", async || read().contains('\n')).await;
    let event: Value = serde_json::from_str(read().lines().next().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["subject"]), (&json!("dev.muster.drift.detected"), &json!("digits")));
    assert_eq!(event["data"]["alarm"]["id"], 2, "{event}");
    assert_eq!(read().lines().filter(|line| !line.is_empty()).count(), 1);
}

impl Delivery {
    /// As a receiver checks it, with nothing of ours.
    fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
        let sent = Duration::from_secs(self.header("webhook-timestamp").parse().unwrap());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        self.header("webhook-signature") == expected && now.abs_diff(sent) < Duration::from_secs(300)
    }
}
