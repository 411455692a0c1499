//! Follows a rollout: a tree that stays in place on a terminal, and where the output is piped one line per change, of text or of
//! JSON.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stderr, stdout},
    time::{Duration, Instant},
};

use fleet_core::{DeviceStatus, Restoration, RolloutStatus, State, WaveKind, WaveState, WaveStatus};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Client, Exit, Failure, args::Format, output::Output, patience::Patience};
use crate::api::RolloutView;

/// One request waits this long for a change.
const WAIT_MS: u64 = 20_000;

/// Devices shown in the tree; more do not fit a screen.
const MAX_SHOWN: usize = 20;

pub(super) async fn watch(
    client: &Client,
    id: &str,
    limit: Option<Duration>,
    output: &Output,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut screen = Screen::new(output);
    let (mut after, mut patience) = (None, Patience::default());
    loop {
        let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        let view = match ask(client, id, after, left).await {
            Err(failure) if after.is_some() && patience.waits(&failure, left).await => continue,
            answer => answer?,
        };
        patience.answered();
        if after != Some(view.revision) {
            screen.show(&view, output);
        }
        if view.finished || matches!(view.status.state, State::Watching { .. }) {
            screen.end();
            if !screen.has_told_all() {
                output.one(&view, view.status.id.as_str(), || lines(&view));
            }
            return verdict(&view);
        }
        if left.is_some_and(|left| left.is_zero()) {
            screen.end();
            let message = format!("rollout {id} is still {} after the time given", view.status.state.word());
            return Err(Failure::new(Exit::TimedOut, message).hint("it goes on; watch it again to follow"));
        }
        after = Some(view.revision);
    }
}

async fn ask(
    client: &Client,
    id: &str,
    after: Option<u64>,
    left: Option<Duration>,
) -> Result<RolloutView, Failure> {
    let wait_ms =
        left.map_or(WAIT_MS, |left| u64::try_from(left.as_millis()).unwrap_or(WAIT_MS).min(WAIT_MS));
    let mut query = vec![("wait_ms", wait_ms.to_string())];
    query.extend(after.map(|after| ("after", after.to_string())));
    client.get(&format!("/rollouts/{id}"), &query).await
}

fn verdict(view: &RolloutView) -> Result<(), Failure> {
    match &view.status.state {
        State::Completed { .. } | State::Watching { .. } => Ok(()),
        state => {
            let reason = view.status.reason.clone().unwrap_or_default();
            let message = format!("rollout {} is {}: {reason}", view.status.id, state.word());
            Err(Failure::new(Exit::RolloutFailed, message)
                .hint("see what a device says: muster device why DEVICE"))
        }
    }
}

/// The rollout as lines.
pub(super) fn lines(view: &RolloutView) -> Vec<String> {
    let status = &view.status;
    let mut lines =
        vec![format!("{} {} to {}: {}", status.id, status.release, status.selector, status.state.word())];
    lines.extend(status.reason.iter().map(|reason| format!("  {reason}")));
    lines.extend(status.frozen.iter().map(|freeze| format!("  {freeze}")));
    for (number, wave) in status.waves.iter().enumerate() {
        lines.push(format!("  wave {}: {}", number + 1, wave_line(wave)));
        lines.extend(shown(status, number).map(|device| format!("    {}", device_line(device))));
        let hidden = wave.counts.devices.saturating_sub(MAX_SHOWN);
        lines.extend((hidden > 0).then(|| format!("    … and {hidden} more")));
    }
    lines.extend(
        status.blocked.iter().map(|blocked| format!("  left out: {} {}", blocked.device, blocked.why)),
    );
    lines
}

/// Devices of a wave, those with something to explain first, so that none of them is hidden behind the others.
fn shown(status: &RolloutStatus, wave: usize) -> impl Iterator<Item = &DeviceStatus> {
    let mut devices: Vec<_> = status.devices.iter().filter(|device| device.wave == wave).collect();
    devices.sort_by_key(|device| device.reason.is_none());
    devices.into_iter().take(MAX_SHOWN)
}

fn wave_line(wave: &WaveStatus) -> String {
    let mut line =
        format!("{}, {} of {} committed", wave_word(&wave.state), wave.counts.committed, wave.counts.devices);
    match wave.kind {
        WaveKind::Step => {}
        WaveKind::Control => line.push_str(", held back for comparison"),
        WaveKind::Late => line.push_str(", came later"),
    }
    line.push_str(&by_whom(wave));
    line.extend(wave.metrics.iter().map(|verdict| format!("; metrics {verdict}")));
    line
}

fn by_whom(wave: &WaveStatus) -> String {
    let approved = wave.approved_by.iter().map(|by| format!(", approved by {by}"));
    approved.chain(wave.promoted_by.iter().map(|by| format!(", promoted by {by}"))).collect()
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

fn device_line(device: &DeviceStatus) -> String {
    let value = serde_json::to_value(&device.progress).unwrap_or_default();
    let step = value.get("kind").and_then(|kind| kind.as_str()).unwrap_or("unknown").replace('_', " ");
    let reason = device.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let taken = match device.restoration {
        Restoration::None => "",
        Restoration::Ordered { .. } => ", restoring",
        Restoration::Confirmed { .. } => ", restored",
    };
    format!("{}  {step}{reason}{taken}", device.device)
}

/// How progress is shown while the rollout runs.
enum Screen {
    /// On standard error, and gone at the end.
    Tree(ProgressBar),
    /// What changed since the last look, with what is known.
    Lines(BTreeMap<String, String>),
    /// All of it at each change, in a line.
    Json,
    Quiet,
}

impl Screen {
    fn new(output: &Output) -> Self {
        match output.format() {
            Format::Json => return Self::Json,
            Format::Name => return Self::Quiet,
            Format::Table if stdout().is_terminal() && stderr().is_terminal() => {}
            Format::Table => return Self::Lines(BTreeMap::new()),
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self::Tree(bar)
    }

    fn show(&mut self, view: &RolloutView, output: &Output) {
        match self {
            Self::Tree(bar) => bar.set_message(lines(view).join("\n")),
            Self::Lines(known) => changes(view, known).iter().for_each(|line| output.line(line)),
            Self::Json => output.event(view, String::new),
            Self::Quiet => {}
        }
    }

    /// Whether the last look is told already.
    fn has_told_all(&self) -> bool {
        matches!(self, Self::Lines(_) | Self::Json)
    }

    fn end(&self) {
        if let Self::Tree(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// What is new since the last look. What is not the case any more is forgotten, and told again when it comes back.
fn changes(view: &RolloutView, known: &mut BTreeMap<String, String>) -> Vec<String> {
    let now = told(&view.status);
    let is_new = |(key, text): &&(String, String)| known.get(key) != Some(text);
    let new = now.iter().filter(is_new).map(|(_, text)| text.clone()).collect();
    *known = now.into_iter().collect();
    new
}

/// Everything that a change of is told, each with a name of its own.
fn told(status: &RolloutStatus) -> Vec<(String, String)> {
    let mut told = vec![("rollout".to_owned(), format!("rollout {}", status.state.word()))];
    told.extend(status.reason.iter().map(|reason| ("reason".to_owned(), format!("why: {reason}"))));
    told.extend(status.frozen.iter().map(|freeze| ("freeze".to_owned(), freeze.to_string())));
    for (number, wave) in status.waves.iter().enumerate() {
        let name = format!("wave {}", number + 1);
        told.push((name.clone(), format!("{name} {}{}", wave_word(&wave.state), by_whom(wave))));
        let verdict = wave.metrics.iter();
        told.extend(
            verdict.map(|verdict| (format!("{name} metrics"), format!("{name}, metrics: {verdict}"))),
        );
    }
    let left_out = status.blocked.iter().map(|blocked| {
        (format!("blocked {}", blocked.device), format!("left out: {} {}", blocked.device, blocked.why))
    });
    told.extend(left_out);
    told.extend(
        status.devices.iter().map(|device| (format!("device {}", device.device), device_line(device))),
    );
    told
}
