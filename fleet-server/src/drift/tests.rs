//! A plant of devices behind a whole server, whose windows are stored as the gateway stores them and whose checks are made at
//! moments of the test's own.

mod aside;
mod baselines;
mod dying;
mod guardrail;
mod telling;

use std::{path::PathBuf, sync::Arc, time::Duration};

use fleet_core::drift::FleetAlarm;
use muster_sketch::{
    reference::{CategoryReference, FeatureReference, NumericReference, Reference, ReferenceValues},
    window::{FeatureWindow, Origin, Window},
};
use shared::{
    BootId, DeviceId, Digest, ReleaseId, Timestamp,
    artifact::{Artifact, Encoding, Packed},
    device::{Inventory, Labels},
    manifest::{
        Budgets, CapturePolicy, DataType, Dim, DriftSpec, FeatureSource, Golden, Lineage, MANIFEST_FORMAT,
        Manifest, ProbationPolicy, Reading, Runtime, Side, TensorSpec, Tolerance,
    },
    trust::Signer,
};
use tokio_util::sync::CancellationToken;

use super::{check::Check, task::close};
use crate::{
    app::App,
    config::Config,
    server::Server,
    store::{EventRow, NewDevice, NewRelease, SketchRow, Store, tests::scene::Scene},
};

/// Rows with which a device has a baseline.
const BASELINE: usize = 1_100;

const CHECK_SECS: u32 = 3_600;

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

/// What is different about the level of a device.
type Twist = dyn Fn(&str, f32) -> f32 + Sync;

const SOUND: &Twist = &|_, value| value;

/// Devices `a-0` to `a-5` at the site `a` and as many at `b`, which run one version of a model, and `c-0` to `c-5` at `c` and
/// so on for every further version.
struct Plant {
    server: Server,
    folder: tempfile::TempDir,
    random: Random,
    versions: Vec<(ReleaseId, Arc<DriftSpec>, Vec<DeviceId>)>,
    now: Timestamp,
    sequence: u64,
}

impl Plant {
    async fn start(scene: &Scene, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = start(&folder, scene).await;
        let now = Timestamp(server.app().clock.now().as_millis() + 86_400_000);
        let mut plant = Self { server, folder, random: Random(seed), versions: vec![], now, sequence: 0 };
        // The check that is due when the server starts has nothing to look at; the next ones are the test's.
        plant.until_idle().await;
        plant.add_version(&["a", "b"]).await;
        plant
    }

    fn app(&self) -> &Arc<App> {
        self.server.app()
    }

    /// The next version, which six devices of each site run.
    async fn add_version(&mut self, sites: &[&str]) {
        let number = self.versions.len() + 1;
        let release: ReleaseId = format!("digits@{number}").parse().unwrap();
        let spec = spec(&mut self.random);
        let store = &self.app().store;
        let mut tx = store.begin().await.unwrap();
        Store::insert_release(&mut tx, &new_release(&release, &spec), self.now).await.unwrap();
        let mut devices = Vec::new();
        for site in sites {
            for n in 0..6 {
                let id = DeviceId::new(format!("{site}-{n}")).unwrap();
                assert!(Store::insert_device(&mut tx, &new_device(&id, site), self.now).await.unwrap());
                devices.push(id);
            }
        }
        tx.commit().await.unwrap();
        self.versions.push((release, Arc::new(spec), devices));
    }

    /// Every device of the versions named sends a window of so many rows.
    async fn bring(&mut self, versions: &[usize], rows: usize, twist: &Twist) {
        self.sequence += 1;
        self.now = self.now + Duration::from_secs(CHECK_SECS.into());
        for &version in versions {
            let (release, spec, devices) = self.versions[version].clone();
            let windows: Vec<_> = devices
                .iter()
                .map(|device| {
                    let of = (device, self.now, self.sequence);
                    let window = window(&spec, &mut self.random, of, rows, twist);
                    let boot = BootId::new("boot-1").unwrap();
                    SketchRow { device: device.clone(), boot, release: release.clone(), window }
                })
                .collect();
            let drift = &self.app().drift;
            let stored = self.app().store.insert_windows(&windows, &drift.keep, &drift.strata, self.now);
            stored.await.unwrap();
        }
    }

    /// Closes the period, without checking it.
    async fn close(&mut self) -> u64 {
        self.now = self.now + Duration::from_secs(CHECK_SECS.into());
        let (period, at) =
            close(self.app(), self.now).await.unwrap().expect("this server checks, and it is time");
        assert_eq!(at, self.now);
        period
    }

    async fn check_period(&self, period: u64) {
        let stop = CancellationToken::new();
        Check { app: self.app(), period, now: self.now, stop: &stop }.run().await.unwrap();
    }

    async fn check(&mut self) {
        let period = self.close().await;
        self.check_period(period).await;
    }

    /// All devices of these versions bring what is usual until they have a baseline.
    async fn learn(&mut self, versions: &[usize]) {
        self.bring(versions, BASELINE, SOUND).await;
        self.check().await;
    }

    async fn alarms(&self) -> Vec<FleetAlarm> {
        self.app().store.alarms(&crate::store::AlarmFilter::default()).await.unwrap()
    }

    async fn drifts(&self) -> Vec<FleetAlarm> {
        let mut alarms = self.alarms().await;
        alarms.retain(|alarm| alarm.found.cause.word() == "drift");
        alarms
    }

    async fn events(&self) -> Vec<EventRow> {
        self.app().store.every_event_after(0).await.unwrap()
    }

    /// What is known of every feature, packed and in figures, as it is written.
    async fn known(&self) -> Vec<String> {
        let mut known = Vec::new();
        for (release, spec, _) in &self.versions {
            for feature in spec.reference.features() {
                let state = self.app().store.drift_state(release, &feature.name).await.unwrap();
                known.push(format!("{release} {} {:?}", feature.name, state));
            }
        }
        let statuses = self.app().store.drift_statuses(&self.versions[0].0.model).await.unwrap();
        known.push(serde_json::to_string(&statuses).unwrap());
        known.push(serde_json::to_string(&self.alarms().await).unwrap());
        known
    }

    async fn until_idle(&self) {
        until_idle(self.app()).await;
    }
}

/// Waits until no period is closed and not checked.
async fn until_idle(app: &App) {
    let idle = async {
        loop {
            let mut tx = app.store.begin().await.unwrap();
            let period = Store::drift_period(&mut tx).await.unwrap();
            tx.rollback().await.unwrap();
            if period.current > 1 && period.due().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), idle).await.expect("checks are finished");
}

/// Window `sequence` of a device, which ends at `now`.
fn window(
    spec: &DriftSpec,
    random: &mut Random,
    (device, now, sequence): (&DeviceId, Timestamp, u64),
    rows: usize,
    twist: &Twist,
) -> Window {
    let mut recorder = FeatureWindow::new(Arc::new(spec.reference.clone()));
    for _ in 0..rows {
        let (level, heat) = (random.normal(), random.normal());
        let class = if random.uniform() < 0.7 { "cat" } else { "dog" };
        recorder.record(&[twist(device.as_str(), level), heat], &[Some(class)]).unwrap();
    }
    let to_ms = now.as_millis();
    Window {
        reference: spec.reference.id(),
        origin: Origin { device: device.to_string(), boot: "boot-1".into() },
        sequence,
        from_ms: to_ms - 600_000,
        to_ms,
        stride: 1,
        features: recorder.seal().unwrap(),
    }
}

async fn start(folder: &tempfile::TempDir, scene: &Scene) -> Server {
    let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.mqtt.listen = "127.0.0.1:0".parse().unwrap();
    config.drift.check_secs = CHECK_SECS;
    config.database.url = scene.url().map(str::to_owned);
    Box::pin(Server::start(config, PathBuf::from("no gate is opened here"))).await.unwrap()
}

fn spec(random: &mut Random) -> DriftSpec {
    let mut numeric = |name: &str| {
        let sample: Vec<f32> = (0..10_000).map(|_| random.normal()).collect();
        let values = ReferenceValues::Numeric(NumericReference::from_sample(name, &sample).unwrap());
        FeatureReference { name: name.into(), values }
    };
    let (level, heat) = (numeric("level"), numeric("heat"));
    let classes = vec![("cat".to_owned(), 7_000), ("dog".to_owned(), 3_000)];
    let values = ReferenceValues::Category(CategoryReference::from_counts("class", classes, 0).unwrap());
    let class = FeatureReference { name: "class".into(), values };
    let source = |side, tensor: &str, reading| FeatureSource { side, tensor: tensor.into(), reading };
    DriftSpec {
        sources: vec![
            source(Side::Input, "x", Reading::Element { index: 0 }),
            source(Side::Input, "x", Reading::Element { index: 1 }),
            source(Side::Output, "p", Reading::TopClass),
        ],
        reference: Reference::new(vec![level, heat, class]).unwrap(),
        capture: CapturePolicy::default(),
        guardrail: None,
    }
}

fn new_release(release: &ReleaseId, spec: &DriftSpec) -> NewRelease {
    let digest = Digest::of(release.to_string().as_bytes());
    let packed =
        Packed { encoding: Encoding::Stored, digest, size_bytes: 1, block_bytes: 1, blocks: vec![digest] };
    let artifact = Artifact { digest, size_bytes: 1, packed };
    let tensor = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: vec![Dim::Symbol("N".into()), Dim::Fixed(2)],
    };
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        release: release.clone(),
        published_at: Timestamp(1),
        runtime: Runtime { format: "onnx".into(), opsets: [].into(), operators: [].into() },
        inputs: vec![tensor("x")],
        outputs: vec![tensor("p")],
        model: artifact.clone(),
        golden: Golden { artifact, cases: 1, tolerance: Tolerance::default() },
        reference: None,
        drift: Some(spec.clone()),
        budgets: Budgets::default(),
        probation: ProbationPolicy::default(),
        lineage: Lineage::default(),
    };
    NewRelease {
        release: release.clone(),
        manifest_json: serde_json::to_string(&manifest).unwrap(),
        content_digest: digest,
        model_digest: digest,
        gate: "{}".into(),
        published_by: "test".into(),
    }
}

fn new_device(id: &DeviceId, site: &str) -> NewDevice {
    NewDevice {
        id: id.clone(),
        certificate_serial: "40aa".into(),
        report_key: Signer::from_seed(&[7; 32]).public().clone(),
        labels: Labels::from([("site".into(), site.into())]),
        inventory: Inventory::default(),
    }
}
