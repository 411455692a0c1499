//! Experiments, over real connections: two arms are compared, the worse one goes back, and the better one is adopted.

use std::collections::BTreeSet;

use crate::server_world::{
    World,
    device::Device,
    looks::{EARLIER_LOOKS, HISTORY, add_earlier_looks, answer_40, every_second, telemetry},
};
use muster::{auth::Role, config::Config};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::{ReleaseId, report::DeploymentEvent, telemetry::VersionFigures};

const COMMITTED: DeploymentEvent = DeploymentEvent::Committed { inferences: 50, failures: 0 };
const DEVICES: usize = 8;

/// Looks within which a factor of three is found, and many more.
const PATIENCE: usize = 20;

fn guarded(config: &mut Config) {
    config.rollouts.approval = vec!["site=berlin".parse().unwrap()];
}

/// Devices that all run `digits@1`; those of arm B report what B makes of them.
struct Fleet {
    world: World,
    devices: Vec<Device>,
    arm_b: BTreeSet<String>,
    rounds: u64,
    approver: String,
}

impl Fleet {
    async fn start(adapt: fn(&mut Config)) -> Self {
        let world = World::start_with(adapt).await;
        world.publish_two().await;
        let devices = world.join(DEVICES).await;
        let approver = world.token(Role::Approver).await;
        let mut fleet = Self { world, devices, arm_b: BTreeSet::new(), rounds: 0, approver };
        let body = json!({"release": "digits@1", "selector": "all"});
        let (_, first) = fleet.world.post("/api/v1/rollouts", body).await;
        let id = first["status"]["id"].as_str().unwrap();
        if first["status"]["state"]["kind"] == "awaiting_approval" {
            fleet.approve(id).await;
        }
        for device in &mut fleet.devices {
            let desired = device.until_generation(1).await;
            device.tell(desired.generation, COMMITTED).await;
        }
        fleet.world.until_rollout(id, |view| view["finished"] == true).await;
        fleet
    }

    async fn approve(&self, rollout: &str) {
        let path = format!("/api/v1/rollouts/{rollout}/approve");
        let (status, view) = self.world.post_as(&self.approver, &path, json!({"wave": 0})).await;
        assert_eq!(status, StatusCode::OK, "{view}");
    }

    /// Starts the experiment, and notes who is in arm B.
    async fn experiment(&mut self, more: Value) -> Value {
        let (status, view) = self.world.post("/api/v1/experiments", asked(more)).await;
        assert_eq!(status, StatusCode::CREATED, "{view}");
        self.arm_b = names(&view, "b");
        view
    }

    /// The devices of arm B take their release.
    async fn commit_b(&mut self) {
        for device in self.devices.iter_mut().filter(|device| self.arm_b.contains(device.id.as_str())) {
            let desired = device.until_generation(2).await;
            device.release = desired.assignments[0].release.clone();
            assert_eq!(device.release.to_string(), "digits@2");
            device.tell(desired.generation, COMMITTED).await;
        }
    }

    /// Every device reports, those of arm B with `factor` times their latency; then the server takes a look.
    async fn round(&mut self, factor: f64) {
        self.rounds += 1;
        let before = self.world.newest_look().await;
        for (n, device) in self.devices.iter_mut().enumerate() {
            let is_b = self.arm_b.contains(device.id.as_str());
            let release: ReleaseId = if is_b { "digits@2" } else { "digits@1" }.parse().unwrap();
            let factor = if is_b { factor } else { 1.0 };
            let mut figures = VersionFigures::new(release);
            answer_40(&mut figures, n, self.rounds, factor);
            device.send_telemetry(&telemetry(self.rounds, figures)).await;
        }
        self.world.until_look_after(before).await;
    }

    async fn rounds(&mut self, count: u64, factor: f64) {
        for _ in 0..count {
            self.round(factor).await;
        }
    }

    async fn show(&self) -> Value {
        self.world.get("/api/v1/experiments/speed").await
    }

    /// Rounds until the experiment is over.
    async fn until_over(&mut self, factor: f64) -> Value {
        for _ in 0..PATIENCE {
            let view = self.show().await;
            if view["finished"] == true {
                return view;
            }
            self.round(factor).await;
        }
        self.show().await
    }
}

/// An experiment with latency, on few devices.
fn asked(more: Value) -> Value {
    let latency = json!({"scale": "level", "worse": "higher", "margin": 0.02, "min_count": 10});
    let metrics = json!({"latency": {"measure": latency, "need": "always"}});
    let mut body = json!({
        "name": "speed", "a": "digits@1", "b": "digits@2", "selector": "all",
        "rules": {"min_devices": 3, "min_looks": 3, "metrics": metrics},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn names(view: &Value, arm: &str) -> BTreeSet<String> {
    let devices = view["status"]["arms"][arm]["devices"].as_array().unwrap().iter();
    devices.map(|assigned| assigned["device"].as_str().unwrap().to_owned()).collect()
}

fn rollout_of_b(view: &Value) -> String {
    view["status"]["arms"]["b"]["rollout"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slower_arm_goes_back_and_the_stored_evidence_gives_the_same_result() {
    let mut fleet = Fleet::start(every_second).await;
    fleet.rounds(HISTORY, 1.0).await;
    let view = fleet.experiment(json!({})).await;
    assert_eq!((view["phase"].as_str(), fleet.arm_b.len()), (Some("comparing"), DEVICES / 2), "{view}");
    assert_eq!(view["status"]["arms"]["a"]["rollout"], Value::Null, "A runs its release already");
    fleet.commit_b().await;
    fleet.round(1.0).await;
    fleet.world.restart().await;
    for device in &mut fleet.devices {
        device.until_connected().await;
    }
    let view = fleet.until_over(3.0).await;
    let reason = view["status"]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("A is better: latency of B is worse by"), "{view}");

    let arm_b = fleet.arm_b.clone();
    for device in fleet.devices.iter_mut().filter(|device| arm_b.contains(device.id.as_str())) {
        let desired = device.until_generation(3).await;
        assert_eq!(desired.assignments[0].release.to_string(), "digits@1");
    }
    let rollout = fleet.world.get(&format!("/api/v1/rollouts/{}", rollout_of_b(&view))).await;
    assert_eq!(rollout["status"]["state"]["kind"], "rolling_back", "{rollout}");
    assert_eq!(rollout["status"]["reason"], "ordered by experiment:speed");

    let report = fleet.world.get("/api/v1/experiments/speed/report").await;
    assert_eq!((&report["replays"], &report["looks_before"].is_u64()), (&json!(true), &true), "{report}");
    let latency = &report["metrics"][0];
    assert_eq!(
        (&latency["shown"]["kind"], &latency["devices"]),
        (&json!("b_worse"), &json!({"a": 4, "b": 4}))
    );
    assert!(latency["estimate"].as_f64().unwrap() > 0.5, "{latency}");
    // More than is read at once.
    add_earlier_looks(&fleet.world, "experiment_looks", "experiment").await;
    let longer = fleet.world.get("/api/v1/experiments/speed/report").await;
    let looks = |report: &Value| (report["looks_before"].as_u64().unwrap(), report["looks"].clone());
    assert_eq!(looks(&longer), (looks(&report).0 + EARLIER_LOOKS, looks(&report).1), "{longer}");
    assert_eq!((&longer["replays"], &longer["metrics"]), (&json!(true), &report["metrics"]));
    let text = fleet.world.muster("experiment report speed").await;
    assert!(text.contains("B is worse") && text.contains("gives the same result"), "{text}");
    let events = fleet.world.muster("events").await;
    assert!(events.contains("experiment over: A is better"), "{events}");
    let audit = fleet.world.get("/api/v1/audit").await.to_string();
    for action in ["experiment.start", "experiment.compare", "experiment.end"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faster_arm_wins_and_is_rolled_out_to_everybody_where_that_was_said() {
    let mut fleet = Fleet::start(every_second).await;
    fleet.rounds(HISTORY, 1.0).await;
    fleet.experiment(json!({"at_end": "adopt"})).await;
    fleet.commit_b().await;
    let view = fleet.until_over(0.33).await;
    let reason = view["status"]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("B is better: latency of A is worse by"), "{view}");
    assert_eq!(view["status"]["adoption"]["kind"], "started", "{view}");
    let arm_b = fleet.arm_b.clone();
    for device in fleet.devices.iter_mut().filter(|device| !arm_b.contains(device.id.as_str())) {
        let desired = device.until_generation(2).await;
        assert_eq!(desired.assignments[0].release.to_string(), "digits@2");
        device.release = "digits@2".parse().unwrap();
        device.tell(desired.generation, COMMITTED).await;
    }
    let adoption = view["status"]["adoption"]["rollout"].as_str().unwrap();
    let rollout = fleet.world.until_rollout(adoption, |view| view["finished"] == true).await;
    assert_eq!(rollout["status"]["state"]["kind"], "completed", "{rollout}");
    assert_eq!(rollout["status"]["blocked"].as_array().unwrap().len(), DEVICES / 2, "B runs it already");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_with_guarded_devices_waits_for_somebody_else_to_agree() {
    let mut fleet = Fleet::start(guarded).await;
    let view = fleet.experiment(json!({})).await;
    assert_eq!(view["phase"], "preparing", "{view}");
    let rollout = rollout_of_b(&view);
    let path = format!("/api/v1/rollouts/{rollout}/approve");
    let (status, problem) = fleet.world.post(&path, json!({"wave": 0})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("author_approves")), "{problem}");
    fleet.approve(&rollout).await;
    fleet.commit_b().await;
    assert_eq!(fleet.show().await["phase"], "comparing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_is_tried_started_once_shown_and_stopped_from_the_command_line() {
    let mut fleet = Fleet::start(|_| {}).await;
    let world = &fleet.world;
    let file = world.folder.path().join("experiment.toml");
    let text = "name = \"speed\"\na = \"digits@1\"\nb = \"digits@2\"\nselector = \"site=berlin\"\n[strategy]\npriority = 3\n";
    std::fs::write(&file, text).unwrap();
    let apply = format!("experiment apply -f {}", file.display());
    let tried = world.muster(&format!("{apply} --dry-run")).await;
    assert!(tried.contains("arm A: digits@1, 4 devices; all run it already"), "{tried}");
    assert_eq!(world.get("/api/v1/experiments").await, json!([]));
    let started = world.muster(&apply).await;
    let devices = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("    cam-")).map(str::to_owned).collect()
    };
    assert_eq!(devices(&tried), devices(&started), "a start deals as the trial did");
    assert_eq!(world.muster(&format!("{apply} -o name")).await, "speed\n");
    assert_eq!(world.muster("experiment list -o name").await, "speed\n");
    let view = world.get("/api/v1/experiments/speed").await;
    fleet.arm_b = names(&view, "b");
    fleet.commit_b().await;

    let world = &fleet.world;
    let other = ["experiment", "start", "speed", "digits@1", "digits@2", "--to", "all"];
    let (code, _, err) = world.run(&other).await;
    assert_eq!(code, 6, "{err}");
    let second = ["experiment", "start", "second", "digits@1", "digits@2", "--to", "all"];
    let (code, _, err) = world.run(&second).await;
    assert!(code == 1 && err.contains("in the experiment speed"), "{code}: {err}");
    let still = names(&view, "a");
    let why = world.muster(&format!("device why {}", still.first().unwrap())).await;
    assert!(why.contains("it is in arm A of experiment speed (comparing), with digits@1"), "{why}");
    let plan = world.said(&["rollout", "plan", "digits@2", "--to", "all"]).await;
    assert!(plan.starts_with("nobody would be asked") && plan.contains("left out: 8 devices"), "{plan}");
    let (code, _, err) = world.run(&["rollout", "start", "digits@2", "--to", "all"]).await;
    assert!(code == 1 && err.contains("none of the 8 selected devices can take it"), "{code}: {err}");

    let stop = ["experiment", "stop", "speed", "--reason", "enough", "--restore"];
    world.said(&[&stop[..], &["--dry-run"]].concat()).await;
    assert_eq!(world.get("/api/v1/experiments/speed").await["phase"], "comparing");
    let stopped = world.said(&stop).await;
    assert!(stopped.contains("stopped by admin: enough, and devices go back"), "{stopped}");
    assert_eq!(world.run(&stop).await.0, 6);
    assert_eq!(world.run(&["experiment", "report", "none"]).await.0, 7);
    let arm_b = fleet.arm_b.clone();
    for device in fleet.devices.iter_mut().filter(|device| arm_b.contains(device.id.as_str())) {
        assert_eq!(device.until_generation(3).await.assignments[0].release.to_string(), "digits@1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emergency_stop_ends_experiments_and_a_stopped_rollout_ends_its_own() {
    let mut fleet = Fleet::start(|_| {}).await;
    let view = fleet.experiment(json!({})).await;
    fleet.world.muster(&format!("rollout halt {} --reason smoke", rollout_of_b(&view))).await;
    let view = fleet.show().await;
    let reason = view["status"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("arm B stopped: rollout") && reason.ends_with("stopped by admin: smoke"),
        "{view}"
    );
    let view = fleet.experiment(json!({"name": "again", "at_end": "restore"})).await;
    let rollout = rollout_of_b(&view);
    fleet.world.muster("stop-everything --reason fire --yes").await;
    let view = fleet.world.get("/api/v1/experiments/again").await;
    assert_eq!(view["status"]["reason"], "stopped with everything else by admin: fire", "{view}");
    let view = fleet.world.get(&format!("/api/v1/rollouts/{rollout}")).await;
    assert_eq!(view["status"]["state"]["kind"], "halted", "nobody goes back in an emergency: {view}");
}
