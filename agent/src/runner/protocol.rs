//! What the daemon tells the runner, and what it hears back.
//!
//! The enums are tagged from outside: serde cannot read a histogram, whose keys are numbers, through a tag inside.

use muster_sketch::{reference::ReferenceId, window::FeatureCounts};
use serde::{Deserialize, Serialize};
use shared::{
    Digest, ReleaseId,
    challenger::{ChallengerFigures, Terms},
    device::Hardening,
    manifest::{Budgets, DriftSpec, Manifest, TensorSpec},
    telemetry::VersionFigures,
};

/// From the daemon to the runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Accept callers on these listening sockets, which travel as descriptors: TCP first, then Unix.
    Listeners {
        /// Whether there is a TCP listener.
        tcp: bool,
        /// Whether there is a Unix listener.
        unix: bool,
    },
    /// Load a version beside those that are loaded; the model travels as a descriptor.
    Load(Box<LoadRequest>),
    /// Let this loaded version answer the requests for its model from now on.
    Switch {
        /// Which version.
        release: ReleaseId,
    },
    /// Drop a version once the requests that it is answering are answered.
    Unload {
        /// Which version.
        release: ReleaseId,
    },
    /// Hand a share of what the model of this challenger is asked to the other end of the socket that travels along.
    Challenge {
        /// Who is there.
        challenger: ReleaseId,
        /// Which share, and how fast.
        terms: Terms,
    },
    /// Try what comes from the socket that travels along with this loaded version. It answers nobody.
    TrySamples {
        /// Which version.
        release: ReleaseId,
    },
    /// Tell that you still obey.
    Ping,
    /// Answer what was accepted, tell the last figures, end.
    Shutdown,
}

/// What the runner must know to load a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// Which version.
    pub release: ReleaseId,
    /// Digest of the model; it is checked at every load.
    pub model_digest: Digest,
    /// What goes in.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// What the model may cost.
    pub budgets: Budgets,
    /// What is watched for drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftSpec>,
    /// Every how manieth row is counted, where that was measured before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_every: Option<u32>,
}

impl LoadRequest {
    /// The load that a manifest asks for, without counting features: whether they can be counted is not the manifest's to say, and whoever
    /// tries a model sees other inputs than those who use it.
    #[must_use]
    pub fn from_manifest(manifest: &Manifest) -> Self {
        Self {
            release: manifest.release.clone(),
            model_digest: manifest.model.digest,
            inputs: manifest.inputs.clone(),
            outputs: manifest.outputs.clone(),
            budgets: manifest.budgets,
            drift: None,
            known_every: None,
        }
    }
}

/// Every how manieth row of a version is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// From 1 to [`MAX_THINNING`](muster_sketch::detector::MAX_THINNING).
    pub every: u32,
    /// Rows are alike for longer than that.
    pub beyond_limit: bool,
    /// From how many rows that was found.
    pub rows: u64,
}

/// It was found out every how manieth row of a version is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paced {
    /// Which version.
    pub release: ReleaseId,
    /// Whose features were looked at.
    pub reference: ReferenceId,
    /// What was found.
    pub pace: Pace,
}

/// A window of a version's features that has been closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sketched {
    /// Which version.
    pub release: ReleaseId,
    /// What its features were counted against.
    pub reference: ReferenceId,
    /// How long ago it began. It ends now: time of day is the daemon's business.
    pub age_ms: u64,
    /// Every how manieth row was counted.
    pub every: u32,
    /// The counts of each feature, in the order of the reference.
    pub features: Vec<FeatureCounts>,
}

/// From the runner to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// How far the process is locked in; the first event of every runner.
    LockedIn(Hardening),
    /// Callers are accepted.
    Ready,
    /// A version is loaded and warm.
    Loaded {
        /// Which version.
        release: ReleaseId,
        /// Time to load and warm.
        load_ms: u64,
        /// Resident memory that it added.
        memory_kib: u64,
    },
    /// A version could not be loaded.
    LoadFailed {
        /// Which version.
        release: ReleaseId,
        /// Why.
        detail: String,
    },
    /// A version was not loaded, because its bytes are not what was signed.
    Damaged {
        /// Which version.
        release: ReleaseId,
        /// What was found.
        detail: String,
    },
    /// A version answers from now on.
    Switched {
        /// Which version.
        release: ReleaseId,
    },
    /// A switch named a version that is not loaded.
    SwitchFailed {
        /// Which version.
        release: ReleaseId,
        /// Why.
        detail: String,
    },
    /// What a version did since it was last told: at the latest 20 ms after a failure, each second otherwise.
    Observed(Box<VersionFigures>),
    /// A window of features is closed: the manifest's time is over, or the version or the process ends.
    Sketched(Box<Sketched>),
    /// It was measured every how manieth row is counted.
    Paced(Box<Paced>),
    /// What was sampled of a champion, or what a challenger made of it, since it was last told; each second.
    Compared(Box<ChallengerFigures>),
    /// Threads are long past their deadline in this version, or past it in every thread of its model; then the process
    /// ends.
    Hung {
        /// Which version.
        release: ReleaseId,
        /// How many threads.
        threads: u32,
    },
    /// A version takes more memory than its budget allows; told once until it takes less again.
    MemoryExceeded {
        /// Which version.
        release: ReleaseId,
        /// What it takes.
        used_kib: u64,
        /// What it may take.
        budget_kib: u64,
    },
    /// The answer to a ping.
    Alive,
    /// A version is dropped, or was not there.
    Unloaded {
        /// Which version.
        release: ReleaseId,
    },
    /// The process ended. Made by the daemon's side; always the last.
    #[serde(skip)]
    Exited(Exit),
}

/// How a runner ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status, when it ended by itself. [`EXIT_STUCK`](super::EXIT_STUCK) and
    /// [`EXIT_REPLACE`](super::EXIT_REPLACE) are two of them.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// For people.
    pub detail: String,
}
