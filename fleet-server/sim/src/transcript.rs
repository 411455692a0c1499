//! What happened, in lines that a person reads: everything, or what an operator would be told.

use std::{collections::VecDeque, fmt};

use fleet_core::{Event, Plan, WaveKind};
use shared::Timestamp;

use crate::story::Moment;

/// Lines that are kept of a world that is watched in every detail; older ones make room.
const MAX_LINES: usize = 2_000;

/// How much is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing: the story can be told again.
    Nothing,
    /// What an operator would be told, what people did and what broke.
    Milestones,
    /// Every message and every step of every device too.
    Everything,
}

/// The lines.
#[derive(Debug, Clone)]
pub struct Transcript {
    detail: Detail,
    lines: VecDeque<String>,
    dropped: usize,
}

impl Transcript {
    /// An empty one.
    #[must_use]
    pub fn new(detail: Detail) -> Self {
        Self { detail, lines: VecDeque::new(), dropped: 0 }
    }

    /// Writes a line if this much detail is wanted.
    pub fn write(&mut self, detail: Detail, now: Timestamp, line: impl FnOnce() -> String) {
        if detail > self.detail {
            return;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(format!("{:>8}  {}", Moment::of(now).to_string(), line()));
    }

    /// The last `lines` lines.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let skipped = self.lines.len().saturating_sub(lines);
        self.lines.iter().skip(skipped).map(|line| format!("{line}\n")).collect()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "… {} lines before", self.dropped)?;
        }
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Who is asked in which wave, and who is left out and why.
pub(crate) fn plan_in_words(plan: &Plan) -> Vec<String> {
    let waves = plan.waves.iter().enumerate().map(|(at, wave)| {
        let names: Vec<_> = wave.devices.iter().map(|planned| planned.device.to_string()).collect();
        let kind = match wave.kind {
            WaveKind::Step => "",
            WaveKind::Control => ", held back for comparison",
            WaveKind::Late => ", who comes later",
        };
        format!("plans wave {}{kind}: {}", at + 1, names.join(", "))
    });
    let blocked =
        plan.blocked.iter().map(|blocked| format!("leaves out {}: {}", blocked.device, blocked.why));
    waves.chain(blocked).collect()
}

/// What a rollout of a story that began at `begin` announced, as a sentence; `None` for steps on the way.
#[must_use]
pub fn sentence(event: &Event, begin: Timestamp) -> Option<String> {
    use fleet_core::Progress;
    Some(match event {
        Event::WaveStarted { wave, devices } => format!("asks wave {}: {devices} devices", wave + 1),
        Event::DeviceProgressed { device, progress } => match progress {
            Progress::Committed { inferences, failures } => {
                format!("{device} keeps it after {inferences} inferences, {failures} failed")
            }
            Progress::Rejected(reason) => format!("{device} refused it: {}", short(&reason.to_string())),
            Progress::Failed(reason) => format!("{device} did not get it: {}", short(&reason.to_string())),
            Progress::RolledBack(reason) => format!("{device} went back: {}", short(&reason.to_string())),
            Progress::Retrying { attempt, why, .. } => {
                format!("{device} did not get it and is asked again, try {attempt}: {}", short(why))
            }
            Progress::Silent => format!("{device} is silent"),
            Progress::Superseded { by: Some(by) } => format!("{device} now belongs to {by}"),
            Progress::Superseded { by: None } => format!("{device} is no longer asked"),
            _ => return None,
        },
        Event::WaveBaking { wave, until } => {
            format!("watches wave {} until {}", wave + 1, Moment::between(begin, *until))
        }
        Event::ApprovalNeeded { wave } => format!("wave {} waits for approval", wave + 1),
        Event::Approved { wave, by } => format!("{by} approves wave {}", wave + 1),
        Event::DeviceJoined { device } => format!("{device} joins late"),
        Event::DeviceReturned { device } => format!("{device} belongs to it again"),
        Event::WaveHeld { wave, why } => format!("HOLDS wave {}: {why}", wave + 1),
        Event::WaveJudged { wave, verdict } => format!("metrics of wave {}: {verdict}", wave + 1),
        Event::WaveDrifted { wave, alarm } => format!("drift in wave {}: {alarm}", wave + 1),
        Event::Promoted { wave, by } => format!("{by} lets wave {} pass", wave + 1),
        Event::Retried { by, devices } => format!("{by} asks {devices} devices again"),
        Event::WavePassed { wave } => format!("wave {} has passed", wave + 1),
        Event::Paused { by } => format!("is paused by {by}"),
        Event::Resumed { by } => format!("goes on, says {by}"),
        Event::Halted { verdict } => format!("HALTED: {}", short(&verdict.to_string())),
        Event::RollingBack { cause, devices } => {
            format!("ROLLS BACK {devices} devices: {}", short(&cause.to_string()))
        }
        Event::DeviceRestored { device } => format!("{device} is without it again"),
        Event::RolledBack { counts } => format!("ROLLED BACK: {}", tell_counts(counts)),
        Event::Completed { counts } => format!("COMPLETED: {}", tell_counts(counts)),
        Event::Superseded { counts } => format!("SUPERSEDED: {}", tell_counts(counts)),
    })
}

/// The outcomes that there are, without those that there are not.
#[must_use]
pub fn tell_counts(counts: &fleet_core::Counts) -> String {
    let named = [
        (counts.committed, "committed"),
        (counts.waiting, "waiting"),
        (counts.in_progress, "in progress"),
        (counts.rejected, "rejected"),
        (counts.failed, "failed"),
        (counts.rolled_back, "went back"),
        (counts.silent, "silent"),
        (counts.superseded, "superseded"),
        (counts.not_seen, "not seen"),
        (counts.restored, "to be restored"),
        (counts.restore_confirmed, "restored"),
    ];
    let told: Vec<_> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    format!("{} of {} devices", told.join(", "), counts.devices)
}

/// Digests say nothing to a reader, and change with every word of a manifest.
fn short(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.len() {
        64.. if word.bytes().all(|byte| byte.is_ascii_hexdigit()) => "…",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
