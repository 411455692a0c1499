//! Devices over real MQTT connections: what they are told, what they report, and what the server makes of it.

#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

mod server_world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use muster_link::{Backoff, Event, Link, LinkOptions, Qos};
use reqwest::{Method, StatusCode};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use server_world::World;
use shared::{
    BootId, DeviceId, Digest, Generation, ReleaseId, Timestamp,
    artifact::BLOCK_BYTES,
    block::{Frame, Run},
    device::Inventory,
    manifest::Manifest,
    message::{DesiredMessage, DirectorDocument, Hello, MetadataPart, Request, StateMessage},
    report::{DeploymentEvent, ModelState, RejectReason, Report},
    telemetry::{DeviceHealth, Telemetry, VersionFigures},
    topic::{Channel, Down, Topic, Up},
    trust::{Signed, Signer},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A device that does as it is told by the test.
struct Device {
    id: DeviceId,
    link: Link,
    events: mpsc::Receiver<Event>,
    signer: Signer,
    sequence: u64,
}

impl Device {
    /// Enrols over HTTP and connects over MQTT.
    async fn join(world: &World, name: &str) -> Self {
        let token = world.enroll_token(1).await;
        let (joined, key) = world.enroll_with_key(&token, name).await;
        let pem = |field: &str| joined[field].as_str().unwrap().to_owned();
        let ca = CertificateDer::from_pem_slice(pem("ca_pem").as_bytes()).unwrap();
        assert_eq!(Digest::of(&ca), token.ca, "the token pins the CA");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem("certificate_pem").as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], PrivateKeyDer::try_from(key).unwrap())
            .unwrap();
        let tls = Arc::new(tls);
        let (_, port) = joined["mqtt"].as_str().unwrap().rsplit_once(':').unwrap();
        let server_name = ServerName::try_from("localhost").unwrap();
        let source = Arc::new(move || Ok(tls.clone()));
        let mut options = LinkOptions::new("127.0.0.1", port.parse().unwrap(), server_name, name, source);
        options.backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(200) };
        let id = DeviceId::new(name).unwrap();
        let topic = |down| (Topic::down(id.clone(), down).to_string(), Qos::AtLeastOnce);
        options.subscriptions = Down::ALL.map(topic).to_vec();
        let (link, events) = Link::start(options, CancellationToken::new());
        let mut device = Self { id, link, events, signer: Signer::from_seed(&[7; 32]), sequence: 0 };
        device.until_connected().await;
        device
    }

    async fn until_connected(&mut self) {
        while !matches!(self.event().await, Event::Connected) {}
    }

    async fn event(&mut self) -> Event {
        tokio::time::timeout(DEADLINE, self.events.recv()).await.expect("in time").expect("the link lives")
    }

    async fn receive(&mut self, wanted: Down) -> Bytes {
        loop {
            if let Event::Message { topic, payload } = self.event().await
                && let Some(topic) = Topic::parse(&topic)
                && topic.channel == Channel::Down(wanted)
            {
                return payload;
            }
        }
    }

    async fn send<T: serde::Serialize>(&self, up: Up, message: &T) {
        let topic = Topic::up(self.id.clone(), up).to_string();
        self.link
            .publish(topic, Qos::AtLeastOnce, serde_json::to_vec(message).unwrap().into())
            .await
            .unwrap();
    }

    /// Says hello and returns what it shall run.
    async fn hello(&mut self) -> DirectorDocument {
        self.hello_with(Generation(0), vec![]).await
    }

    async fn hello_with(&mut self, generation: Generation, models: Vec<ModelState>) -> DirectorDocument {
        let hello = Hello {
            boot: boot(),
            at: Timestamp(1),
            generation,
            inventory: Inventory { engines: vec!["tract-onnx 0.23.9".into()], ..Inventory::default() },
            models,
        };
        self.send(Up::State, &StateMessage::Hello(Box::new(hello))).await;
        self.desired().await
    }

    async fn desired(&mut self) -> DirectorDocument {
        let message: DesiredMessage = serde_json::from_slice(&self.receive(Down::Desired).await).unwrap();
        let envelope: Value = serde_json::from_slice(&message.director.to_vec()).unwrap();
        serde_json::from_value(envelope["signed"].clone()).unwrap()
    }

    async fn until_generation(&mut self, generation: u64) -> DirectorDocument {
        loop {
            let desired = self.desired().await;
            if desired.generation.0 >= generation {
                return desired;
            }
        }
    }

    fn report(&mut self, generation: Generation, event: DeploymentEvent) -> Report {
        self.sequence += 1;
        Report {
            device: self.id.clone(),
            boot: boot(),
            sequence: self.sequence,
            at: Timestamp(self.sequence),
            generation,
            release: release(),
            event,
        }
    }

    /// Reports and waits for the server's own acknowledgement.
    async fn tell(&mut self, generation: Generation, event: DeploymentEvent) {
        let report = self.report(generation, event);
        let sequence = report.sequence;
        let signed = Signed::sign(&report, &[&self.signer]).unwrap();
        self.send(Up::State, &StateMessage::Report(signed)).await;
        let acknowledged: Value = serde_json::from_slice(&self.receive(Down::Acknowledgement).await).unwrap();
        assert_eq!(
            (acknowledged["stream"].clone(), acknowledged["sequence"].clone()),
            (json!("report"), json!(sequence))
        );
    }

    async fn file(&mut self, name: &str) -> Vec<u8> {
        let mut file = Vec::new();
        loop {
            let request = Request::Metadata { name: name.into(), offset: file.len() as u64 };
            self.send(Up::Request, &request).await;
            let part: MetadataPart = serde_json::from_slice(&self.receive(Down::Metadata).await).unwrap();
            file.extend(part.bytes);
            if file.len() as u64 >= part.total_bytes.expect("the file exists") {
                return file;
            }
        }
    }
}

fn boot() -> BootId {
    BootId::new("boot-1").unwrap()
}

fn release() -> ReleaseId {
    "digits@1".parse().unwrap()
}

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

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_acknowledged_once_stored_and_counted_once() {
    let world = World::start().await;
    world.publish("digits", 1).await;
    let mut device = Device::join(&world, "cam-7").await;
    device.hello().await;
    let mut figures = VersionFigures::new(release());
    figures.counts.ok = 5;
    figures.latency_ms.record(3.0);
    let telemetry = Telemetry {
        boot: boot(),
        sequence: 1,
        from: Timestamp(0),
        to: Timestamp(u64::MAX),
        health: DeviceHealth { cpu_percent: 12.5, ..DeviceHealth::default() },
        versions: vec![figures],
    };
    for _ in 0..2 {
        device.send(Up::Telemetry, &telemetry).await;
        let acknowledged: Value =
            serde_json::from_slice(&device.receive(Down::Acknowledgement).await).unwrap();
        assert_eq!(acknowledged["stream"], "telemetry");
    }
    let figures = world.get("/api/v1/models/digits/versions/1/figures").await;
    assert_eq!((figures.as_array().unwrap().len(), figures[0]["ok"].clone()), (1, json!(5)), "{figures}");
    assert_eq!(world.get("/api/v1/devices/cam-7").await["health"]["cpu_percent"], 12.5);
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
