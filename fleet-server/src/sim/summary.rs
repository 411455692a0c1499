//! What came of a run: rollouts, classes of devices, links, memory, and what was expected and did not hold.

mod lines;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use fleet_core::{Counts, Progress, RolloutStatus, State, WaveState};
use muster_sim::{Crowd, LiveStory, Standing};
use serde::Serialize;
use shared::{DeviceId, RolloutId};

use super::{
    bounds::Memory,
    life::{Counters, Ended},
    people::Run,
};
use crate::api::RolloutView;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The story.
    pub title: String,
    /// Address of the server.
    pub server: String,
    /// How many devices took part.
    pub devices: usize,
    /// How long things took.
    pub seconds: Seconds,
    /// Rollouts in the order of their starts.
    pub rollouts: Vec<RolloutSummary>,
    /// Devices by class.
    pub classes: Vec<ClassSummary>,
    /// What went over the links.
    pub links: Links,
    /// Resident memory before the first device, when all were connected, and at the end.
    pub memory: [Memory; 3],
    /// What does not hold although it should.
    pub missed: Vec<String>,
}

/// How long things took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    /// Until every device was enrolled.
    pub enrolling: f64,
    /// From then until every device was connected.
    pub connecting: f64,
    /// The story itself.
    pub story: f64,
}

/// A rollout.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutSummary {
    /// Its name in the story.
    pub name: String,
    /// Its name on the server.
    pub id: String,
    /// What it brought.
    pub release: String,
    /// Where it stands, in a word.
    pub state: String,
    /// Why: the verdict, where there is one.
    pub reason: Option<String>,
    /// What became of its devices.
    pub counts: Counts,
    /// Its waves.
    pub waves: Vec<WaveSummary>,
    /// From its start to its last change of state; to the end of the run where it is not over.
    pub seconds: f64,
}

/// A wave.
#[derive(Debug, Clone, Serialize)]
pub struct WaveSummary {
    /// Where it stands, in a word.
    pub state: &'static str,
    /// What became of its devices.
    pub counts: Counts,
}

/// A class of devices.
#[derive(Debug, Clone, Serialize)]
pub struct ClassSummary {
    /// Its name.
    pub class: String,
    /// How many there are.
    pub devices: usize,
    /// How many were connected at the end.
    pub connected: usize,
    /// What they keep, by their own ledgers.
    pub keeps: BTreeMap<String, usize>,
    /// What became of them, by the books of the server: by rollout and outcome.
    pub outcomes: BTreeMap<String, BTreeMap<&'static str, usize>>,
}

/// What went over the links of all devices.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Links {
    /// Sessions that stood.
    pub connects: u64,
    /// Sessions that broke.
    pub breaks: u64,
    /// Attempts in vain.
    pub failed_dials: u64,
    /// Signed reports that were sent.
    pub reports: u64,
    /// Telemetry reports that were sent.
    pub telemetry: u64,
    /// Blocks whose digest was right.
    pub blocks: u64,
    /// Blocks whose digest was wrong.
    pub damaged_blocks: u64,
    /// Messages of the server that devices did not believe.
    pub disbelieved: u64,
}

/// A rollout of the story when it was over, or at the end of the run.
pub(super) struct Finished {
    pub(super) name: RolloutId,
    pub(super) view: RolloutView,
    /// From its start to its end or the end of the run.
    pub(super) seconds: f64,
}

impl Links {
    pub(super) fn of(counters: &Counters) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            connects: read(&counters.connects),
            breaks: read(&counters.breaks),
            failed_dials: read(&counters.failed_dials),
            reports: read(&counters.reports),
            telemetry: read(&counters.telemetry),
            blocks: read(&counters.blocks),
            damaged_blocks: read(&counters.damaged_blocks),
            disbelieved: read(&counters.disbelieved),
        }
    }
}

impl RolloutSummary {
    pub(super) fn of(finished: &Finished, run: &Run) -> Self {
        let status = &finished.view.status;
        Self {
            name: finished.name.to_string(),
            id: status.id.to_string(),
            release: run.in_story(&status.release).to_string(),
            state: word(&status.state),
            reason: status.reason.clone(),
            counts: status.counts,
            waves: status
                .waves
                .iter()
                .map(|wave| WaveSummary { state: wave_word(&wave.state), counts: wave.counts })
                .collect(),
            seconds: finished.seconds,
        }
    }
}

/// Classes with what their devices keep and what the server says became of them.
pub(super) fn classes(crowd: &Crowd, ended: &[Ended], finished: &[Finished], run: &Run) -> Vec<ClassSummary> {
    let ended: BTreeMap<&DeviceId, &Ended> = ended.iter().map(|it| (&it.device, it)).collect();
    let summary = |class: &muster_sim::Class| {
        let members = class.members.iter().filter_map(|id| ended.get(id));
        let mut keeps = BTreeMap::new();
        for release in members.clone().flat_map(|it| &it.keeps) {
            *keeps.entry(run.in_story(release).to_string()).or_default() += 1;
        }
        ClassSummary {
            class: class.story.name.clone(),
            devices: class.members.len(),
            connected: members.filter(|it| it.connected).count(),
            keeps,
            outcomes: finished
                .iter()
                .map(|it| (it.name.to_string(), outcomes(class, &it.view.status)))
                .collect(),
        }
    };
    crowd.classes.iter().map(summary).collect()
}

fn outcomes(class: &muster_sim::Class, status: &RolloutStatus) -> BTreeMap<&'static str, usize> {
    let members: std::collections::BTreeSet<&DeviceId> = class.members.iter().collect();
    let mut outcomes = BTreeMap::new();
    for device in status.devices.iter().filter(|device| members.contains(&device.device)) {
        *outcomes.entry(outcome(&device.progress)).or_default() += 1;
    }
    outcomes
}

/// What should hold and does not, one sentence each.
pub(super) fn missed(story: &LiveStory, finished: &[Finished], ended: &[Ended], run: &Run) -> Vec<String> {
    let stood = |it: &Finished| {
        let RolloutStatus { state, counts, .. } = &it.view.status;
        let standing = Standing { state: word(state), counts: *counts, over: it.view.finished };
        (it.name.clone(), standing)
    };
    let mut missed = story.missed(&finished.iter().map(stood).collect());
    let bad: Vec<_> = ended.iter().filter_map(|it| Some((&it.device, it.bad.first()?))).collect();
    if let Some((device, release)) = bad.first() {
        let release = run.in_story(release);
        missed.push(format!(
            "{} devices keep a release that is bad there; {device} keeps {release}",
            bad.len()
        ));
    }
    missed
}

/// The state as stories write it.
fn word(state: &State) -> String {
    state.word().replace(' ', "_")
}

fn wave_word(state: &WaveState) -> &'static str {
    match state {
        WaveState::Waiting => "waiting",
        WaveState::Updating => "updating",
        WaveState::Baking { .. } => "baking",
        WaveState::Held { .. } => "held",
        WaveState::Passed { .. } => "passed",
        WaveState::Stopped => "stopped",
    }
}

fn outcome(progress: &Progress) -> &'static str {
    match progress {
        Progress::Waiting => "waiting",
        Progress::Asked { .. }
        | Progress::Transferring { .. }
        | Progress::Staged { .. }
        | Progress::SelfTested(_)
        | Progress::Probation
        | Progress::Retrying { .. } => "in_progress",
        Progress::Committed { .. } => "committed",
        Progress::Rejected(_) => "rejected",
        Progress::Failed(_) => "failed",
        Progress::RolledBack(_) => "rolled_back",
        Progress::Silent => "silent",
        Progress::Superseded { .. } => "superseded",
    }
}
