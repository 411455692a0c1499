//! What became of a deployment, as the device tells it: states, reasons and evidence.
//!
//! Reports gate rollouts, so the device signs them. Signed documents hold integers only: rates are parts per
//! million and times are milliseconds.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{BootId, DeviceId, Digest, Generation, ModelName, ReleaseId},
    time::Timestamp,
};

/// A report of a device about one deployment. The pair (`boot`, `sequence`) names it for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub device: DeviceId,
    /// In which run of the agent the report was made.
    pub boot: BootId,
    /// Number of the report within the boot, from 1.
    pub sequence: u64,
    /// When it happened, by the device's clock.
    pub at: Timestamp,
    /// The desired state that asked for it.
    pub generation: Generation,
    /// Which model version it is about.
    pub release: ReleaseId,
    /// What happened.
    pub event: DeploymentEvent,
}

/// What happened to a deployment. Committed, rejected, failed and rolled back end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DeploymentEvent {
    /// Blocks are being fetched.
    Transferring {
        /// Bytes that will travel.
        size_bytes: u64,
        /// Bytes that were here already.
        resumed_bytes: u64,
    },
    /// Every artifact is here and verified.
    Staged {
        /// Bytes that travelled in this boot.
        fetched_bytes: u64,
    },
    /// The trial process passed.
    SelfTested(TrialFigures),
    /// The version answers requests and is watched.
    Probation,
    /// The version is kept.
    Committed {
        /// Inferences seen in probation.
        inferences: u64,
        /// How many of them failed.
        failures: u64,
    },
    /// The version was never activated and will not be tried again.
    Rejected(RejectReason),
    /// The version could not be brought to the device for now; asking again may help.
    Failed(FailReason),
    /// The version was activated and went back.
    RolledBack(RollbackReason),
    /// The desired state no longer names this version; nothing was wrong with it.
    Superseded,
}

impl DeploymentEvent {
    /// True when nothing follows for this deployment.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Committed { .. }
            | Self::Rejected(_)
            | Self::Failed(_)
            | Self::RolledBack(_)
            | Self::Superseded => true,
            Self::Transferring { .. } | Self::Staged { .. } | Self::SelfTested(_) | Self::Probation => false,
        }
    }
}

/// What the trial process measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialFigures {
    /// Time to load and warm.
    pub load_ms: u64,
    /// Median latency over the golden cases.
    pub latency_p50_us: u64,
    /// Slowest golden case.
    pub latency_max_us: u64,
    /// Peak resident memory of the trial process.
    pub peak_memory_kib: u64,
    /// Golden cases replayed.
    pub cases: u32,
}

/// Why a version was refused before it was activated. None of these is retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum RejectReason {
    /// Signatures, thresholds, expiry or digests do not hold.
    Untrusted {
        /// What does not hold.
        detail: String,
    },
    /// The manifest contradicts itself or is of an unknown format.
    BadManifest {
        /// What is wrong.
        detail: String,
    },
    /// This device cannot run it: engine, operator, memory.
    Incompatible {
        /// What is missing.
        detail: String,
    },
    /// The bytes do not unpack to the signed artifact.
    BadArtifact {
        /// What is wrong.
        detail: String,
    },
    /// The structure of the model is refused before it is parsed.
    BadStructure {
        /// What is wrong.
        detail: String,
    },
    /// The engine cannot load the model.
    LoadFailed {
        /// Which operator or shape.
        detail: String,
    },
    /// An output differs from its golden value.
    GoldenMismatch {
        /// Which case, counted from 0.
        case: u32,
        /// Which output, and by how much.
        detail: String,
    },
    /// The trial was slower, larger or longer than the budget.
    OverBudget {
        /// Which budget, with both numbers.
        detail: String,
    },
    /// The trial process died.
    TrialCrashed {
        /// How it ended.
        detail: String,
    },
    /// This digest was rejected or rolled back here before.
    RememberedBad {
        /// The digest of the model.
        digest: Digest,
    },
    /// The model is pinned to what is committed here. It is not remembered as bad.
    Pinned {
        /// What it stays on.
        committed: ReleaseId,
    },
    /// The device is in quarantine. The version is not remembered as bad.
    Quarantined {
        /// Why the device is.
        detail: String,
    },
}

/// Why a version did not arrive. Another attempt may succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum FailReason {
    /// The file system or the configured quota is too small.
    DiskFull {
        /// What is needed.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// Reading or writing failed.
    Storage {
        /// What the system said.
        detail: String,
    },
    /// The server does not have the artifact.
    ArtifactGone {
        /// Its packed digest.
        digest: Digest,
    },
    /// The network did not carry it within the bound of attempts.
    Network {
        /// What was tried.
        detail: String,
    },
}

/// Why an activated version went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum RollbackReason {
    /// Too many inferences failed.
    Failures(Evidence),
    /// Too many inferences were slower than the budget.
    Slow(Evidence),
    /// The runner could not load it although the trial could.
    LoadFailed {
        /// What the engine said.
        detail: String,
    },
    /// It was started too often without reaching the end of probation.
    CrashLoop {
        /// How often it was started.
        starts: u32,
    },
    /// It took more memory than its manifest allows.
    Memory {
        /// What it took.
        used_kib: u64,
        /// What it may take.
        budget_kib: u64,
        /// Inferences watched until then.
        inferences: u64,
        /// Time from activation to the measurement.
        after_ms: u64,
    },
    /// Threads of the runner hung in it.
    Hung {
        /// How many.
        threads: u32,
        /// Inferences watched until then, the hung ones among them.
        inferences: u64,
        /// Time from activation until that was certain.
        after_ms: u64,
    },
    /// A person on the device asked for it.
    Operator,
    /// The server asked for it.
    Ordered,
}

/// What a sequential test saw when it decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Inferences watched.
    pub inferences: u64,
    /// How many were bad.
    pub bad: u64,
    /// Of these, outputs that were not finite.
    pub non_finite: u64,
    /// The rate that would have been fine.
    pub good_ppm: u32,
    /// The rate that is not.
    pub bad_ppm: u32,
    /// Log₂ of the likelihood ratio when it crossed, in thousandths.
    pub log2_ratio_milli: i64,
    /// Log₂ of the threshold, in thousandths.
    pub log2_threshold_milli: i64,
    /// Time from activation to the decision.
    pub after_ms: u64,
}

/// What a device runs of one model, told in its hello and shown by its own command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelState {
    /// Which model.
    pub model: ModelName,
    /// The version that is kept.
    pub committed: Option<ReleaseId>,
    /// The version that is on its way or on probation.
    pub candidate: Option<ReleaseId>,
    /// Step of the candidate, for people: `transferring`, `probation`, …
    pub step: String,
    /// Digests of model artifacts that are on the disk.
    pub held: Vec<Digest>,
}

impl fmt::Display for DeploymentEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transferring { size_bytes, resumed_bytes } => {
                write!(f, "transferring {size_bytes} bytes, {resumed_bytes} were here")
            }
            Self::Staged { fetched_bytes } => write!(f, "staged, {fetched_bytes} bytes fetched"),
            Self::SelfTested(figures) => write!(f, "self-test passed: {figures}"),
            Self::Probation => f.write_str("on probation"),
            Self::Committed { inferences, failures } => {
                write!(f, "committed after {inferences} inferences, {failures} failed")
            }
            Self::Rejected(reason) => write!(f, "rejected: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::RolledBack(reason) => write!(f, "rolled back: {reason}"),
            Self::Superseded => f.write_str("superseded: it is no longer asked for"),
        }
    }
}

impl fmt::Display for TrialFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} golden cases, {} us median", self.cases, self.latency_p50_us)
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted { detail } => write!(f, "not trusted: {detail}"),
            Self::BadManifest { detail } => write!(f, "manifest refused: {detail}"),
            Self::Incompatible { detail } => write!(f, "cannot run here: {detail}"),
            Self::BadArtifact { detail } => write!(f, "artifact refused: {detail}"),
            Self::BadStructure { detail } => write!(f, "model structure refused: {detail}"),
            Self::LoadFailed { detail } => write!(f, "model does not load: {detail}"),
            Self::GoldenMismatch { case, detail } => write!(f, "golden case {case}: {detail}"),
            Self::OverBudget { detail } => write!(f, "over budget: {detail}"),
            Self::TrialCrashed { detail } => write!(f, "trial process died: {detail}"),
            Self::RememberedBad { digest } => {
                write!(f, "model {digest} was refused or rolled back here before")
            }
            Self::Pinned { committed } => write!(f, "the model is pinned to {committed}"),
            Self::Quarantined { detail } => write!(f, "the device is in quarantine: {detail}"),
        }
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull { needed_bytes, free_bytes } => {
                write!(f, "disk full: {needed_bytes} bytes needed, {free_bytes} free")
            }
            Self::Storage { detail } => write!(f, "storage: {detail}"),
            Self::ArtifactGone { digest } => write!(f, "the server no longer has artifact {digest}"),
            Self::Network { detail } => write!(f, "network: {detail}"),
        }
    }
}

impl fmt::Display for RollbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures(e) => write!(
                f,
                "{} of {} inferences failed ({} with non-finite outputs) within {} ms",
                e.bad, e.inferences, e.non_finite, e.after_ms
            ),
            Self::Slow(e) => write!(
                f,
                "{} of {} inferences were over the latency budget within {} ms",
                e.bad, e.inferences, e.after_ms
            ),
            Self::LoadFailed { detail } => write!(f, "the runner could not load it: {detail}"),
            Self::CrashLoop { starts } => write!(f, "started {starts} times without passing probation"),
            Self::Memory { used_kib, budget_kib, inferences, after_ms } => write!(
                f,
                "it took {used_kib} KiB of memory where {budget_kib} KiB are allowed, \
                 after {inferences} inferences and {after_ms} ms"
            ),
            Self::Hung { threads, inferences, after_ms } => {
                let threads = if *threads == 1 { "one thread".into() } else { format!("{threads} threads") };
                write!(
                    f,
                    "it hung in {threads} of its runner, after {inferences} inferences and {after_ms} ms"
                )
            }
            Self::Operator => f.write_str("sent back by a person on the device"),
            Self::Ordered => f.write_str("ordered by the server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_told_in_words() {
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
        let figures = TrialFigures { cases: 8, latency_p50_us: 183, ..TrialFigures::default() };
        let mismatch = RejectReason::GoldenMismatch { case: 3, detail: "output 'y'".into() };
        let pinned = RejectReason::Pinned { committed: "digits@1".parse().unwrap() };
        let gone = FailReason::Network { detail: "3 attempts".into() };
        for (event, words) in [
            (
                DeploymentEvent::Transferring { size_bytes: 35_282, resumed_bytes: 0 },
                "transferring 35282 bytes, 0 were here",
            ),
            (DeploymentEvent::Staged { fetched_bytes: 35_282 }, "staged, 35282 bytes fetched"),
            (DeploymentEvent::SelfTested(figures), "self-test passed: 8 golden cases, 183 us median"),
            (DeploymentEvent::Probation, "on probation"),
            (
                DeploymentEvent::Committed { inferences: 120, failures: 0 },
                "committed after 120 inferences, 0 failed",
            ),
            (DeploymentEvent::Rejected(mismatch), "rejected: golden case 3: output 'y'"),
            (DeploymentEvent::Failed(gone), "failed: network: 3 attempts"),
            (
                DeploymentEvent::RolledBack(RollbackReason::Failures(evidence)),
                "rolled back: 39 of 300 inferences failed (39 with non-finite outputs) within 1200 ms",
            ),
            (
                DeploymentEvent::RolledBack(RollbackReason::Operator),
                "rolled back: sent back by a person on the device",
            ),
            (DeploymentEvent::Rejected(pinned), "rejected: the model is pinned to digits@1"),
            (DeploymentEvent::Superseded, "superseded: it is no longer asked for"),
        ] {
            assert_eq!(event.to_string(), words);
        }
    }
}
