//! Windows of counts from devices to alarms, as devices, people and programs see it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use muster::{
    auth::Role,
    broker::Sink as _,
    gateway::{Batcher, BlockServer, Gateway, SketchStore, TelemetryStore, run_batches},
    store::{NewDevice, NewRelease, Store},
};
use muster_sketch::{
    reference::{CategoryReference, FeatureReference, NumericReference, Reference, ReferenceValues},
    window::{FeatureWindow, MISSING, Origin, Window},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{
    DeviceId, Digest, ReleaseId,
    device::{Inventory, Labels},
    manifest::{CapturePolicy, DriftSpec, FeatureSource, Manifest, Reading, Side},
    sketch::SketchMessage,
    topic::{Down, Topic, Up},
    trust::Signer,
};
use tokio_util::sync::CancellationToken;

use super::server_world::{World, device::Device};

/// Rows with which a device has a baseline.
const BASELINE: usize = 1_100;

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is different about the level of a device; what is missing is NaN.
type Twist = dyn Fn(&str, f32) -> f32 + Sync;

const SOUND: &Twist = &|_, value| value;

/// A server that checks every second, and twelve devices at two sites that send windows straight to a gateway.
struct Plant {
    world: World,
    gateway: Arc<Gateway>,
    spec: DriftSpec,
    devices: Vec<DeviceId>,
    random: Random,
    sequence: u64,
}

/// SplitMix64 (Steele, Lea & Flood 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A standard normal value (Box & Muller 1958).
    fn normal(&mut self) -> f32 {
        let (u, v) = (self.uniform().max(1e-300), self.uniform());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }
}

impl Plant {
    async fn start() -> Self {
        let world = World::start_with(|config| config.drift.check_secs = 1).await;
        world.publish("digits", 1).await;
        let mut random = Random(17);
        let spec = watch(&world, &mut random).await;
        let app = world.server().app().clone();
        let mut tx = app.store.begin().await.unwrap();
        let mut devices = Vec::new();
        for (n, site) in (0..12).map(|n| (n, if n < 6 { "a" } else { "b" })) {
            let id = DeviceId::new(format!("{site}-{}", n % 6)).unwrap();
            let new = NewDevice {
                id: id.clone(),
                certificate_serial: "40aa".into(),
                report_key: Signer::from_seed(&[7; 32]).public().clone(),
                labels: Labels::from([("site".into(), site.into())]),
                inventory: Inventory::default(),
            };
            assert!(Store::insert_device(&mut tx, &new, app.clock.now()).await.unwrap());
            devices.push(id);
        }
        tx.commit().await.unwrap();
        let (to_telemetry, _) = Batcher::channel::<TelemetryStore>();
        let (to_sketches, sketches) = Batcher::channel::<SketchStore>();
        tokio::spawn(run_batches(SketchStore { app: app.clone() }, sketches, CancellationToken::new()));
        let gateway = Arc::new(Gateway::new(app.clone(), BlockServer::new(app), to_telemetry, to_sketches));
        Self { world, gateway, spec, devices, random, sequence: 0 }
    }

    /// Every device sends a window of so many rows, all at one time, and they are checked.
    async fn bring(&mut self, rows: usize, twist: &Twist) {
        self.sequence += 1;
        let messages: Vec<_> = self
            .devices
            .clone()
            .into_iter()
            .map(|device| {
                let window = window(&self.spec, &mut self.random, &device, self.sequence, rows, twist);
                (message(&self.spec, &window), device)
            })
            .collect();
        let gateway = &self.gateway;
        let sent = messages
            .iter()
            .map(|(bytes, device)| gateway.on_message(device, Up::Sketches, bytes.clone().into()));
        join_all(sent).await.into_iter().for_each(|stored| stored.unwrap());
        self.until_checked().await;
    }

    /// Waits until what was sent until now was checked.
    async fn until_checked(&self) {
        let app = self.world.server().app();
        let period = || async {
            let mut tx = app.store.begin().await.unwrap();
            let period = Store::drift_period(&mut tx).await.unwrap();
            tx.rollback().await.unwrap();
            period
        };
        let wanted = period().await.current;
        until("a check", || async { period().await.checked >= wanted }).await;
    }

    async fn alarms(&self, query: &str) -> Vec<Value> {
        let alarms = self.world.get(&format!("/api/v1/drift/alarms{query}")).await;
        alarms.as_array().unwrap().clone()
    }

    async fn drifts(&self) -> Vec<Value> {
        let mut alarms = self.alarms("").await;
        alarms.retain(|alarm| alarm["cause"] == "drift");
        alarms
    }
}

async fn until<F: Future<Output = bool>>(what: &str, is: impl Fn() -> F) {
    let waiting = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what} in time"));
}

/// Publishes version 2 of the model, which is version 1 with something to watch.
async fn watch(world: &World, random: &mut Random) -> DriftSpec {
    let app = world.server().app();
    let first = app.store.release(&"digits@1".parse().unwrap()).await.unwrap().unwrap();
    let mut manifest: Manifest = first.manifest().unwrap();
    let sample: Vec<f32> = (0..10_000).map(|_| random.normal()).collect();
    let level = ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap());
    let classes = vec![("cat".to_owned(), 7_000), ("dog".to_owned(), 3_000)];
    let class = ReferenceValues::Category(CategoryReference::from_counts("class", classes, 0).unwrap());
    let feature = |name: &str, values| FeatureReference { name: name.into(), values };
    let source = |side, tensor: &str, reading| FeatureSource { side, tensor: tensor.into(), reading };
    let spec = DriftSpec {
        sources: vec![
            source(Side::Input, &manifest.inputs[0].name, Reading::Element { index: 0 }),
            source(Side::Output, &manifest.outputs[0].name, Reading::TopClass),
        ],
        reference: Reference::new(vec![feature("level", level), feature("class", class)]).unwrap(),
        capture: CapturePolicy::default(),
        guardrail: None,
    };
    manifest.release = release();
    manifest.drift = Some(spec.clone());
    let new = NewRelease {
        release: release(),
        manifest_json: serde_json::to_string(&manifest).unwrap(),
        content_digest: Digest::of(b"watched"),
        model_digest: manifest.model.digest,
        gate: "{}".into(),
        published_by: "test".into(),
    };
    let mut tx = app.store.begin().await.unwrap();
    Store::insert_release(&mut tx, &new, app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    spec
}

fn release() -> ReleaseId {
    "digits@2".parse().unwrap()
}

fn window(
    spec: &DriftSpec,
    random: &mut Random,
    device: &DeviceId,
    sequence: u64,
    rows: usize,
    twist: &Twist,
) -> Window {
    let mut recorder = FeatureWindow::new(Arc::new(spec.reference.clone()));
    for _ in 0..rows {
        let class = if random.uniform() < 0.7 { "cat" } else { "dog" };
        recorder.record(&[twist(device.as_str(), random.normal())], &[Some(class)]).unwrap();
    }
    let to_ms = super::server_world::device::now().as_millis();
    Window {
        reference: spec.reference.id(),
        origin: Origin { device: device.to_string(), boot: "boot-1".into() },
        sequence,
        from_ms: to_ms - 1_000,
        to_ms,
        stride: 1,
        features: recorder.seal().unwrap(),
    }
}

fn message(spec: &DriftSpec, window: &Window) -> Vec<u8> {
    SketchMessage { release: release(), window: &window.encode(&spec.reference).unwrap() }.encode()
}

#[tokio::test]
async fn a_broken_sensor_is_told_known_answered_and_over() {
    let mut plant = Plant::start().await;
    plant.bring(BASELINE, SOUND).await;
    plant.bring(300, SOUND).await;
    assert!(plant.alarms("").await.is_empty());
    let broken: &Twist = &|device, value| if device == "b-3" { value + 3.0 } else { value };
    plant.bring(300, broken).await;
    let drifts = plant.drifts().await;
    let [alarm] = drifts.as_slice() else { panic!("{drifts:?}") };
    assert_eq!(alarm["scope"], json!({"sensor": {"device": "b-3"}}));
    assert_eq!((&alarm["raised_by"], &alarm["state"]), (&json!("server"), &json!("open")));
    let wasserstein = &alarm["evidence"]["distances"]["numeric"]["wasserstein"];
    assert!(wasserstein["value"].as_f64().unwrap() > 2.0, "{alarm}");
    assert!(wasserstein["noise_floor"].as_f64().unwrap() < 0.2, "{alarm}");
    let id = alarm["id"].as_u64().unwrap();

    let world = &plant.world;
    let listed = world.said(&["drift", "alarms"]).await;
    assert!(listed.contains("b-3") && listed.contains("digits@2") && listed.contains("open"), "{listed}");
    let shown = world.said(&["drift", "show", &id.to_string()]).await;
    for part in ["level of b-3", "evidence", "Wasserstein", "300 rows of 1 devices"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let acknowledged = world.json(&["drift", "acknowledge", &id.to_string()]).await;
    assert_eq!((&acknowledged["state"], &acknowledged["relearns"]), (&json!("acknowledged"), &json!(false)));
    let (code, _, err) = world.run(&["drift", "acknowledge", &id.to_string()]).await;
    assert_eq!(code, 6, "{err}");

    let tried = world.json(&["drift", "relearn", "digits", "--device", "b-3", "--dry-run"]).await;
    assert_eq!(plant.drifts().await.len(), 1, "{tried}");
    let answered = plant.world.json(&["drift", "relearn", "digits", "--device", "b-3"]).await;
    assert_eq!(answered["releases"], json!(["digits@2"]));
    assert!(answered["closed"].as_array().unwrap().contains(&json!(id)));
    assert!(plant.drifts().await.is_empty());
    plant.bring(BASELINE, broken).await;
    for _ in 0..3 {
        plant.bring(300, broken).await;
    }
    assert!(plant.drifts().await.is_empty(), "that is normal for it now");

    let events = plant.world.get("/api/v1/events").await;
    let of_alarm: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["kind"] == "drift" && event["document"]["alarm"]["id"] == id)
        .map(|event| (event["subject"].as_str().unwrap(), event["document"]["event"].as_str().unwrap()))
        .collect();
    assert_eq!(of_alarm, [("digits", "drift.detected"), ("digits", "drift.closed")]);
    let told = plant.world.said(&["events"]).await;
    assert!(told.contains(&format!("alarm {id} is over")), "{told}");
    let audit = plant.world.get("/api/v1/audit").await.to_string();
    assert!(audit.contains("drift.acknowledge") && audit.contains("drift.relearn"), "{audit}");
}

#[tokio::test]
async fn what_moves_everywhere_or_at_one_site_is_told_as_that() {
    let mut plant = Plant::start().await;
    plant.bring(BASELINE, SOUND).await;
    let site: &Twist = &|device, value| if device.starts_with('a') { value + 0.9 } else { value };
    plant.bring(300, site).await;
    let drifts = plant.drifts().await;
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    assert_eq!(drifts[0]["scope"], json!({"stratum": {"key": "site", "value": "a"}}));

    let settings = plant.world.json(&["drift", "settings", "digits"]).await;
    assert_eq!(
        (&settings["is_default"], &settings["one_false_alarm_in_years"]),
        (&json!(true), &json!(10.0))
    );
    let set = ["drift", "settings", "digits", "--relearn", "when-acknowledged", "--suppress", "0s"];
    let settings = plant.world.json(&set).await;
    assert_eq!((&settings["is_default"], &settings["relearn"]), (&json!(false), &json!("when_acknowledged")));
    let id = drifts[0]["id"].as_u64().unwrap().to_string();
    let acknowledged = plant.world.json(&["drift", "acknowledge", &id]).await;
    assert_eq!(acknowledged["relearns"], true);
    plant.bring(20, site).await;
    let status = plant.world.json(&["drift", "status", "digits"]).await;
    let level = &status["versions"][0]["features"][1];
    assert_eq!((&level["feature"], &level["status"]["learning"]), (&json!("level"), &json!(6)), "{status}");
    plant.bring(BASELINE, site).await;

    plant.bring(300, &|device, value| if device.starts_with('a') { value } else { value - 0.9 }).await;
    let drifts = plant.drifts().await;
    assert_eq!(drifts[0]["scope"], "world", "{drifts:?}");
    let closed = plant.world.json(&["drift", "close", &id, "--reason", "winter"]).await;
    assert_eq!((&closed["state"], &closed["why"]), (&json!("closed"), &json!("winter")));
    assert!(plant.alarms("?state=closed").await.iter().any(|alarm| alarm["why"] == "winter"));
    assert_eq!(plant.alarms("?state=any&feature=class").await.len(), 0);
    let text = plant.world.said(&["drift", "status", "digits"]).await;
    assert!(text.contains("at most one in 10 years") && text.contains("version 2"), "{text}");
}

#[tokio::test]
async fn broken_data_are_told_beside_drift() {
    let mut plant = Plant::start().await;
    plant
        .bring(BASELINE, &|device, value| if device == "a-1" && value > 1.0 { MISSING } else { value })
        .await;
    let alarms = plant.alarms("").await;
    let missing: Vec<_> = alarms.iter().filter(|alarm| alarm["cause"] == "missing").collect();
    assert_eq!(missing.len(), 1, "{alarms:?}");
    assert_eq!(missing[0]["scope"]["sensor"]["device"], "a-1");
    assert!(missing[0]["text"].as_str().unwrap().contains("% missing"), "{missing:?}");
}

#[tokio::test]
async fn a_report_tells_strata_apart_and_counts_everything_once() {
    let mut plant = Plant::start().await;
    let site: &Twist = &|device, value| if device.starts_with('a') { value + 0.5 } else { value };
    for _ in 0..2 {
        plant.bring(200, site).await;
    }
    let world = &plant.world;
    let report = world.json(&["drift", "report", "digits"]).await;
    assert_eq!(report["release"], "digits@2", "the newest that devices run");
    let strata = report["strata"].as_array().unwrap();
    assert_eq!(strata.len(), 1);
    assert_eq!((&strata[0]["windows"], &strata[0]["features"][0]["rows"]), (&json!(24), &json!(4_800)));
    let bins = |of: &Value| of.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!(bins(&strata[0]["features"][0]["counts"]), 4_800);
    assert_eq!(bins(&report["features"][0]["reference"]), 10_000);
    let edges = report["features"][0]["edges"].as_array().unwrap().len();
    assert_eq!(strata[0]["features"][0]["counts"].as_array().unwrap().len(), edges + 1);
    assert_eq!(report["features"][1]["categories"], json!(["cat", "dog"]));

    let report = world.json(&["drift", "report", "digits", "--by", "site", "--since", "1h"]).await;
    let psi = |place: usize| report["strata"][place]["features"][0]["distances"]["numeric"]["psi"].clone();
    let names: Vec<_> = report["strata"].as_array().unwrap().iter().map(|of| of["stratum"].clone()).collect();
    assert_eq!(names, ["site=a", "site=b"]);
    assert_eq!((&psi(0)["reportable"], &psi(1)["reportable"]), (&json!(true), &json!(false)), "{report}");
    let text = world.said(&["drift", "report", "digits", "--by", "site"]).await;
    for part in ["STRATUM", "site=a", "reference", "█", "dog"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let one = world.said(&["drift", "report", "digits", "--feature", "level"]).await;
    assert!(one.contains("below ") && !one.contains("dog"), "{one}");
    for (words, code) in [
        (vec!["drift", "report", "faces"], 7),
        (vec!["drift", "report", "digits", "--version", "1"], 7),
        (vec!["drift", "report", "digits", "--feature", "colour"], 7),
        (vec!["drift", "report", "digits", "--by", "tier"], 1),
        (vec!["drift", "show", "99"], 7),
        (vec!["drift", "relearn", "digits", "--device", "nobody"], 7),
        (vec!["drift", "settings", "digits", "--one-false-alarm-in-years", "0"], 1),
    ] {
        let (got, _, err) = world.run(&words).await;
        assert_eq!(got, code, "{words:?}: {err}");
    }
    let file = world.folder.path().join("level.json").display().to_string();
    let export = ["drift", "export", "digits", "level", "--format", "json", "--file", &file, "--until"];
    let (code, _, err) = world.run(&[&export[..], &["2d"]].concat()).await;
    assert!(code == 1 && err.contains("ends before it begins"), "{err}");
    world.said(&[&export[..], &["1d", "--since", "2d"]].concat()).await;
    let exported: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(exported["windows"], json!([]), "nothing was counted before");
    let (_, _, err) = world.run(&["drift", "report", "digits", "--by", "tier"]).await;
    assert!(err.contains("they are by site, hardware, firmware") && err.contains("[drift] strata"), "{err}");
    let viewer = world.token(Role::Viewer).await;
    let path = "/api/v1/models/digits/drift/relearn";
    let (status, _) = world.post_as(&viewer, path, json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let hourly = world.get("/api/v1/models/digits/drift/windows?feature=level&stratum=site%3Da").await;
    let counted: u64 =
        hourly["windows"].as_array().unwrap().iter().map(|w| w["counted"]["rows"].as_u64().unwrap()).sum();
    assert_eq!((counted, &hourly["stratum"]), (2_400, &json!("site=a")));
}

#[tokio::test]
async fn a_window_that_is_not_believed_is_acknowledged_and_counts_nothing() {
    let world = World::start_with(|config| config.drift.check_secs = 604_800).await;
    world.publish("digits", 1).await;
    let mut random = Random(3);
    let spec = watch(&world, &mut random).await;
    let mut device = Device::join(&world, "cam-1").await;
    device.hello().await;
    let own = DeviceId::new("cam-1").unwrap();
    let mut of = |device: &str, sequence| {
        let device = DeviceId::new(device).unwrap();
        window(&spec, &mut random, &device, sequence, 100, SOUND)
    };
    let honest = message(&spec, &of("cam-1", 1));
    let foreign = message(&spec, &of("cam-2", 2));
    let mut other_reference = message(&spec, &of("cam-1", 3));
    other_reference[12] ^= 1;
    let unwatched = SketchMessage {
        release: "digits@1".parse().unwrap(),
        window: &of("cam-1", 4).encode(&spec.reference).unwrap(),
    }
    .encode();
    let mut cut = message(&spec, &of("cam-1", 5));
    cut.pop();
    let topic = Topic::up(own, Up::Sketches).to_string();
    for (sequence, bytes) in
        [(1, &honest), (2, &foreign), (3, &other_reference), (4, &unwatched), (5, &cut), (1, &honest)]
    {
        device
            .link
            .publish(topic.clone(), muster_link::Qos::AtLeastOnce, bytes.clone().into())
            .await
            .unwrap();
        let told: Value = serde_json::from_slice(&device.receive(Down::Acknowledgement).await).unwrap();
        assert_eq!((&told["stream"], &told["sequence"]), (&json!("sketch"), &json!(sequence)));
    }
    // What does not even say which window it is cannot be acknowledged; the link goes on.
    device.link.publish(topic, muster_link::Qos::AtLeastOnce, vec![9, 9].into()).await.unwrap();
    device.hello().await;
    let report = world.get("/api/v1/models/digits/drift/report?version=2").await;
    assert_eq!(
        (&report["strata"][0]["windows"], &report["strata"][0]["features"][0]["rows"]),
        (&json!(1), &json!(100))
    );
    let metrics = world.text("/metrics").await;
    let counted = |fate: &str| {
        let name = format!("muster_device_messages_total{{stream=\"sketch\",fate=\"{fate}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    assert_eq!((counted("stored"), counted("refused")), (2, 5), "{metrics}");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let world = World::start_with(|config| config.drift.check_secs = 604_800).await;
    let admin = Some(world.admin.as_str());
    for (path, status) in [
        ("/api/v1/models/digits/drift", StatusCode::NOT_FOUND),
        ("/api/v1/models/no%20name/drift", StatusCode::BAD_REQUEST),
        ("/api/v1/drift/alarms?state=half", StatusCode::BAD_REQUEST),
        ("/api/v1/drift/alarms/7", StatusCode::NOT_FOUND),
    ] {
        let (got, body) = world.request(&Method::GET, path, admin, None).await;
        assert_eq!(got, status, "{path}: {body}");
    }
}

#[tokio::test]
async fn a_release_whose_inputs_drift_is_taken_back_by_its_rollout() {
    let mut plant = Plant::start().await;
    plant.bring(BASELINE, SOUND).await;
    let (status, view) =
        plant.world.post("/api/v1/rollouts", json!({"release": "digits@2", "selector": "all"})).await;
    assert_eq!(status, StatusCode::CREATED, "{view}");
    let path = format!("/api/v1/rollouts/{}", view["status"]["id"].as_str().unwrap());
    plant.bring(300, &|_, value| value + 0.9).await;
    let world = &plant.world;
    until("the rollout is stopped", || async {
        let view = world.get(&path).await;
        matches!(view["status"]["state"]["kind"].as_str(), Some("rolling_back" | "rolled_back"))
    })
    .await;
    let view = world.get(&path).await;
    let reason = view["status"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("wave 1: level drifts on all devices: larger by"), "{reason}");
    let alarm = &plant.drifts().await[0];
    assert_eq!(view["status"]["waves"][0]["drift"]["number"], alarm["id"], "{view}");
}
