//! The trial: a candidate model is first loaded by a process that may die.
//!
//! A bad model can panic the engine, hang it, or eat the memory, and only a process of its own keeps the damage
//! away from the model that is being served. `muster-agent trial` is the same binary, used once: it checks the
//! digests again, looks into the structure, loads the model, replays the golden vectors and answers.
//!
//! What holds: address space (its own at the start plus the memory budget), CPU time, a wall clock on the daemon's
//! side, no environment, and the [sandbox](crate::sandbox), entered before a byte of the model is parsed.

mod child;

use std::{fs::File, io, os::fd::AsFd, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    Digest, ReleaseId,
    device::Hardening,
    manifest::{Budgets, Manifest, TensorSpec, Tolerance},
    report::{RejectReason, TrialFigures},
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr},
    time::timeout,
};

use crate::{
    runner::{channel::Receiver, child as process},
    sandbox::Reports,
};
pub use child::main;

/// Bytes kept of what a trial writes to its standard error: enough for the last words of a panic.
const MAX_STDERR_BYTES: u64 = 4_096;

/// What a trial may take beyond its budgets: starting a process on a busy, slow device.
const START_ALLOWANCE: Duration = Duration::from_secs(5);

/// Replaying may take this many times the latency budget before the trial is ended from outside; being merely
/// too slow is measured inside, and told with numbers.
const REPLAY_PATIENCE: u32 = 4;

/// No trial takes longer, whatever the manifest says.
const MAX_WALL_TIME: Duration = Duration::from_mins(30);

/// What the daemon asks of a trial; the model and the golden vectors travel as descriptors, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRequest {
    /// Which release it is about.
    pub release: ReleaseId,
    /// Digest of the model.
    pub model_digest: Digest,
    /// Digest of the golden vectors.
    pub golden_digest: Digest,
    /// What goes in.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// Number of golden cases.
    pub cases: u32,
    /// How far an output may lie from its golden value.
    pub tolerance: Tolerance,
    /// What the model may cost.
    pub budgets: Budgets,
}

/// What a trial answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialAnswer {
    /// How far the process is locked in; comes first, and is no answer yet.
    LockedIn(Hardening),
    /// The model may be activated.
    Passed(TrialFigures),
    /// It may not.
    Rejected(RejectReason),
}

impl TrialRequest {
    /// The trial that a manifest asks for.
    #[must_use]
    pub fn from_manifest(manifest: &Manifest) -> Self {
        Self {
            release: manifest.release.clone(),
            model_digest: manifest.model.digest,
            golden_digest: manifest.golden.artifact.digest,
            inputs: manifest.inputs.clone(),
            outputs: manifest.outputs.clone(),
            cases: manifest.golden.cases,
            tolerance: manifest.golden.tolerance,
            budgets: manifest.budgets,
        }
    }

    /// After this time the trial is killed.
    #[must_use]
    pub fn wall_time(&self) -> Duration {
        let load = Duration::from_millis(self.budgets.load_ms.into());
        let case = Duration::from_millis(self.budgets.latency_ms.into());
        let replay = case.saturating_mul(self.cases.saturating_add(1)).saturating_mul(REPLAY_PATIENCE);
        (START_ALLOWANCE + load).saturating_add(replay).min(MAX_WALL_TIME)
    }
}

/// Runs a trial to its end, within [`TrialRequest::wall_time`]. Dropping the future kills the process.
///
/// # Errors
/// With the reason for which the release must not be activated.
pub async fn run_trial(
    exe: &Path,
    request: TrialRequest,
    model: File,
    golden: File,
    reports: &Reports,
) -> Result<TrialFigures, RejectReason> {
    let wall_time = request.wall_time();
    run_trial_within(exe, request, model, golden, reports, wall_time).await
}

/// Like [`run_trial`], with a wall time of the caller's choice.
///
/// # Errors
/// With the reason for which the release must not be activated.
pub async fn run_trial_within(
    exe: &Path,
    request: TrialRequest,
    model: File,
    golden: File,
    reports: &Reports,
    wall_time: Duration,
) -> Result<TrialFigures, RejectReason> {
    let crashed = |detail: String| RejectReason::TrialCrashed { detail };
    let (mut child, mut sender, mut receiver) = process::start(exe, "trial")
        .map_err(|error| crashed(format!("cannot start {}: {error}", exe.display())))?;
    let stderr = child.stderr.take();
    let talk = async {
        // A child that dies early closes its end; how it died tells more than that.
        let _ = sender.send(&request, &[model.as_fd(), golden.as_fd()]).await;
        let (answer, stderr) = tokio::join!(verdict(&mut receiver, reports), last_words(stderr));
        (answer, stderr, child.wait().await)
    };
    let Ok((answer, stderr, status)) = timeout(wall_time, talk).await else {
        stop(child).await;
        let detail = format!("the trial did not end within {} ms", wall_time.as_millis());
        return Err(RejectReason::OverBudget { detail });
    };
    match answer {
        Some(TrialAnswer::Passed(figures)) => Ok(figures),
        Some(TrialAnswer::Rejected(reason)) => Err(reason),
        Some(TrialAnswer::LockedIn(_)) | None => {
            let end = status.map_or_else(|error| error.to_string(), process::describe);
            Err(died(&end, &stderr, &request.budgets))
        }
    }
}

/// What follows the word about the sandbox; nothing from a process that died before.
async fn verdict(receiver: &mut Receiver, reports: &Reports) -> Option<TrialAnswer> {
    let (answer, _) = receiver.recv().await.ok()??;
    let TrialAnswer::LockedIn(hardening) = answer else { return Some(answer) };
    reports.add(hardening);
    Some(receiver.recv().await.ok()??.0)
}

/// Starts a trial that is asked nothing, and gives what it tells about its sandbox.
///
/// # Errors
/// When the process cannot be started, or dies.
pub async fn probe(exe: &Path) -> io::Result<Hardening> {
    let (_child, sender, mut receiver) = process::start(exe, "trial")?;
    sender.finish()?;
    match receiver.recv::<TrialAnswer>().await? {
        Some((TrialAnswer::LockedIn(hardening), _)) => Ok(hardening),
        Some(_) | None => Err(io::Error::other("the trial said nothing of its sandbox")),
    }
}

async fn stop(mut child: Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "the trial process could not be killed");
    }
}

async fn last_words(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut words = Vec::new();
    // Errors end the reading, and what was read is told; the rest is drained so that the child never blocks.
    let _ = (&mut stderr).take(MAX_STDERR_BYTES).read_to_end(&mut words).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Rust's allocator says so before it aborts, which tells the commonest death from the others.
fn died(end: &str, stderr: &str, budgets: &Budgets) -> RejectReason {
    if stderr.contains("memory allocation of") {
        let detail = format!("the trial needed more than the memory budget of {} MiB", budgets.memory_mib);
        return RejectReason::OverBudget { detail };
    }
    let separator = if stderr.is_empty() { "" } else { ": " };
    RejectReason::TrialCrashed { detail: format!("{end}{separator}{stderr}") }
}
