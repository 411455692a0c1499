//! The metric verdict, over real connections: canaries that are slower are found and brought back.

use std::collections::BTreeSet;

use crate::server_world::{
    World,
    device::Device,
    looks::{EARLIER_LOOKS, HISTORY, add_earlier_looks, answer_40, every_second, telemetry},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::{
    MetricName, ReleaseId,
    report::DeploymentEvent,
    telemetry::{CustomKind, VersionFigures},
};

const COMMITTED: DeploymentEvent = DeploymentEvent::Committed { inferences: 50, failures: 0 };
const DEVICES: usize = 9;
const CANARIES: usize = 3;

/// What the candidate does to the figures of its devices, as factors.
#[derive(Clone, Copy)]
struct Candidate {
    latency: f64,
    /// The length of a queue, which an application reports.
    queue: f64,
}

const AS_BEFORE: Candidate = Candidate { latency: 1.0, queue: 1.0 };

/// A fleet that reports a window of figures before every look.
struct Fleet {
    world: World,
    devices: Vec<Device>,
    candidates: BTreeSet<String>,
    rounds: u64,
}

impl Fleet {
    async fn start() -> Self {
        let world = World::start_with(every_second).await;
        world.publish_two().await;
        let devices = world.join(DEVICES).await;
        Self { world, devices, candidates: BTreeSet::new(), rounds: 0 }
    }

    /// Every device reports, the canaries what the candidate makes of their figures; then the server takes a look.
    async fn round(&mut self, candidate: Candidate) {
        self.rounds += 1;
        let before = self.world.newest_look().await;
        for (n, device) in self.devices.iter_mut().enumerate() {
            let is_candidate = self.candidates.contains(device.id.as_str());
            let release: ReleaseId = if is_candidate { "digits@2" } else { "digits@1" }.parse().unwrap();
            let Candidate { latency, queue } = if is_candidate { candidate } else { AS_BEFORE };
            let mut figures = VersionFigures::new(release);
            answer_40(&mut figures, n, self.rounds, latency);
            let length = 4.0 + n as f64 + 0.2 * ((self.rounds * 5 + n as u64) % 7) as f64;
            let name = MetricName::new("queue").unwrap();
            (0..3).for_each(|_| figures.custom.record(&name, CustomKind::Gauge, length * queue));
            device.send_telemetry(&telemetry(self.rounds, figures)).await;
        }
        self.world.until_look_after(before).await;
    }

    async fn commit(&mut self, release: &str, generation: u64) {
        for device in &mut self.devices {
            if release == "digits@2" && !self.candidates.contains(device.id.as_str()) {
                continue;
            }
            let desired = device.until_generation(generation).await;
            device.release = release.parse().unwrap();
            device.tell(desired.generation, COMMITTED).await;
        }
    }
}

/// The rules of a small fleet, with these checks.
fn strategy(checks: Value) -> Value {
    let policy = json!({"min_canaries": CANARIES, "min_controls": 5, "min_looks": 3});
    let metrics = json!({"policy": policy, "checks": checks});
    json!({"waves": [{"share": {"count": CANARIES}}, {"share": "all"}], "metrics": metrics})
}

/// Runs v1 everywhere until it is known what is normal, then starts v2.
async fn canaries_of_v2(checks: Value) -> (Fleet, String) {
    let mut fleet = Fleet::start().await;
    let (_, first) =
        fleet.world.post("/api/v1/rollouts", json!({"release": "digits@1", "selector": "all"})).await;
    fleet.commit("digits@1", 1).await;
    let id = first["status"]["id"].as_str().unwrap();
    fleet.world.until_rollout(id, |view| view["finished"] == true).await;
    for _ in 0..HISTORY {
        fleet.round(AS_BEFORE).await;
    }
    let body = json!({"release": "digits@2", "selector": "all", "strategy": strategy(checks)});
    let (status, view) = fleet.world.post("/api/v1/rollouts", body).await;
    assert_eq!(status, StatusCode::CREATED, "{view}");
    let asked = view["status"]["devices"].as_array().unwrap().iter().filter(|device| device["wave"] == 0);
    fleet.candidates = asked.map(|device| device["device"].as_str().unwrap().to_owned()).collect();
    assert_eq!(fleet.candidates.len(), CANARIES);
    fleet.commit("digits@2", 2).await;
    (fleet, view["status"]["id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn slower_canaries_are_brought_back_and_the_stored_evidence_gives_the_same_verdict() {
    let (mut fleet, id) = canaries_of_v2(json!({})).await;
    let path = format!("/api/v1/rollouts/{id}");
    let mut view = fleet.world.get(&path).await;
    for _ in 0..20 {
        if view["status"]["state"]["kind"] == "rolling_back" {
            break;
        }
        fleet.round(Candidate { latency: 3.0, ..AS_BEFORE }).await;
        view = fleet.world.get(&path).await;
    }
    let reason = view["status"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("wave 1 is degraded") && reason.contains("latency"), "{view}");
    let candidates = fleet.candidates.clone();
    for device in fleet.devices.iter_mut().filter(|device| candidates.contains(device.id.as_str())) {
        let desired = device.until_generation(3).await;
        assert_eq!(desired.assignments[0].release.to_string(), "digits@1");
    }
    let explained = fleet.world.get(&format!("{path}/explain")).await;
    let wave = &explained["waves"][0];
    assert_eq!((&wave["replays"], &wave["candidate"]), (&json!(true), &json!("digits@2")), "{explained}");
    assert_eq!((&wave["canaries"], &wave["controls"]), (&json!(3), &json!(6)));
    // More than is read at once.
    add_earlier_looks(&fleet.world, "looks", "rollout").await;
    let longer = fleet.world.get(&format!("{path}/explain")).await["waves"][0].clone();
    assert_eq!(longer["looks_before"].as_u64(), wave["looks_before"].as_u64().map(|n| n + EARLIER_LOOKS));
    assert_eq!((&longer["replays"], &longer["records"]), (&json!(true), &wave["records"]));
    let text = fleet.world.muster(&format!("rollout explain {id}")).await;
    assert!(text.contains("degraded at look") && text.contains("gives the same verdicts"), "{text}");
    let audit = fleet.world.get("/api/v1/audit").await.to_string();
    assert!(audit.contains("rollout.verdict"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gauge_of_the_application_that_gets_worse_stops_the_rollout_and_one_that_nobody_reports_is_told() {
    let checks = json!({"custom:queue": {"margin": {"relative": 0.1}}, "custom:absent": {}});
    let (mut fleet, id) = canaries_of_v2(checks).await;
    let path = format!("/api/v1/rollouts/{id}");
    let mut view = fleet.world.get(&path).await;
    for _ in 0..20 {
        if view["status"]["state"]["kind"] == "rolling_back" {
            break;
        }
        fleet.round(Candidate { queue: 3.0, ..AS_BEFORE }).await;
        view = fleet.world.get(&path).await;
    }
    let reason = view["status"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("wave 1 is degraded") && reason.contains("custom:queue"), "{view}");
    let explained = fleet.world.get(&format!("{path}/explain")).await;
    let wave = &explained["waves"][0];
    assert_eq!(wave["replays"], json!(true), "{explained}");
    let first = wave["records"][0]["verdict"].to_string();
    assert!(first.contains("custom:absent") && first.contains("not_reported"), "{first}");
    let text = fleet.world.muster(&format!("rollout explain {id}")).await;
    assert!(text.lines().any(|line| line.trim().starts_with("custom:queue ")), "{text}");
    let canary = fleet.candidates.first().unwrap().clone();
    let shown = fleet.world.muster(&format!("device show {canary}")).await;
    assert!(shown.contains("digits@2  gauge queue"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_like_before_are_not_condemned_and_a_restart_goes_on_where_it_was() {
    let (mut fleet, id) = canaries_of_v2(json!({})).await;
    for _ in 0..3 {
        fleet.round(AS_BEFORE).await;
    }
    fleet.world.restart().await;
    for device in &mut fleet.devices {
        device.until_connected().await;
    }
    for _ in 0..3 {
        fleet.round(AS_BEFORE).await;
    }
    let explained = fleet.world.get(&format!("/api/v1/rollouts/{id}/explain")).await;
    let wave = &explained["waves"][0];
    assert_eq!(wave["replays"], json!(true), "{explained}");
    assert!(wave["records"].as_array().unwrap().len() >= 6, "{explained}");
    let view = fleet.world.get(&format!("/api/v1/rollouts/{id}")).await;
    let kind = view["status"]["state"]["kind"].as_str().unwrap();
    assert!(matches!(kind, "running" | "completed"), "{view}");
}
