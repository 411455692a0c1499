//! What goes into a rollout and what comes out of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp, report::DeploymentEvent};
use thiserror::Error;

use super::{Counts, Progress};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    /// A device reported. Reports of a generation older than the one that this rollout's effect was written
    /// with belong to the past and must not be passed in. Reports about the previous release may be passed in;
    /// they confirm a restoration.
    Report {
        /// Who.
        device: DeviceId,
        /// When, by the device's clock.
        at: Timestamp,
        /// About which release.
        release: ReleaseId,
        /// What happened.
        event: DeploymentEvent,
    },
    /// A device said hello.
    DeviceConnected {
        /// Who.
        device: DeviceId,
    },
    /// A device took in the desired state that takes the release away, and says that it does not have it.
    Confirmed {
        /// Who.
        device: DeviceId,
    },
    /// Time has passed.
    Tick,
    /// A person asks to ask nobody new.
    Pause {
        /// Who asks.
        by: String,
    },
    /// A person lets a paused rollout go on.
    Resume {
        /// Who asks.
        by: String,
    },
    /// A person stops it for good and leaves the devices as they are.
    Halt {
        /// Who asks.
        by: String,
        /// Why.
        reason: String,
    },
    /// A person takes the release away again.
    Rollback {
        /// Who asks.
        by: String,
    },
    /// A newer rollout of the same model took a device over.
    Superseded {
        /// Which device.
        device: DeviceId,
        /// The newer rollout.
        by: RolloutId,
    },
}

/// What the shell shall do. Doing it twice is harmless: a desired state that says the same changes no device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// Write a desired state with the next generation that names the release for its model.
    Assign {
        /// For whom.
        device: DeviceId,
        /// Which release.
        release: ReleaseId,
        /// Try even if it was refused there before.
        retry: bool,
    },
    /// Write a desired state with the next generation that names the previous release, or none of that model.
    Restore {
        /// For whom.
        device: DeviceId,
        /// What it ran before.
        previous: Option<ReleaseId>,
    },
    /// Tell people and other systems, and keep it in the audit trail.
    Announce(Event),
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A wave is asked. Waves count from 0.
    WaveStarted {
        /// Which.
        wave: usize,
        /// How many devices.
        devices: usize,
    },
    /// A device came a step further or reached its end.
    DeviceProgressed {
        /// Who.
        device: DeviceId,
        /// Where it is now.
        progress: Progress,
    },
    /// Every reachable device of a wave has settled; it is watched.
    WaveBaking {
        /// Which.
        wave: usize,
        /// Until when.
        until: Timestamp,
    },
    /// A wave is done.
    WavePassed {
        /// Which.
        wave: usize,
    },
    /// A person paused it.
    Paused {
        /// Who.
        by: String,
    },
    /// A person let it go on.
    Resumed {
        /// Who.
        by: String,
    },
    /// It stopped for good.
    Halted {
        /// Why.
        verdict: Verdict,
    },
    /// Devices are brought back.
    RollingBack {
        /// Why.
        cause: Cause,
        /// How many.
        devices: usize,
    },
    /// A device no longer has the release.
    DeviceRestored {
        /// Who.
        device: DeviceId,
    },
    /// Every device that can be reached is back.
    RolledBack {
        /// What became of the devices.
        counts: Counts,
    },
    /// Every wave passed.
    Completed {
        /// What became of the devices.
        counts: Counts,
    },
}

/// Why a rollout stopped for good, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// More devices of a wave failed than it bears.
    TooManyFailures {
        /// Which wave, counted from 0.
        wave: usize,
        /// Devices that refused the release or went back from it.
        failed: usize,
        /// Devices of the wave that were seen.
        of: usize,
        /// How many it would have borne.
        limit: usize,
        /// The first of them.
        first: FirstFailure,
    },
    /// A person stopped it.
    Ordered {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// The first failure of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstFailure {
    /// Who.
    pub device: DeviceId,
    /// What the device gave as its reason.
    pub reason: String,
}

/// Why devices are brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Cause {
    /// The rollout stopped itself.
    Verdict {
        /// Why.
        verdict: Verdict,
    },
    /// A person asked for it.
    Person {
        /// Who.
        name: String,
    },
}

/// What a timeout is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wakeup {
    /// A device has said nothing for too long.
    Silence,
    /// A wave was watched long enough.
    BakeOver,
    /// Devices that did not confirm their restoration are no longer waited for.
    RestoreOverdue,
}

/// An input that has no meaning here; it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The device is not part of it.
    #[error("device {device} is not in rollout {rollout}")]
    NotInRollout {
        /// Who.
        device: DeviceId,
        /// Which rollout.
        rollout: RolloutId,
    },
    /// The report is about something else.
    #[error("device {device} reports about {release}, which rollout {rollout} does not install")]
    OtherRelease {
        /// Who.
        device: DeviceId,
        /// What it reports about.
        release: ReleaseId,
        /// Which rollout.
        rollout: RolloutId,
    },
    /// Its wave has not started.
    #[error("device {device} reports about {release} before its wave was asked")]
    NotAsked {
        /// Who.
        device: DeviceId,
        /// What it reports about.
        release: ReleaseId,
    },
    /// An order does not fit the state.
    #[error("cannot {order} rollout {rollout}: it is {state}")]
    WrongState {
        /// What was asked.
        order: &'static str,
        /// Which rollout.
        rollout: RolloutId,
        /// Its state in a word.
        state: &'static str,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyFailures { wave, failed, of, limit, first } => write!(
                f,
                "{failed} of {of} devices of wave {} failed, {limit} allowed; first {}: {}",
                wave + 1,
                first.device,
                first.reason
            ),
            Self::Ordered { by, reason } => write!(f, "stopped by {by}: {reason}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { verdict } => verdict.fmt(f),
            Self::Person { name } => write!(f, "ordered by {name}"),
        }
    }
}
