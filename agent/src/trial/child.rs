//! The inside of the trial process: limits first, then the model.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use muster_engine::{
    Engine as _, Golden, GoldenFailure, InspectError, Session, TractEngine, inspect, replay,
};
use rustix::process::Resource;
use shared::report::{RejectReason, TrialFigures};

use super::{TrialAnswer, TrialRequest};
use crate::{
    runner::{
        channel::{self, Sender},
        file::read_verified,
        proc_self,
        schema::agree,
    },
    sandbox::{self, Entrance, Role, lower},
};

/// Runs one trial for the daemon at the other end of the standard input.
#[must_use]
pub fn main() -> ExitCode {
    let entrance = Entrance::begin(Role::Trial);
    match tokio::runtime::Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => {
            runtime.block_on(serve_one(entrance)).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(_) => ExitCode::FAILURE,
    }
}

async fn serve_one(entrance: Entrance) -> io::Result<()> {
    let (mut sender, mut receiver) = channel::from_stdin()?;
    let Some((request, files)) = receiver.recv::<TrialRequest>().await? else {
        return lock_in(entrance, &mut sender).await;
    };
    let [model, golden] = <[OwnedFd; 2]>::try_from(files)
        .map_err(|files| io::Error::other(format!("{} files instead of two", files.len())))?;
    sandbox::prepare();
    set_limits(&request)?;
    lock_in(entrance, &mut sender).await?;
    let answer = match judge(&request, &File::from(model), &File::from(golden)) {
        Ok(figures) => TrialAnswer::Passed(figures),
        Err(reason) => TrialAnswer::Rejected(reason),
    };
    sender.send(&answer, &[]).await
}

/// This thread is the only one.
async fn lock_in(entrance: Entrance, sender: &mut Sender) -> io::Result<()> {
    sender.send(&TrialAnswer::LockedIn(entrance.enter()), &[]).await
}

fn set_limits(request: &TrialRequest) -> io::Result<()> {
    let address_space = proc_self::address_space_kib() * 1_024 + memory_budget_bytes(request);
    lower(Resource::As, address_space)
        .and_then(|()| lower(Resource::Cpu, request.wall_time().as_secs() + 1))
        .map_err(io::Error::other)
}

fn memory_budget_bytes(request: &TrialRequest) -> u64 {
    u64::from(request.budgets.memory_mib) * 1_024 * 1_024
}

/// verify → inspect → load → replay → weigh
fn judge(request: &TrialRequest, model: &File, golden: &File) -> Result<TrialFigures, RejectReason> {
    let before_kib = proc_self::peak_memory_kib();
    let bad_artifact =
        |name: &str, detail| RejectReason::BadArtifact { detail: format!("the {name} {detail}") };
    let model = read_verified(model, &request.model_digest).map_err(|text| bad_artifact("model", text))?;
    let golden =
        read_verified(golden, &request.golden_digest).map_err(|text| bad_artifact("golden file", text))?;
    let golden = Golden::read(&golden).map_err(|error| bad_manifest(error.to_string()))?;
    check_structure(request, &model)?;
    let (session, load_time) = load(request, model)?;
    let figures = replay(&*session, &golden, &request.tolerance, &request.budgets).map_err(reject)?;
    let peak_memory_kib = proc_self::peak_memory_kib();
    check_memory(request, peak_memory_kib.saturating_sub(before_kib))?;
    Ok(TrialFigures {
        load_ms: millis(load_time),
        latency_p50_us: figures.latency_p50_us,
        latency_max_us: figures.latency_max_us,
        peak_memory_kib,
        cases: figures.cases,
    })
}

fn check_structure(request: &TrialRequest, model: &Bytes) -> Result<(), RejectReason> {
    let inspected = inspect(model).map_err(|error| match error {
        InspectError::UnsupportedOperator { .. } => RejectReason::Incompatible { detail: error.to_string() },
        InspectError::NotOnnx(_) | InspectError::Structure { .. } => {
            RejectReason::BadStructure { detail: error.to_string() }
        }
    })?;
    agree("inputs", &request.inputs, &inspected.inputs)
        .and_then(|()| agree("outputs", &request.outputs, &inspected.outputs))
        .map_err(bad_manifest)
}

fn load(request: &TrialRequest, model: Bytes) -> Result<(Box<dyn Session>, Duration), RejectReason> {
    let started = Instant::now();
    let session = TractEngine
        .load(model, &request.inputs, &request.outputs)
        .and_then(|session| session.warm().map(|()| session))
        .map_err(|error| RejectReason::LoadFailed { detail: error.to_string() })?;
    let taken = started.elapsed();
    let budget_ms = request.budgets.load_ms;
    if millis(taken) > u64::from(budget_ms) {
        let detail = format!("loading took {} ms; the budget is {budget_ms} ms", millis(taken));
        return Err(RejectReason::OverBudget { detail });
    }
    Ok((session, taken))
}

fn reject(failure: GoldenFailure) -> RejectReason {
    let detail = failure.to_string();
    match failure {
        GoldenFailure::Unfit(_) => bad_manifest(detail),
        GoldenFailure::Engine { case, error } => {
            RejectReason::GoldenMismatch { case, detail: error.to_string() }
        }
        GoldenFailure::WrongOutput { case, error } => {
            RejectReason::GoldenMismatch { case, detail: error.to_string() }
        }
        GoldenFailure::Mismatch { case, detail } => RejectReason::GoldenMismatch { case, detail },
        GoldenFailure::TooSlow { .. } => RejectReason::OverBudget { detail },
    }
}

fn check_memory(request: &TrialRequest, used_kib: u64) -> Result<(), RejectReason> {
    let budget_mib = request.budgets.memory_mib;
    if used_kib <= u64::from(budget_mib) * 1_024 {
        return Ok(());
    }
    let detail = format!("the trial used {} MiB of memory; the budget is {budget_mib} MiB", used_kib / 1_024);
    Err(RejectReason::OverBudget { detail })
}

fn bad_manifest(detail: String) -> RejectReason {
    RejectReason::BadManifest { detail }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
