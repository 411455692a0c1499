//! Devices over real MQTT connections: what they are told, what they report, and what the server makes of it.

use std::time::{Duration, Instant};

use crate::server_world::{
    World,
    device::{Device, boot, now, release},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{
    Digest, Generation, Timestamp,
    artifact::BLOCK_BYTES,
    block::{Frame, Run},
    manifest::Manifest,
    message::{MetadataPart, Request, StateMessage},
    report::{DeploymentEvent, Evidence, ModelState, RejectReason, RollbackReason},
    telemetry::{Delivery, DeviceHealth, Telemetry, VersionFigures},
    topic::{Down, Up},
    trust::{Signed, Signer},
};

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(30);

async fn start_rollout(world: &World) -> String {
    let (status, view) =
        world.post("/api/v1/rollouts", json!({"release": "digits@1", "selector": "site=berlin"})).await;
    assert_eq!(status, StatusCode::CREATED, "{view}");
    view["status"]["id"].as_str().unwrap().to_owned()
}

/// Waits by the server's own long poll.
async fn until_finished(world: &World, id: &str) -> Value {
    let deadline = Instant::now() + DEADLINE;
    let mut after = 0;
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
async fn a_rollout_reaches_a_device_and_completes_when_it_commits() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    assert_eq!(device.hello().await.assignments, []);
    let id = start_rollout(&world).await;
    let desired = device.until_generation(1).await;
    let assignment = &desired.assignments[0];
    assert_eq!((&assignment.release, &desired.device), (&release(), &device.id));

    let manifest_bytes = device.file("digits/1.json").await;
    assert_eq!(Digest::of(&manifest_bytes), assignment.manifest_digest);
    let manifest: Manifest = serde_json::from_slice(&manifest_bytes).unwrap();
    let packed = &manifest.model.packed;
    let runs = vec![Run { first: 0, count: packed.block_count() }];
    let request = Request::Blocks { artifact: packed.digest, block_bytes: packed.block_bytes, runs };
    device.send(Up::Request, &request).await;
    for _ in 0..packed.block_count() {
        let frame = device.receive(Down::Blocks).await;
        let Frame::Block { index, bytes, .. } = Frame::decode(&frame).unwrap() else { panic!("{frame:?}") };
        assert_eq!(Digest::of(bytes), packed.blocks[index as usize]);
    }

    device.tell(desired.generation, DeploymentEvent::Probation).await;
    device.tell(desired.generation, DeploymentEvent::Committed { inferences: 50, failures: 0 }).await;
    let view = until_finished(&world, &id).await;
    assert_eq!(view["status"]["state"]["kind"], "completed", "{view}");
    let shown = world.get("/api/v1/devices/cam-7").await;
    assert_eq!(
        (shown["models"][0]["committed"].clone(), shown["connected"].clone()),
        (json!("digits@1"), json!(true))
    );
    let events = world.get(&format!("/api/v1/rollouts/{id}/events")).await;
    assert!(events.to_string().contains("wave_passed"), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_refuses_the_release_stops_the_rollout() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let id = start_rollout(&world).await;
    let desired = device.until_generation(1).await;
    let reason = RejectReason::GoldenMismatch { case: 3, detail: "output 'y'".into() };
    device.tell(desired.generation, DeploymentEvent::Rejected(reason)).await;
    let view = until_finished(&world, &id).await;
    assert_eq!(view["status"]["state"]["kind"], "rolled_back", "{view}");
    assert!(view["status"]["reason"].as_str().unwrap().contains("golden case 3"), "{view}");
    assert_eq!(device.until_generation(2).await.assignments, []);
    let why = world.get("/api/v1/devices/cam-7/why").await;
    assert!(why["reasons"].to_string().contains("golden case 3"), "{why}");
}

fn rejected() -> DeploymentEvent {
    DeploymentEvent::Rejected(RejectReason::GoldenMismatch { case: 3, detail: "output 'y'".into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_claims_an_unknown_release_goes_back_to_nothing_and_stops_nobody() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    let claim = ModelState {
        model: release().model,
        committed: Some("digits@9".parse().unwrap()),
        candidate: None,
        step: String::new(),
        held: vec![],
    };
    device.hello_with(Generation(0), vec![claim]).await;
    let id = start_rollout(&world).await;
    let desired = device.until_generation(1).await;
    device.tell(desired.generation, rejected()).await;
    let view = until_finished(&world, &id).await;
    assert_eq!(view["status"]["state"]["kind"], "rolled_back", "{view}");
    assert_eq!(device.until_generation(2).await.assignments, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_did_before_it_heard_of_the_rollback_still_counts() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut first = Device::join(&world, "cam-7").await;
    let mut second = Device::join(&world, "cam-8").await;
    first.hello().await;
    second.hello().await;
    let id = start_rollout(&world).await;
    let asked = first.until_generation(1).await.generation;
    second.until_generation(1).await;
    first.tell(asked, rejected()).await;
    second.until_generation(2).await;
    second.tell(asked, rejected()).await;
    let view = until_finished(&world, &id).await;
    assert_eq!(view["status"]["counts"]["rejected"], 2, "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hello_of_a_device_that_runs_nothing_again_ends_the_rollback() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut healthy = Device::join(&world, "cam-7").await;
    let mut broken = Device::join(&world, "cam-8").await;
    healthy.hello().await;
    broken.hello().await;
    let id = start_rollout(&world).await;
    let asked = healthy.until_generation(1).await.generation;
    broken.until_generation(1).await;
    healthy.tell(asked, DeploymentEvent::Committed { inferences: 50, failures: 0 }).await;
    broken.tell(asked, rejected()).await;
    let back = healthy.until_generation(2).await;
    let view = world.get(&format!("/api/v1/rollouts/{id}")).await;
    assert_eq!(view["status"]["state"]["kind"], "rolling_back", "{view}");
    healthy.hello_with(back.generation, vec![]).await;
    let view = until_finished(&world, &id).await;
    assert_eq!(view["status"]["counts"]["restore_confirmed"], 2, "{view}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_signed_by_another_key_is_neither_believed_nor_acknowledged() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let id = start_rollout(&world).await;
    let desired = device.until_generation(1).await;
    let committed = DeploymentEvent::Committed { inferences: 50, failures: 0 };
    let forged = device.report(desired.generation, committed.clone());
    let signed = Signed::sign(&forged, &[&Signer::from_seed(&[8; 32])]).unwrap();
    device.send(Up::State, &StateMessage::Report(signed)).await;
    // Messages of one device are taken in order, so the next acknowledgement shows that the forged one got none.
    device.tell(desired.generation, DeploymentEvent::Probation).await;
    let view = world.get(&format!("/api/v1/rollouts/{id}")).await;
    assert_eq!(view["status"]["counts"]["committed"], 0, "{view}");
    device.tell(desired.generation, committed).await;
    until_finished(&world, &id).await;
}

fn telemetry(sequence: u64, versions: Vec<VersionFigures>) -> Telemetry {
    let health = DeviceHealth { cpu_percent: 12.5, uptime_secs: 90, ..DeviceHealth::default() };
    Telemetry {
        boot: boot(),
        sequence,
        from: Timestamp(0),
        to: Timestamp(u64::MAX),
        health,
        delivery: Delivery::default(),
        versions,
        challengers: Default::default(),
        drift_alarms: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_acknowledged_once_stored_and_counted_once() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let mut figures = VersionFigures::new(release());
    figures.counts.ok = 5;
    figures.latency_ms.record(3.0);
    let telemetry = telemetry(1, vec![figures]);
    for _ in 0..2 {
        device.send_telemetry(&telemetry).await;
    }
    let figures = world.get("/api/v1/models/digits/versions/1/figures").await;
    assert_eq!((figures.as_array().unwrap().len(), figures[0]["ok"].clone()), (1, json!(5)), "{figures}");
    assert_eq!(world.get("/api/v1/devices/cam-7").await["health"]["cpu_percent"], 12.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_did_adds_up_in_its_own_view_and_in_the_metrics_of_the_version() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    for sequence in [1, 2] {
        let mut figures = VersionFigures::new(release());
        figures.counts.ok = 5;
        figures.counts.non_finite = 1;
        figures.labels.correct = 3;
        figures.labels.wrong = 1;
        figures.latency_ms.record(3.0);
        figures.latency_ms.record(20_000.0);
        device.send_telemetry(&telemetry(sequence, vec![figures])).await;
    }
    let shown = world.get("/api/v1/devices/cam-7").await;
    let figures = &shown["figures"][0];
    assert_eq!((&figures["release"], &figures["counts"]["ok"]), (&json!("digits@1"), &json!(10)), "{shown}");
    assert_eq!(figures["labels"], json!({"correct": 6, "wrong": 2, "accuracy": 0.75}));
    assert!(figures["latency_p99_ms"].as_f64().unwrap() > 18_000.0, "{figures}");
    let listed = world.get("/api/v1/devices").await;
    assert_eq!(listed["devices"][0].get("figures"), None);
    let text = world.muster("device show cam-7").await;
    assert!(text.contains("digits@1  12          2 (2 non-finite)"), "{text}");
    assert!(text.contains("75.0 % of 8") && text.contains("up          1 min 30 s"), "{text}");

    let metrics = world.text("/metrics").await;
    let of = r#"model="digits",version="1""#;
    for line in [
        format!("muster_inferences_total{{{of},outcome=\"ok\"}} 10"),
        format!("muster_inferences_total{{{of},outcome=\"non_finite\"}} 2"),
        format!("muster_labels_total{{{of},result=\"wrong\"}} 2"),
        format!("muster_inference_latency_seconds_count{{{of}}} 4"),
        format!("muster_inference_latency_seconds_bucket{{le=\"0.0025\",{of}}} 0"),
        format!("muster_inference_latency_seconds_bucket{{le=\"0.005\",{of}}} 2"),
        format!("muster_inference_latency_seconds_bucket{{le=\"10.24\",{of}}} 2"),
        format!("muster_inference_latency_seconds_bucket{{le=\"+Inf\",{of}}} 4"),
        "muster_devices{status=\"connected\"} 1".to_owned(),
        "# UNIT muster_inference_latency_seconds seconds".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    assert_eq!(metrics.matches("# EOF").count(), 1);
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_far_off_is_told_until_it_is_set() {
    let world = World::start().await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello_at(now() + Duration::from_secs(3_600)).await;
    let shown = world.get("/api/v1/devices/cam-7").await;
    let skew_ms = shown["clock_skew_ms"].as_i64().unwrap();
    assert!((3_500_000..=3_601_000).contains(&skew_ms), "{skew_ms}");
    let why = world.get("/api/v1/devices/cam-7/why").await;
    assert!(why["reasons"].to_string().contains("s ahead of the server's; set it"), "{why}");
    assert!(world.muster("device show cam-7").await.contains("s ahead of the server's"));
    device.hello().await;
    let why = world.get("/api/v1/devices/cam-7/why").await;
    assert!(!why["reasons"].to_string().contains("clock"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_told_with_its_evidence_wherever_one_asks() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let id = start_rollout(&world).await;
    let desired = device.until_generation(1).await;
    let evidence = Evidence {
        inferences: 300,
        bad: 39,
        non_finite: 39,
        good_ppm: 1_000,
        bad_ppm: 50_000,
        log2_ratio_milli: 10_000,
        log2_threshold_milli: 9_966,
        after_ms: 1_200,
    };
    device.tell(desired.generation, DeploymentEvent::Probation).await;
    let event = DeploymentEvent::RolledBack(RollbackReason::Failures(evidence));
    device.tell(desired.generation, event).await;
    let view = until_finished(&world, &id).await;
    let progress = &view["status"]["devices"][0]["progress"];
    assert_eq!((&progress["kind"], &progress["bad"]), (&json!("rolled_back"), &json!(39)), "{view}");
    let words = "39 of 300 inferences failed (39 with non-finite outputs) within 1200 ms";
    let status = world.muster(&format!("rollout status {id}")).await;
    assert!(status.contains(&format!("cam-7  rolled back: {words}")), "{status}");
    let json: Value =
        serde_json::from_str(&world.muster(&format!("rollout status {id} -o json")).await).unwrap();
    assert_eq!(json["status"]["devices"][0]["progress"]["non_finite"], 39);
    let why = world.muster("device why cam-7").await;
    assert!(why.contains(&format!("Z the device reported digits@1: rolled back: {words}")), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_is_cut_off_and_not_let_in_again() {
    let world = World::start().await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let path = "/api/v1/devices/cam-7/revoke";
    let (status, _) = world.request(&Method::POST, path, Some(&world.admin), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let mut refused = false;
    while !refused {
        refused = format!("{:?}", device.event().await).contains("NotAuthorized");
    }
    assert!(!device.link.is_connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_of_a_device_harms_nobody() {
    let world = World::start().await;
    let mut device = Device::join(&world, "cam-7").await;
    for up in Up::ALL {
        device.send(up, &json!({"nonsense": [1, 2, 3]})).await;
    }
    let far = Request::Metadata { name: "../ca.key".into(), offset: u64::MAX };
    device.send(Up::Request, &far).await;
    let part: MetadataPart = serde_json::from_slice(&device.receive(Down::Metadata).await).unwrap();
    assert_eq!(part.total_bytes, None);
    let runs = vec![Run { first: 0, count: u32::MAX }];
    device
        .send(Up::Request, &Request::Blocks { artifact: Digest::of(b"x"), block_bytes: BLOCK_BYTES, runs })
        .await;
    let frame = device.receive(Down::Blocks).await;
    assert!(matches!(Frame::decode(&frame), Ok(Frame::RetryAfter { .. })), "{frame:?}");
    device.hello().await;
}
