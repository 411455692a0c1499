//! What the daemon tells its operator on this device, and the one thing that can be asked of it there.
//!
//! HTTP with JSON over `control.sock` in the data directory. That socket is not the serving one: whoever may ask for
//! inferences need not be allowed to read what the fleet decided here, and must not take a version back. The names of
//! the fields are promised to scripts; they are listed in `docs/device-commands.md`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`StatusView`] |
//! | `POST /v1/models/{model}/rollback` | [`ModelView`] after going back |
//!
//! Anything else, and a refusal, is answered by a [`ProblemView`].

pub mod client;
mod why;

use std::path::{Path, PathBuf};

use agent_core::{ModelStatus, Outcome};
use serde::{Deserialize, Serialize};
use shared::{
    BootId, DeviceId, Digest, Generation, ModelName, ReleaseId, Timestamp, challenger::ChallengerState,
    device::Hardening, report::DeploymentEvent, telemetry::DriftAlarm,
};

pub use why::{drift_of, reasons, reasons_of};

/// Path of [`StatusView`].
pub const STATUS_PATH: &str = "/v1/status";

/// Where the daemon of a data directory listens.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Where a model is taken back.
#[must_use]
pub fn rollback_path(model: &str) -> String {
    format!("/v1/models/{model}/rollback")
}

/// The daemon at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Name of the device in the fleet.
    pub device: DeviceId,
    /// Version of the program.
    pub agent_version: String,
    /// This run of the daemon.
    pub boot: BootId,
    /// Process id of the daemon.
    pub pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// How long ago that was.
    pub uptime_secs: u64,
    /// The newest desired state that was verified here.
    pub generation: Generation,
    /// True when everything of it was taken in.
    pub taken_in: bool,
    /// The session with the server.
    pub link: LinkView,
    /// What passed the link since the daemon was started.
    pub traffic: TrafficView,
    /// What time it is, and who says so.
    pub clock: ClockView,
    /// The process that runs models.
    pub runner: RunnerView,
    /// How far models are locked in; absent until a process that touches them has told.
    pub hardening: Option<Hardening>,
    /// Free space of the file system of the data directory.
    pub disk_free_mib: u64,
    /// What waits for the server.
    pub waiting: WaitingView,
    /// When the device's certificate ends; absent when it cannot be read.
    pub certificate_until: Option<Timestamp>,
    /// Models that were refused or rolled back here, and are remembered.
    pub remembered_bad: u64,
    /// Inputs that did not fit the state since the start; a few are normal.
    pub refused_inputs: u64,
    /// Every model that is assigned.
    pub models: Vec<ModelView>,
    /// Every release that shall run beside one of them.
    #[serde(default)]
    pub challengers: Vec<ChallengerState>,
    /// Every release whose features are watched for drift.
    #[serde(default)]
    pub drift: Vec<DriftView>,
}

/// What is counted of a release's features in this run of the daemon, and what the device made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftView {
    /// Which release.
    pub release: ReleaseId,
    /// Why none of its features is counted, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<String>,
    /// Every how manieth row is counted; absent while that is measured, and then none is.
    pub every: Option<u32>,
    /// Rows are alike for longer than that: drift may be told that is none.
    pub beyond_limit: bool,
    /// Rows in the windows that were closed.
    pub rows: u64,
    /// Windows that were closed. They wait with telemetry until the server has them.
    pub windows: u64,
    /// Windows that found no room on their way.
    pub windows_lost: u64,
    /// Whether the device raises alarms by itself.
    pub guardrail: bool,
    /// Those that it raised, also in earlier runs, oldest first.
    pub alarms: Vec<DriftAlarm>,
}

/// The session with the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// `host:port` of the broker.
    pub server: String,
    /// True while the session stands.
    pub up: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// The last failure of a connection or of an attempt at one, and when it was.
    pub last_error: Option<ErrorView>,
}

/// Bytes over all connections to the broker, counted below TLS: what a metered network bills, short of the headers of TCP and
/// IP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficView {
    /// To the server.
    pub sent_bytes: u64,
    /// From the server.
    pub received_bytes: u64,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// When.
    pub at: Timestamp,
    /// What, in words.
    pub words: String,
}

/// The agent's clock beside the system's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockView {
    /// What the agent goes by.
    pub now: Timestamp,
    /// What the system's clock says.
    pub system: Timestamp,
    /// Whether the two agree.
    pub trust: ClockTrust,
}

/// Whether the system's clock is what the agent goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockTrust {
    /// The system's clock is followed.
    System,
    /// The system's clock is behind the earliest moment that it can be: the agent counts from there.
    Floor,
    /// The system's clock has gone ahead since the daemon was started.
    Ahead,
}

/// Clocks closer than this agree: between two readings some time passes, and network time is slewed.
const CLOCK_TOLERANCE_MS: u64 = 5_000;

impl ClockView {
    /// Compares the two clocks.
    #[must_use]
    pub fn of(now: Timestamp, system: Timestamp) -> Self {
        let trust = match () {
            () if now.as_millis().abs_diff(system.as_millis()) <= CLOCK_TOLERANCE_MS => ClockTrust::System,
            () if system < now => ClockTrust::Floor,
            () => ClockTrust::Ahead,
        };
        Self { now, system, trust }
    }
}

/// The process that runs models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerView {
    /// `absent`, `starting`, `ready`, or `cooling` after it ended too often.
    pub state: String,
    /// Its process id while there is one.
    pub pid: Option<u32>,
}

/// What waits for the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingView {
    /// Reports about deployments.
    pub reports: u64,
    /// Reports that were dropped for want of room, ever.
    pub reports_lost: u64,
    /// Windows of telemetry.
    pub telemetry: u64,
    /// Windows of telemetry and of features that were dropped, for want of room or because nobody took them.
    pub telemetry_lost: u64,
}

/// One model on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelView {
    /// Which model.
    pub model: ModelName,
    /// The version that is kept.
    pub committed: Option<ReleaseId>,
    /// The version that is on its way or on probation.
    pub candidate: Option<ReleaseId>,
    /// Step of the candidate: `idle`, `transferring`, `self_testing`, `activating` or `probation`.
    pub step: String,
    /// What the candidate waits for, in words; empty without a candidate.
    pub detail: String,
    /// How the last deployment ended.
    pub last: Option<LastView>,
    /// The last version that was rejected or rolled back here, and why.
    pub last_bad: Option<LastView>,
    /// Model files on the disk.
    pub held: Vec<HeldView>,
    /// Their bytes together.
    pub held_bytes: u64,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastView {
    /// The desired state that asked for it.
    pub generation: Generation,
    /// Which version.
    pub release: ReleaseId,
    /// How it ended, with its evidence.
    pub event: DeploymentEvent,
}

/// A model file on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    /// Digest of its content.
    pub digest: Digest,
    /// Its size; 0 when it cannot be read.
    pub size_bytes: u64,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// For programs: `not_found`, `conflict` or `failed`.
    pub code: ProblemCode,
    /// For people.
    pub detail: String,
}

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// There is no such model or address.
    NotFound,
    /// The model is not in a state that allows it.
    Conflict,
    /// Something else failed.
    Failed,
}

impl ModelView {
    /// What the core says of a model, with the sizes of its files.
    #[must_use]
    pub fn of(status: ModelStatus, size_of: impl Fn(&Digest) -> u64) -> Self {
        let ModelStatus { state, detail, last, last_bad } = status;
        let size = |digest: Digest| HeldView { size_bytes: size_of(&digest), digest };
        let held: Vec<HeldView> = state.held.into_iter().map(size).collect();
        let held_bytes = held.iter().map(|held| held.size_bytes).sum();
        let view = |Outcome { generation, release, event }| LastView { generation, release, event };
        let (last, last_bad) = (last.map(view), last_bad.map(view));
        let (model, committed, candidate, step) = (state.model, state.committed, state.candidate, state.step);
        Self { model, committed, candidate, step, detail, last, last_bad, held, held_bytes }
    }
}

/// Says which models there are, to somebody who named another.
#[must_use]
pub fn unknown_model(name: &str, known: &[ModelView]) -> ProblemView {
    let name: String = name.chars().take(shared::id::MAX_NAME_LEN).collect();
    let known: Vec<&str> = known.iter().map(|view| view.model.as_str()).collect();
    let there = match known.as_slice() {
        [] => "it runs none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    };
    ProblemView { code: ProblemCode::NotFound, detail: format!("this device has no model '{name}'; {there}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use muster_sketch::detector::{Alarm, Direction, ScoreName, Sign};
    use shared::device::HardeningLevel;

    use super::*;

    pub(crate) fn status() -> StatusView {
        StatusView {
            device: DeviceId::new("cam-1").unwrap(),
            agent_version: "0.1.0".into(),
            boot: BootId::new("b1").unwrap(),
            pid: 7,
            started_at: Timestamp(1_800_000_000_000),
            uptime_secs: 90,
            generation: Generation(4),
            taken_in: true,
            link: LinkView {
                server: "fleet.example:8883".into(),
                up: true,
                since: Timestamp(1_800_000_001_000),
                last_error: None,
            },
            traffic: TrafficView { sent_bytes: 4_096, received_bytes: 2_097_152 },
            clock: ClockView::of(Timestamp(1_800_000_090_000), Timestamp(1_800_000_090_001)),
            runner: RunnerView { state: "ready".into(), pid: Some(8) },
            hardening: Some(Hardening { level: HardeningLevel::Partial, missing: vec!["network".into()] }),
            disk_free_mib: 512,
            waiting: WaitingView::default(),
            certificate_until: Some(Timestamp(1_802_592_000_000)),
            remembered_bad: 0,
            refused_inputs: 0,
            models: vec![model()],
            challengers: vec![ChallengerState {
                release: "digits@2".parse().unwrap(),
                order: 5,
                step: "running".into(),
                detail: String::new(),
            }],
            drift: vec![drift()],
        }
    }

    pub(crate) fn drift() -> DriftView {
        let direction = Direction { score: ScoreName::Location, sign: Sign::Up };
        let alarm = Alarm {
            direction,
            evidence: 2e6,
            threshold: 1e6,
            at_secs: 1_800_000_080,
            since_secs: 1_800_000_020,
            checks: 3,
            samples: 600,
            shift: 0.5,
        };
        let release: ReleaseId = "digits@1".parse().unwrap();
        DriftView {
            alarms: vec![DriftAlarm { release: release.clone(), feature: "ink".into(), alarm }],
            release,
            uncounted: None,
            every: Some(4),
            beyond_limit: false,
            rows: 1_200,
            windows: 5,
            windows_lost: 0,
            guardrail: true,
        }
    }

    pub(crate) fn model() -> ModelView {
        ModelView {
            model: ModelName::new("digits").unwrap(),
            committed: Some("digits@1".parse().unwrap()),
            candidate: None,
            step: "idle".into(),
            detail: String::new(),
            last: None,
            last_bad: None,
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    #[test]
    fn a_clock_that_starts_in_1970_shows_as_the_floor() {
        let now = Timestamp(1_800_000_000_000);
        assert_eq!(ClockView::of(now, Timestamp(4_000)).trust, ClockTrust::Floor);
        assert_eq!(ClockView::of(now, Timestamp(1_800_000_004_999)).trust, ClockTrust::System);
        assert_eq!(ClockView::of(now, Timestamp(1_900_000_000_000)).trust, ClockTrust::Ahead);
    }

    #[test]
    fn whoever_names_an_unknown_model_hears_the_known_ones() {
        let problem = unknown_model("digit", &[model()]);
        assert_eq!(problem.detail, "this device has no model 'digit'; it has digits");
        assert_eq!(unknown_model("x", &[]).detail, "this device has no model 'x'; it runs none");
    }

    #[test]
    fn the_fields_that_scripts_read_keep_their_names() {
        let json = serde_json::to_value(status()).unwrap();
        let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let documented = include_str!("../../docs/device-commands.md");
        for name in names.iter().chain(&[
            "held_bytes",
            "last_error",
            "reports_lost",
            "telemetry_lost",
            "trust",
            "sent_bytes",
            "uncounted",
            "every",
            "beyond_limit",
            "windows_lost",
            "guardrail",
            "alarms",
        ]) {
            assert!(documented.contains(&format!("`{name}`")), "`{name}` is not in the documentation");
        }
        assert_eq!(json["clock"]["trust"], "system");
        assert_eq!(json["models"][0]["committed"], "digits@1");
        assert_eq!(serde_json::from_value::<StatusView>(json).unwrap(), status());
    }
}
