//! One rollout, followed from its start until every device came to its end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use fleet_core::{Event, Progress, State, StopAction, Strategy};
use shared::report::{Evidence, RollbackReason};

use super::{Story, check::last_failures};
use crate::{
    api::RolloutView,
    demo::{
        fleet::Fleet,
        narrate::{Narrator, Tone, bytes},
        traffic::Traffic,
    },
};

/// Transfer, self-test and probation take a few seconds here; on a busy machine some more.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a rollout is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every device keeps the version.
    Committed,
    /// Every device goes back by itself, and the server stops.
    RolledBack,
}

/// What one device went through.
#[derive(Debug, Clone, Default)]
pub(super) struct Trail {
    /// Bytes that travelled.
    pub(super) fetched_bytes: u64,
    /// The steps it reported, in order.
    steps: Vec<&'static str>,
    /// Why it went back, if it did.
    pub(super) evidence: Option<Evidence>,
}

/// What all devices went through.
#[derive(Debug, Default)]
pub(super) struct Passage {
    /// By device.
    pub(super) trails: BTreeMap<String, Trail>,
}

/// Steps that every device must have reported before its end.
const STEPS: [&str; 4] = ["transferring", "staged", "self-tested", "probation"];

/// Starts a rollout to everybody and follows it to its end.
pub(super) async fn run(
    story: &mut Story,
    fleet: &Fleet,
    traffic: &Traffic,
    release: &str,
    ending: Ending,
) -> anyhow::Result<Passage> {
    let started = Instant::now();
    // Stopped by a verdict and not rolled back by the server, so that every device shows its own brake.
    let strategy = Strategy { on_halt: StopAction::Halt, ..Strategy::default() };
    let view = fleet.start_rollout(release, strategy).await.context("the rollout did not start")?;
    let (id, devices) = (view.status.id.to_string(), view.status.devices.len());
    story.say("rollout", &format!("{id}: {release} to all {devices} devices"), Tone::Plain);
    let view = follow(story, fleet, &id, release).await;
    let (view, passage) = view.with_context(|| match last_failures(traffic) {
        failures if failures.is_empty() => "the rollout did not come to its end".to_owned(),
        failures => format!("the rollout did not come to its end; last failed requests: {failures}"),
    })?;
    check_end(&view, &passage, ending)?;
    tell_end(story, &view, ending, started.elapsed());
    Ok(passage)
}

async fn follow(
    story: &mut Story,
    fleet: &Fleet,
    id: &str,
    release: &str,
) -> anyhow::Result<(RolloutView, Passage)> {
    let (mut passage, mut last_event) = (Passage::default(), 0);
    let narrator = story.narrator;
    let what = format!("every device came to its end with {release}");
    let look = async || {
        let view = fleet.rollout(id).await?;
        for (number, event) in fleet.rollout_events(id, last_event).await? {
            last_event = number;
            tell_event(&narrator, release, &event);
            if let Event::DeviceProgressed { device, progress } = event {
                passage.trails.entry(device.to_string()).or_default().note(progress);
            }
        }
        let open = view.status.devices.iter().any(|device| !is_end(&device.progress));
        let all_told = view.status.devices.iter().all(|device| passage.has_end(device.device.as_str()));
        Ok((view.finished && !open && all_told).then_some(view))
    };
    let view = story.scene.until((&what, "server"), PATIENCE, look).await?;
    Ok((view, passage))
}

fn tell_event(narrator: &Narrator, release: &str, event: &Event) {
    match event {
        Event::DeviceProgressed { device, progress } => {
            let (text, tone) = words(progress);
            narrator.line(device.as_str(), &format!("{release} {text}"), tone);
        }
        Event::Halted { verdict } => {
            narrator.line("rollout", &format!("halted by the server: {verdict}"), Tone::Warning);
        }
        // What follows from the steps of the devices is told at the end, and nothing else is expected here.
        Event::ApprovalNeeded { .. }
        | Event::Approved { .. }
        | Event::Promoted { .. }
        | Event::Retried { .. }
        | Event::DeviceJoined { .. }
        | Event::DeviceReturned { .. }
        | Event::WaveHeld { .. }
        | Event::WaveJudged { .. }
        | Event::WaveDrifted { .. }
        | Event::WaveStarted { .. }
        | Event::WaveBaking { .. }
        | Event::WavePassed { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::RollingBack { .. }
        | Event::DeviceRestored { .. }
        | Event::RolledBack { .. }
        | Event::Completed { .. }
        | Event::Superseded { .. } => {}
    }
}

impl Passage {
    fn has_end(&self, device: &str) -> bool {
        self.trails.get(device).and_then(|trail| trail.steps.last()).is_some_and(|step| *step == "end")
    }
}

impl Trail {
    fn note(&mut self, progress: Progress) {
        self.steps.push(match progress {
            Progress::Waiting | Progress::Asked { .. } | Progress::Retrying { .. } | Progress::Silent => {
                return;
            }
            Progress::Transferring { .. } => "transferring",
            Progress::Staged { fetched_bytes } => {
                self.fetched_bytes = fetched_bytes;
                "staged"
            }
            Progress::SelfTested(_) => "self-tested",
            Progress::Probation => "probation",
            Progress::RolledBack(RollbackReason::Failures(evidence)) => {
                self.evidence = Some(evidence);
                "end"
            }
            Progress::Committed { .. }
            | Progress::Rejected(_)
            | Progress::Failed(_)
            | Progress::RolledBack(_)
            | Progress::Superseded { .. } => "end",
        });
    }
}

/// True when nothing follows for the device.
fn is_end(progress: &Progress) -> bool {
    match progress {
        Progress::Waiting
        | Progress::Asked { .. }
        | Progress::Transferring { .. }
        | Progress::Staged { .. }
        | Progress::SelfTested(_)
        | Progress::Probation
        | Progress::Retrying { .. }
        | Progress::Silent => false,
        Progress::Committed { .. }
        | Progress::Rejected(_)
        | Progress::Failed(_)
        | Progress::RolledBack(_)
        | Progress::Superseded { .. } => true,
    }
}

/// A step in words.
fn words(progress: &Progress) -> (String, Tone) {
    match progress {
        Progress::Waiting => ("waits".to_owned(), Tone::Plain),
        Progress::Asked { .. } => ("asked for".to_owned(), Tone::Plain),
        Progress::Transferring { size_bytes, resumed_bytes } => {
            (format!("transfers {}", bytes(size_bytes.saturating_sub(*resumed_bytes))), Tone::Plain)
        }
        Progress::Staged { fetched_bytes } => {
            (format!("staged, {} fetched, every digest right", bytes(*fetched_bytes)), Tone::Plain)
        }
        Progress::SelfTested(trial) => {
            let text =
                format!("self-test passed: {} golden cases, median {} µs", trial.cases, trial.latency_p50_us);
            (text, Tone::Plain)
        }
        Progress::Probation => ("answers now, on probation".to_owned(), Tone::Plain),
        Progress::Committed { inferences, failures } => {
            (format!("committed after {inferences} inferences, {failures} failed"), Tone::Good)
        }
        Progress::Rejected(reason) => (format!("rejected: {reason}"), Tone::Bad),
        Progress::Retrying { why, .. } => {
            (format!("did not arrive, asked again later: {why}"), Tone::Warning)
        }
        Progress::Failed(reason) => (format!("did not arrive: {reason}"), Tone::Bad),
        Progress::RolledBack(reason) => (format!("rolled back by the device: {reason}"), Tone::Bad),
        Progress::Silent => ("silent".to_owned(), Tone::Warning),
        Progress::Superseded { .. } => ("superseded".to_owned(), Tone::Warning),
    }
}

fn check_end(view: &RolloutView, passage: &Passage, ending: Ending) -> anyhow::Result<()> {
    for device in &view.status.devices {
        let name = device.device.as_str();
        let trail = passage.trails.get(name).with_context(|| format!("{name} reported nothing"))?;
        for step in STEPS {
            ensure!(trail.steps.contains(&step), "{name} never reported that it is {step}");
        }
        match (ending, &device.progress) {
            (Ending::Committed, Progress::Committed { failures: 0, .. }) => {}
            (Ending::RolledBack, Progress::RolledBack(RollbackReason::Failures(evidence))) => {
                ensure!(
                    evidence.non_finite > 0,
                    "{name} went back, but not because of outputs that are no numbers"
                );
            }
            (_, progress) => bail!("{name} ended otherwise than expected: {}", words(progress).0),
        }
    }
    match (ending, &view.status.state) {
        (Ending::Committed, State::Completed { .. }) | (Ending::RolledBack, State::Halted { .. }) => Ok(()),
        (_, state) => bail!("the rollout ended otherwise than expected: {}", state.word()),
    }
}

fn tell_end(story: &Story, view: &RolloutView, ending: Ending, took: Duration) {
    let (counts, secs) = (&view.status.counts, took.as_secs_f64());
    let (count, what) = match ending {
        Ending::Committed => (counts.committed, "completed: kept by"),
        Ending::RolledBack => (counts.rolled_back, "over: taken back by"),
    };
    let text = format!("{what} {count} of {} devices, {secs:.1} s after its start", counts.devices);
    story.say("rollout", &text, Tone::Good);
}
