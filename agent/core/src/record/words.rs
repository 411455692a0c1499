//! Inputs and effects in words, short enough for one line each.

use std::fmt;

use shared::{artifact::Artifact, block::Run};

use super::RecordedInput;
use crate::{Effect, Input};

impl fmt::Display for RecordedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(input) => input.fmt(f),
            Self::Challengers(told) => {
                write!(f, "challengers {} verified:", told.document.revision)?;
                for (named, ..) in &told.manifests {
                    write!(f, " {}", named.release)?;
                }
                for (named, why) in &told.refused {
                    write!(f, " {} refused ({why})", named.release)?;
                }
                Ok(())
            }
            Self::Desired(desired) => {
                write!(f, "desired state {} verified:", desired.director.generation)?;
                for (assignment, ..) in &desired.manifests {
                    write!(f, " {}", assignment.release)?;
                }
                for (assignment, reason) in &desired.refused {
                    write!(f, " {} refused ({reason})", assignment.release)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::DesiredArrived { generation } => write!(f, "desired state {generation} arrived"),
            Self::DesiredVerified { director, .. } => {
                write!(f, "desired state {} verified", director.generation)
            }
            Self::DesiredRefused { generation, detail, .. } => {
                write!(f, "desired state {generation} refused: {detail}")
            }
            Self::ChallengersArrived { revision } => write!(f, "challengers {revision} arrived"),
            Self::ChallengersVerified { document, .. } => {
                write!(f, "challengers {} verified", document.revision)
            }
            Self::ChallengersRefused { revision, detail, .. } => {
                write!(f, "challengers {revision} refused: {detail}")
            }
            Self::StagingOpened { packed, here } => {
                write!(f, "staging of {packed} opened, {} of {} blocks here", here.count_here(), here.len())
            }
            Self::AlreadyHere { packed } => write!(f, "{packed} is here already"),
            Self::StagingFailed { packed, reason } => write!(f, "staging of {packed} failed: {reason}"),
            Self::BlockStored { packed, index, bytes } => {
                write!(f, "block {index} of {packed} stored, {bytes} bytes")
            }
            Self::BlockRefused { packed, index } => write!(f, "block {index} of {packed} refused"),
            Self::RetryAfter { packed, delay } => write!(f, "{packed} again after {} ms", delay.as_millis()),
            Self::ArtifactGone { packed } => write!(f, "the server does not have {packed}"),
            Self::Unpacked { packed } => write!(f, "{packed} unpacked"),
            Self::UnpackFailed { packed, reason } => write!(f, "{packed} does not unpack: {reason}"),
            Self::TrialPassed { release, figures } => write!(f, "trial of {release} passed: {figures}"),
            Self::TrialFailed { release, reason } => write!(f, "trial of {release} failed: {reason}"),
            Self::RunnerReady => f.write_str("runner ready"),
            Self::RunnerReplaced => f.write_str("runner ended to be replaced"),
            Self::RunnerExited { detail } => write!(f, "runner exited: {detail}"),
            Self::Loaded { release, load_ms } => write!(f, "{release} loaded in {load_ms} ms"),
            Self::LoadFailed { release, detail } => write!(f, "{release} does not load: {detail}"),
            Self::ArtifactDamaged { release, detail } => write!(f, "{release} is damaged: {detail}"),
            Self::Switched { release } => write!(f, "switched to {release}"),
            Self::Observed { release, counts } => {
                write!(f, "{release}: {} ok, {} failed, {} slow", counts.ok, counts.failures(), counts.slow)
            }
            Self::MemoryExceeded { release, used_kib, budget_kib } => {
                write!(f, "{release} takes {used_kib} KiB of {budget_kib} KiB")
            }
            Self::Hung { release, threads } => write!(f, "{threads} threads hang in {release}"),
            Self::ChallengerRuns { release } => write!(f, "challenger {release} runs"),
            Self::ChallengerEnded { release, end } => write!(f, "challenger {release} ended: {end}"),
            Self::OperatorRollback { model } => write!(f, "a person sends {model} back"),
            Self::ReportAcknowledged { boot, sequence } => write!(f, "report {boot}/{sequence} acknowledged"),
            Self::LocalTime { utc_offset_secs } => write!(f, "local time is UTC {utc_offset_secs:+} s"),
            Self::Stopped => f.write_str("stopped"),
            Self::Tick => f.write_str("tick"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify { generation } => write!(f, "verify desired state {generation}"),
            Self::VerifyChallengers { revision } => write!(f, "verify challengers {revision}"),
            Self::OpenStaging { artifact } => write!(f, "open staging of {}", packed(artifact)),
            Self::Request { packed, runs, .. } => write!(f, "request {} blocks of {packed}", blocks(runs)),
            Self::Unpack { artifact } => write!(f, "unpack {}", packed(artifact)),
            Self::RunTrial { release, .. } => write!(f, "try {release}"),
            Self::CancelTrial { release } => write!(f, "cancel the trial of {release}"),
            Self::EnsureRunner => f.write_str("ensure the runner"),
            Self::StopRunner => f.write_str("stop the runner"),
            Self::Load { release, .. } => write!(f, "load {release}"),
            Self::Switch { release } => write!(f, "switch to {release}"),
            Self::Unload { release } => write!(f, "unload {release}"),
            Self::StartChallenger { release, .. } => write!(f, "start challenger {release}"),
            Self::StopChallenger { release } => write!(f, "stop challenger {release}"),
            Self::Send { report } => {
                write!(f, "send report {}: {} {}", report.sequence, report.release, report.event)
            }
            Self::CollectGarbage { keep } => write!(f, "collect garbage, keep {}", keep.len()),
            Self::Note(event) => write!(f, "note: {event}"),
        }
    }
}

fn packed(artifact: &Artifact) -> String {
    format!("{}, {} bytes", artifact.packed.digest, artifact.packed.size_bytes)
}

fn blocks(runs: &[Run]) -> u32 {
    runs.iter().map(|run| run.count).sum()
}
