//! The port between the core and the shell: what goes in, what comes out, and when to come back.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    BootId, Digest, Generation, ModelName, ReleaseId,
    artifact::Artifact,
    block::{BlockMap, Run},
    challenger::{Challenger, ChallengersDocument, Terms},
    maintenance::MaintenanceWindows,
    manifest::Manifest,
    message::{Assignment, DirectorDocument},
    report::{FailReason, RejectReason, Report, TrialFigures},
    telemetry::Counts,
    trust::Verified,
};
use thiserror::Error;

use crate::event::Event;

/// What the shell may set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Spreads the retries of many devices; any number that differs between devices will do.
    pub jitter_seed: u64,
    /// When new versions may begin to answer, unless the director says so; `None` for any time.
    pub maintenance: Option<MaintenanceWindows>,
    /// How far local time is ahead of UTC; [`Input::LocalTime`] tells when that changes.
    pub utc_offset_secs: i32,
}

/// Something happened. It can be written down whole; what is read is never a verified desired state, which only
/// verification makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The session with the server stands.
    Connected,
    /// The session with the server is gone.
    Disconnected,

    /// A desired state came; the shell keeps the signed document. The number is a hint and decides nothing.
    DesiredArrived {
        /// Generation that the message claims.
        generation: Generation,
    },
    /// The desired state and what it names were checked. Every manifest is durable in the store already.
    #[serde(skip_deserializing)]
    DesiredVerified {
        /// The director's word.
        director: Verified<DirectorDocument>,
        /// Assignments whose manifest was verified, with the digest of that manifest.
        manifests: Vec<(Assignment, Digest, Verified<Manifest>)>,
        /// Assignments that were refused, and why.
        refused: Vec<(Assignment, RejectReason)>,
    },
    /// The desired state as a whole was refused.
    DesiredRefused {
        /// Generation that was to be verified.
        generation: Generation,
        /// What does not hold.
        detail: String,
        /// True when trying again may help: metadata did not arrive, or is about to be renewed.
        retry: bool,
    },

    /// A document of challengers came; the shell keeps the signed document. The number is a hint and decides nothing.
    ChallengersArrived {
        /// Revision that the message claims.
        revision: u64,
    },
    /// The document and what it names were checked. Every manifest is durable in the store already.
    #[serde(skip_deserializing)]
    ChallengersVerified {
        /// The director's word.
        document: Verified<ChallengersDocument>,
        /// Challengers whose manifest was verified, with the digest of that manifest.
        manifests: Vec<(Challenger, Digest, Verified<Manifest>)>,
        /// Challengers that were refused, and why.
        refused: Vec<(Challenger, String)>,
    },
    /// The document as a whole was refused.
    ChallengersRefused {
        /// Revision that was to be verified.
        revision: u64,
        /// What does not hold.
        detail: String,
        /// True when trying again may help.
        retry: bool,
    },

    /// Space is reserved and the partial file is open.
    StagingOpened {
        /// Packed digest.
        packed: Digest,
        /// Blocks that were here already.
        here: BlockMap,
    },
    /// The unpacked artifact is published in the store already.
    AlreadyHere {
        /// Packed digest.
        packed: Digest,
    },
    /// No space, or the disk failed; also later, while blocks are written.
    StagingFailed {
        /// Packed digest.
        packed: Digest,
        /// Why.
        reason: FailReason,
    },
    /// A block was verified and written.
    BlockStored {
        /// Packed digest.
        packed: Digest,
        /// Which block.
        index: u32,
        /// Its size.
        bytes: u32,
    },
    /// A block came whose digest is wrong.
    BlockRefused {
        /// Packed digest.
        packed: Digest,
        /// Which block.
        index: u32,
    },
    /// The server is over its budget.
    RetryAfter {
        /// Packed digest.
        packed: Digest,
        /// How long to wait.
        delay: Duration,
    },
    /// The server does not have the artifact.
    ArtifactGone {
        /// Packed digest.
        packed: Digest,
    },
    /// The artifact was unpacked, verified as a whole and published in the store.
    Unpacked {
        /// Packed digest.
        packed: Digest,
    },
    /// The blocks do not unpack to the signed artifact.
    UnpackFailed {
        /// Packed digest.
        packed: Digest,
        /// What is wrong.
        reason: RejectReason,
    },

    /// The trial process passed.
    TrialPassed {
        /// What was tried.
        release: ReleaseId,
        /// What it measured.
        figures: TrialFigures,
    },
    /// The trial process failed, died or met a limit.
    TrialFailed {
        /// What was tried.
        release: ReleaseId,
        /// Why it is refused.
        reason: RejectReason,
    },

    /// The runner takes commands; nothing is loaded in it.
    RunnerReady,
    /// The runner ended without being asked to, or could not be started.
    RunnerExited {
        /// How it ended.
        detail: String,
    },
    /// The runner ended itself to be rid of a thread that hangs in a version that was taken out of it. Nothing that was
    /// in it is to blame.
    RunnerReplaced,
    /// The runner has loaded and warmed a version.
    Loaded {
        /// Which.
        release: ReleaseId,
        /// How long it took.
        load_ms: u64,
    },
    /// The runner could not load a version.
    LoadFailed {
        /// Which.
        release: ReleaseId,
        /// What the engine said.
        detail: String,
    },
    /// A version could not be loaded because its model on the disk is gone, or no longer what was signed.
    ArtifactDamaged {
        /// Which.
        release: ReleaseId,
        /// What was found.
        detail: String,
    },
    /// Requests for the model now reach this version.
    Switched {
        /// Which.
        release: ReleaseId,
    },
    /// What a version did since the last observation.
    Observed {
        /// Which.
        release: ReleaseId,
        /// The increase of each count.
        counts: Counts,
    },

    /// A version took more memory than its manifest allows. The shell attributes what is measured: where several models
    /// share the runner, it names the one whose memory grew.
    MemoryExceeded {
        /// Which.
        release: ReleaseId,
        /// What it takes.
        used_kib: u64,
        /// What it may take.
        budget_kib: u64,
    },
    /// Threads of the runner are long past their deadline in this version, or past it in every thread that its model
    /// has; then the runner ends. What was counted comes before.
    Hung {
        /// Which.
        release: ReleaseId,
        /// How many threads.
        threads: u32,
    },
    /// The process of a challenger has loaded it and takes samples.
    ChallengerRuns {
        /// Which.
        release: ReleaseId,
    },
    /// The process of a challenger ended without being asked to, or could not be begun.
    ChallengerEnded {
        /// Which.
        release: ReleaseId,
        /// How.
        end: ChallengerEnd,
    },
    /// A person on the device sends the candidate of a model back to the committed version.
    OperatorRollback {
        /// Which model.
        model: ModelName,
    },

    /// The server has stored a report.
    ReportAcknowledged {
        /// Boot in which the report was made.
        boot: BootId,
        /// Its number in that boot.
        sequence: u64,
    },
    /// The device's time zone, or its summer time, has changed.
    LocalTime {
        /// How far local time is ahead of UTC now.
        utc_offset_secs: i32,
    },
    /// The agent ends in order: runner and trials have ended already, and every input of theirs was handed over. Nothing
    /// follows but the ledger, which must be made durable once more.
    Stopped,
    /// Time has passed; due at [`poll_timeout`](crate::Agent::poll_timeout), harmless at any other moment.
    Tick,
}

/// How the process of a challenger ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengerEnd {
    /// It died, hung, or could not be started: it may be tried again.
    Crashed {
        /// How, for people.
        detail: String,
    },
    /// It cannot be loaded, or took more memory than its manifest allows: it would again.
    Refused {
        /// Why, for people.
        detail: String,
    },
    /// Its model on the disk is gone, or no longer what was signed.
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The device is short of memory, which is not the challenger's fault.
    Shortage {
        /// With the numbers.
        detail: String,
    },
}

impl fmt::Display for ChallengerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed { detail } => write!(f, "its process ended: {detail}"),
            Self::Refused { detail } => f.write_str(detail),
            Self::Damaged { detail } => write!(f, "its model is damaged on the disk: {detail}"),
            Self::Shortage { detail } => write!(f, "memory is short: {detail}"),
        }
    }
}

/// Something to do, after the ledger was made durable and in the order in which it is polled.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Check the signatures of the newest desired state; answered by `DesiredVerified` or `DesiredRefused` in
    /// any case, also when the session ends meanwhile (`retry`).
    Verify {
        /// Generation that the message claims.
        generation: Generation,
    },
    /// Check the signatures of the newest document of challengers; answered by `ChallengersVerified` or
    /// `ChallengersRefused` in any case.
    VerifyChallengers {
        /// Revision that the message claims.
        revision: u64,
    },
    /// Look at every byte of what is published, and else reserve space and open the partial file; answered by `StagingOpened`, `AlreadyHere` or `StagingFailed`.
    OpenStaging {
        /// What will come.
        artifact: Artifact,
    },
    /// Ask the server for blocks.
    Request {
        /// Packed digest.
        packed: Digest,
        /// Size of a block.
        block_bytes: u32,
        /// Which blocks.
        runs: Vec<Run>,
    },
    /// Unpack, verify the whole and publish; answered by `Unpacked` or `UnpackFailed`.
    Unpack {
        /// What is complete.
        artifact: Artifact,
    },

    /// Run the trial process; answered by `TrialPassed` or `TrialFailed` within the shell's time limit.
    RunTrial {
        /// What to try.
        release: ReleaseId,
        /// Its manifest.
        manifest: Box<Manifest>,
    },
    /// End a trial whose answer nobody wants any more, so that it does not hold up the next one. An answer that is
    /// under way is refused.
    CancelTrial {
        /// What is being tried.
        release: ReleaseId,
    },
    /// Start the runner unless it runs; answered by `RunnerReady` or `RunnerExited`.
    EnsureRunner,
    /// End the runner: no model is left. Its end is not reported.
    StopRunner,
    /// Load and warm a version beside what is there; answered by `Loaded`, `LoadFailed` or `RunnerExited`
    /// within the shell's time limit.
    Load {
        /// Which.
        release: ReleaseId,
        /// Its manifest.
        manifest: Box<Manifest>,
    },
    /// Let requests reach this version; answered by `Switched`.
    Switch {
        /// Which.
        release: ReleaseId,
    },
    /// Drain and drop a version.
    Unload {
        /// Which.
        release: ReleaseId,
    },

    /// Start a process for a challenger and give it a share of its champion's inputs; answered by `ChallengerRuns` or
    /// `ChallengerEnded`, and by the latter also whenever it ends later.
    StartChallenger {
        /// Which.
        release: ReleaseId,
        /// Its manifest.
        manifest: Box<Manifest>,
        /// On which terms.
        terms: Terms,
    },
    /// End the process of a challenger, if there is one. Its end is not reported.
    StopChallenger {
        /// Which.
        release: ReleaseId,
    },

    /// Sign and publish a report. It comes again after every reconnect until it is acknowledged.
    Send {
        /// The report.
        report: Report,
    },
    /// Remove everything else from the store.
    CollectGarbage {
        /// Digests of models, golden vectors and manifests that are needed, packed and unpacked.
        keep: BTreeSet<Digest>,
    },
    /// Write a log line.
    Note(Event),
}

/// What the next wake-up is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wakeup {
    /// Check the desired state again.
    Verify(Generation),
    /// Ask again for blocks that did not come, or that the server was too busy to send.
    Transfer(ModelName),
    /// A maintenance window opens.
    Window(ModelName),
    /// The time of probation is over.
    Probation(ModelName),
    /// Start the runner again.
    Runner,
    /// Load a committed version again that could not be loaded.
    Load(ModelName),
    /// Check the challengers again.
    VerifyChallengers(u64),
    /// A challenger may go on, or its time is over.
    Challenger(ModelName),
}

/// An input that does not fit the state. It is counted and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The desired state is older than what this device has seen.
    #[error("generation {found} is lower than {known}, which this device has seen")]
    StaleGeneration {
        /// What came.
        found: Generation,
        /// What is known.
        known: Generation,
    },
    /// The document of challengers is older than what this device has seen.
    #[error("challengers of revision {found}, where this device has seen {known}")]
    StaleChallengers {
        /// What came.
        found: u64,
        /// What is known.
        known: u64,
    },
    /// The document names more challengers than a device runs.
    #[error("{0} challengers; a device runs at most {max}", max = shared::challenger::MAX_CHALLENGERS)]
    TooManyChallengers(usize),
    /// The desired state is for another device.
    #[error("the desired state is for device {0}")]
    OtherDevice(String),
    /// The desired state names more models than a device runs.
    #[error("{0} models are assigned; a device runs at most {max}", max = crate::MAX_MODELS)]
    TooManyModels(usize),
    /// Nobody waits for this artifact, or not for this news of it.
    #[error("{what} of artifact {packed} is not expected now")]
    UnexpectedArtifact {
        /// What came.
        what: &'static str,
        /// Packed digest.
        packed: Digest,
    },
    /// Nobody waits for this version, or not for this news of it.
    #[error("{what} of {release} is not expected now")]
    UnexpectedRelease {
        /// What came.
        what: &'static str,
        /// Which version.
        release: ReleaseId,
    },
    /// The agent has ended.
    #[error("the agent has stopped")]
    Stopped,
    /// There is no such model, no candidate that answers, or no committed version behind it.
    #[error("{model} cannot go back: {why}")]
    NothingToGoBackTo {
        /// Which model.
        model: ModelName,
        /// What is missing.
        why: &'static str,
    },
    /// The runner is not in a state in which this can happen.
    #[error("the runner was not asked for {0}")]
    UnexpectedRunner(&'static str),
    /// A block map does not have the number of blocks that the manifest says.
    #[error("a map of {found} blocks where the manifest says {expected}")]
    BlockMap {
        /// What came.
        found: u32,
        /// What the manifest says.
        expected: u32,
    },
    /// No such report waits.
    #[error("no report {boot}/{sequence} waits for an acknowledgement")]
    UnknownReport {
        /// Boot named.
        boot: BootId,
        /// Number named.
        sequence: u64,
    },
}
