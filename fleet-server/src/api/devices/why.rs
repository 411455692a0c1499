//! Why a device runs what it runs, as sentences.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
};
use fleet_core::{
    DeviceStatus, Progress, RolloutStatus, Selector, State as At, WaveState, WaveStatus,
    experiment::ExperimentStatus,
};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, Timestamp, words};
use utoipa::ToSchema;

use super::{DeviceView, device_id, find};
use crate::{
    api::{
        Shared,
        problem::{Answer, Problem},
    },
    clock::moment,
    rollouts,
    store::{FreezeRow, ReportRow},
};

/// Rollouts that are looked through, newest first.
const MAX_ROLLOUTS: u32 = 50;

/// Reports that are told, newest first: some ten deployments.
const MAX_REPORTS: usize = 50;

/// Clocks further apart than this are told; nothing here needs them closer.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// Why a device runs what it runs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// The device.
    pub device: DeviceView,
    /// The chain of reasons, newest first, for people.
    pub reasons: Vec<String>,
}

/// Explains why a device runs what it runs.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{id}/why",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device")),
    responses((status = 200, body = WhyView), (status = 404, body = Problem))
)]
pub async fn why(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<WhyView>> {
    let id = device_id(&id)?;
    let device = find(&app, &id).await?;
    let now = app.clock.now();
    let mut reasons = own_reasons(&device);
    let freezes = app.store.freezes().await?;
    reasons.extend(freezes.iter().filter_map(|freeze| frozen(freeze, &device, &id, now)));
    for row in app.store.unfinished_experiments().await? {
        reasons.extend(in_experiment(&rollouts::experiment_status(&row)?, &id));
    }
    let mut is_asked_for = false;
    let mut rows = app.store.rollouts(MAX_ROLLOUTS).await?;
    let newest: BTreeSet<_> = rows.iter().map(|row| row.id.clone()).collect();
    let older = app.store.unfinished_rollouts().await?;
    rows.extend(older.into_iter().rev().filter(|row| !newest.contains(&row.id)));
    for row in rows {
        let reason = reason_in(&rollouts::status(&row)?, &id);
        is_asked_for |= reason.is_some() && !row.finished;
        reasons.extend(reason);
    }
    if !is_asked_for {
        reasons.push("no rollout under way selects it".to_owned());
    }
    for row in app.store.reports_of(&id).await?.iter().take(MAX_REPORTS) {
        reasons.push(reported(row));
    }
    Ok(Json(WhyView { device, reasons }))
}

fn own_reasons(device: &DeviceView) -> Vec<String> {
    let mut reasons = Vec::new();
    if device.revoked {
        reasons.push("it is revoked: it is not let in any more".to_owned());
    }
    if device.quarantined {
        let why = device.quarantine_reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        reasons.push(format!("it is quarantined{why}: rollouts pass it over"));
    }
    reasons.extend(device.pins.iter().map(|pin| pinned(pin, &device.desired)));
    if !device.connected {
        reasons.push(words::OFFLINE.to_owned());
    }
    if device.seen_generation < device.generation {
        reasons.push(format!(
            "it shall follow generation {} and has confirmed {}",
            device.generation, device.seen_generation
        ));
    }
    if device.desired.is_empty() {
        reasons.push(words::NOTHING_ASSIGNED.to_owned());
    }
    reasons.extend(device.clock_skew_ms.and_then(wrong_clock));
    reasons
}

/// A pin keeps rollouts from asking anew; it takes back nothing that was asked before.
fn pinned(pin: &str, desired: &[String]) -> String {
    let model = pin.split('@').next().unwrap_or_default();
    let other = |release: &&String| release.split('@').next() == Some(model) && *release != pin;
    let asked = desired.iter().find(other);
    let asked = asked.map(|release| format!("; it was asked for {release} before and may still take it"));
    format!("{model} is pinned to {pin}: rollouts of {model} pass it over{}", asked.unwrap_or_default())
}

/// A freeze period that holds now, if it is about this device. One whose selector cannot be read holds everywhere:
/// what nobody understands must not move anything.
fn frozen(freeze: &FreezeRow, device: &DeviceView, id: &DeviceId, now: Timestamp) -> Option<String> {
    let selector = freeze.selector.as_deref().map(Selector::parse);
    let meant = selector.is_none_or(|selector| {
        selector.map_or(true, |selector| selector.matches(id, &device.labels, &device.inventory))
    });
    let until = moment(freeze.until);
    (freeze.holds(now) && meant)
        .then(|| format!("rollouts are frozen until {until} ({}): {}", freeze.id, freeze.reason))
}

/// A clock that is far off is worth a word: metadata expires by it, and reports carry its time.
fn wrong_clock(skew_ms: i64) -> Option<String> {
    let skew = Duration::from_millis(skew_ms.unsigned_abs());
    let side = if skew_ms > 0 { "ahead of" } else { "behind" };
    (skew > MAX_SKEW).then(|| format!("its clock is {} s {side} the server's; set it", skew.as_secs()))
}

/// A report in words, with the time by the device's clock. Where that is not when it came, both are told: the device
/// was offline meanwhile, or its clock is wrong.
fn reported(row: &ReportRow) -> String {
    let ReportRow { report, received_at } = row;
    let apart = report.at.since(*received_at).max(received_at.since(report.at));
    let came = if apart > MAX_SKEW { format!(" (came {})", moment(*received_at)) } else { String::new() };
    format!("{}{came} the device reported {}", moment(report.at), words::told(&report.release, &report.event))
}

fn in_experiment(status: &ExperimentStatus, id: &DeviceId) -> Option<String> {
    let (experiment, state) = (&status.id, status.state.word());
    if let Some(left) = status.left_out.iter().find(|left| left.device == *id) {
        return Some(format!("experiment {experiment} ({state}) left it out: it {}", left.why));
    }
    let mut arms = status.arms.as_ref().into_iter();
    let (arm, of) = arms.find(|(_, arm)| arm.devices.iter().any(|assigned| assigned.device == *id))?;
    Some(format!("it is in arm {arm} of experiment {experiment} ({state}), with {}", of.release))
}

fn reason_in(status: &RolloutStatus, id: &DeviceId) -> Option<String> {
    let (rollout, release, state) = (&status.id, &status.release, status.state.word());
    if let Some(blocked) = status.blocked.iter().find(|blocked| blocked.device == *id) {
        return Some(format!("rollout {rollout} of {release} ({state}) left it out: it {}", blocked.why));
    }
    let device = status.devices.iter().find(|device| device.device == *id)?;
    let progress = serde_json::to_value(&device.progress).ok()?;
    let step = progress.get("kind").and_then(|kind| kind.as_str()).unwrap_or("unknown").replace('_', " ");
    let why = device.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let waits = waits_for(status, device).map(|what| format!("; {what}")).unwrap_or_default();
    Some(format!("rollout {rollout} of {release} ({state}), wave {}: {step}{why}{waits}", device.wave + 1))
}

/// What has to come before a device is asked; nothing where it was, or never will be.
fn waits_for(status: &RolloutStatus, device: &DeviceStatus) -> Option<String> {
    let will_ask = match status.state {
        At::AwaitingApproval { .. } | At::Running { .. } | At::Watching { .. } | At::Paused { .. } => true,
        At::Halted { .. }
        | At::RollingBack { .. }
        | At::RolledBack { .. }
        | At::Completed { .. }
        | At::Superseded { .. } => false,
    };
    let again = match device.progress {
        Progress::Retrying { at, .. } => Some(format!("it is asked again at {} at the earliest", moment(at))),
        Progress::Waiting => None,
        _ => return None,
    };
    if !will_ask {
        return None;
    }
    let under_way = |wave: &WaveStatus| !matches!(wave.state, WaveState::Passed { .. });
    let before = status.waves.iter().take(device.wave).position(under_way);
    let turn = before.map(|wave| format!("wave {} has to pass first", wave + 1));
    let freeze = status.frozen.as_ref().map(ToString::to_string);
    let windows = status.strategy.windows.as_ref();
    let window = windows.map(|_| "it is asked only within the windows of the rollout".to_owned());
    let all: Vec<_> = [again, turn, status.reason.clone(), freeze, window].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use shared::{
        BootId, Generation,
        report::{DeploymentEvent, Report},
    };

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn only_a_clock_that_is_far_off_is_a_reason() {
        assert_eq!(wrong_clock(60_000), None);
        assert_eq!(wrong_clock(3_600_000).unwrap(), "its clock is 3600 s ahead of the server's; set it");
        assert_eq!(wrong_clock(-61_000).unwrap(), "its clock is 61 s behind the server's; set it");
        assert!(wrong_clock(i64::MIN).is_some());
    }

    #[test]
    fn a_pin_is_told_with_what_was_asked_before_it() {
        let plain = pinned("digits@1", &["digits@1".into(), "faces@2".into()]);
        assert_eq!(plain, "digits is pinned to digits@1: rollouts of digits pass it over");
        let asked = pinned("digits@1", &["digits@2".into()]);
        assert!(asked.ends_with("it was asked for digits@2 before and may still take it"), "{asked}");
    }

    #[test]
    fn a_report_is_told_in_words_with_its_time_and_a_late_one_with_both() {
        let report = Report {
            device: DeviceId::new("cam-7").unwrap(),
            boot: BootId::new("b1").unwrap(),
            sequence: 1,
            at: NOW,
            generation: Generation(1),
            release: "digits@1".parse().unwrap(),
            event: DeploymentEvent::Committed { inferences: 120, failures: 0 },
        };
        let mut row = ReportRow { report, received_at: NOW };
        let words = "the device reported digits@1: committed after 120 inferences, 0 failed";
        assert_eq!(reported(&row), format!("2027-01-15 08:00:00Z {words}"));
        row.received_at = NOW + Duration::from_secs(3_600);
        assert_eq!(reported(&row), format!("2027-01-15 08:00:00Z (came 2027-01-15 09:00:00Z) {words}"));
    }
}
