//! What goes into a rollout and what comes out of it.

use serde::{Deserialize, Serialize};
use shared::{DeviceId, ReleaseId, RolloutId, Timestamp, report::DeploymentEvent};

use super::{Cause, Counts, DriftAlarm, Freeze, FurtherBack, HoldReason, LetGo, Progress, Verdict};
use crate::{
    plan::PlannedDevice,
    verdict::{Cohorts, MetricVerdict, VerdictPolicy},
};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
        /// How far its local time is ahead of UTC, in seconds; `None` when it does not tell.
        #[serde(default)]
        utc_offset_secs: Option<i32>,
    },
    /// A device took in the desired state that takes the release away, and says that it does not have it.
    Confirmed {
        /// Who.
        device: DeviceId,
    },
    /// A device came to match the selector of a continuous rollout, and can take the release.
    Join {
        /// Who, and what it goes back to.
        planned: PlannedDevice,
    },
    /// Time has passed.
    Tick,
    /// The metrics of a wave were looked at once more.
    Judged {
        /// Which wave, counted from 0.
        wave: usize,
        /// What they say now.
        verdict: MetricVerdict,
    },
    /// The server's check found that what goes into the release of this rollout, or comes out of it, drifts.
    Drifted {
        /// What it found. Alarms come in the order of their numbers.
        alarm: DriftAlarm,
    },
    /// The freezes that concern this rollout, all of them.
    Freezes {
        /// In any order; past ones are harmless.
        freezes: Vec<Freeze>,
    },
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
    /// A person agrees that a wave is asked which waits for it.
    Approve {
        /// Which wave, counted from 0, so that an order that is given twice means one wave.
        wave: usize,
        /// Who agrees.
        by: String,
    },
    /// A person lets the wave under way pass, whatever it still waits for.
    Promote {
        /// Which wave, counted from 0, so that an order that is given twice means one wave.
        wave: usize,
        /// Who asks.
        by: String,
    },
    /// A person wants the devices that failed or fell silent to be asked again.
    Retry {
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
    /// A person wants no rollout to ask a device, or none of this model.
    Withdrawn {
        /// Which device.
        device: DeviceId,
    },
    /// A stronger rollout of the same model begins and wants devices. All of them come in one input: each may let a wave
    /// pass, and then one that is wanted too would be asked.
    Claimed {
        /// Which devices.
        devices: Vec<DeviceId>,
        /// The other rollout.
        by: RolloutId,
    },
    /// Another rollout of the same model has asked devices.
    Superseded {
        /// Which devices.
        devices: Vec<DeviceId>,
        /// The other rollout.
        by: RolloutId,
    },
    /// Another rollout will not ask devices that it wanted, or has given them back.
    LetGo {
        /// Which devices.
        devices: Vec<LetGo>,
    },
    /// Another rollout has written desired states that name the release of this one again.
    GivenBack {
        /// Which devices.
        devices: Vec<LetGo>,
    },
    /// Another rollout takes a release away that devices of this one would go back to.
    TakenBack {
        /// Which release.
        release: ReleaseId,
        /// From whom, and what they go back to instead.
        devices: Vec<FurtherBack>,
    },
}

/// What the shell shall do. Doing it twice is harmless: a desired state that says the same changes no device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Judge the metrics of a wave from now on, and say [`Input::Judged`] after every look, until the wave is over.
    Compare {
        /// Which wave, counted from 0.
        wave: usize,
        /// Who is compared with whom; nobody of either is asked for anything else meanwhile.
        cohorts: Cohorts,
        /// By which rules.
        policy: VerdictPolicy,
    },
    /// Tell people and other systems, and keep it in the audit trail.
    Announce(Event),
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A wave waits for somebody to agree. Waves count from 0.
    ApprovalNeeded {
        /// Which.
        wave: usize,
    },
    /// Somebody agreed.
    Approved {
        /// To which wave.
        wave: usize,
        /// Who.
        by: String,
    },
    /// A wave is asked.
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
    /// Another rollout has let go of a device that was to be asked here, or has given it back to this release.
    DeviceReturned {
        /// Who.
        device: DeviceId,
    },
    /// A device came to match the selector.
    DeviceJoined {
        /// Who.
        device: DeviceId,
    },
    /// Every reachable device of a wave has settled; it is watched.
    WaveBaking {
        /// Which.
        wave: usize,
        /// Until when.
        until: Timestamp,
    },
    /// A wave neither passes nor stops the rollout.
    WaveHeld {
        /// Which.
        wave: usize,
        /// Why.
        why: HoldReason,
    },
    /// The metrics of a wave came to a verdict.
    WaveJudged {
        /// Which.
        wave: usize,
        /// What they say.
        verdict: MetricVerdict,
    },
    /// A drift alarm about the release was raised while a wave had it.
    WaveDrifted {
        /// Which.
        wave: usize,
        /// What was found.
        alarm: DriftAlarm,
    },
    /// A person let a wave pass.
    Promoted {
        /// Which.
        wave: usize,
        /// Who.
        by: String,
    },
    /// A wave is done.
    WavePassed {
        /// Which.
        wave: usize,
    },
    /// A person wanted devices to be asked again.
    Retried {
        /// Who.
        by: String,
        /// How many devices.
        devices: usize,
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
    /// Every wave passed because others have the devices.
    Superseded {
        /// What became of the devices.
        counts: Counts,
    },
}

/// What a timeout is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wakeup {
    /// A device has said nothing for too long.
    Silence,
    /// Too few devices of a wave have been seen for too long.
    Quorum,
    /// A wave was watched long enough.
    BakeOver,
    /// A device may be asked, or its release taken away: its pace, window, freeze or retry allows it.
    Ask,
    /// Devices that did not confirm their restoration are no longer waited for.
    RestoreOverdue,
}
