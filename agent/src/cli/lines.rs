//! Views as lines for people.

use shared::{Timestamp, device::Hardening};

use super::output::table;
use crate::{
    clock::in_words,
    control::{ClockTrust, DriftView, LinkView, ModelView, RunnerView, StatusView, TrafficView},
    doctor::Check,
};

const KIB: f64 = 1_024.0;

const MIB: f64 = 1_024.0 * KIB;

pub(super) fn status(view: &StatusView) -> Vec<String> {
    let waiting = &view.waiting;
    let mut lines = vec![
        view.device.to_string(),
        format!("  agent        {}, process {}, boot {}", view.agent_version, view.pid, view.boot),
        format!("  up           {} s, since {}", view.uptime_secs, in_words(view.started_at)),
        format!("  link         {}", link(&view.link)),
        format!("  traffic      {}", traffic(view.traffic)),
        format!(
            "  generation   {}{}",
            view.generation,
            if view.taken_in { "" } else { ", not taken in whole" }
        ),
        format!("  clock        {}", clock(view)),
        format!("  runner       {}", runner(&view.runner)),
        format!(
            "  hardening    {}",
            view.hardening.as_ref().map_or_else(|| "not known yet".into(), Hardening::to_string)
        ),
        format!("  disk         {} MiB free", view.disk_free_mib),
        format!("  waiting      {} reports, {} windows of telemetry", waiting.reports, waiting.telemetry),
        format!("  certificate  {}", view.certificate_until.map_or_else(unreadable, valid_until)),
        format!("  models       {}", view.models.iter().map(runs).collect::<Vec<_>>().join(", ")),
    ];
    lines.extend(view.challengers.iter().map(|challenger| {
        let reason = if challenger.detail.is_empty() { "" } else { ": " };
        format!("  challenger   {} {}{reason}{}", challenger.release, challenger.step, challenger.detail)
    }));
    lines.extend(view.drift.iter().map(|view| format!("  drift        {}", drift(view))));
    if waiting.reports_lost + waiting.telemetry_lost > 0 {
        let (reports, windows) = (waiting.reports_lost, waiting.telemetry_lost);
        lines.push(format!(
            "  lost         {reports} reports, {windows} windows of telemetry and features, for want of room or of a taker"
        ));
    }
    lines
}

fn drift(view: &DriftView) -> String {
    let DriftView { release, uncounted, every, beyond_limit, rows, windows, windows_lost, guardrail, alarms } =
        view;
    if let Some(why) = uncounted {
        return format!("{release}: nothing is counted: {why}");
    }
    let counted = match every {
        None => "it is measured every how manieth row is counted".to_owned(),
        Some(1) => "every row is counted".to_owned(),
        Some(every) => format!("one of {every} rows is counted"),
    };
    let mut line = format!("{release}: {counted}, {rows} in {windows} windows since the start");
    if *beyond_limit {
        line.push_str("; rows are alike for longer than that");
    }
    if *windows_lost > 0 {
        line.push_str(&format!("; {windows_lost} windows lost"));
    }
    if *guardrail || !alarms.is_empty() {
        line.push_str(&format!("; alarms of the device: {}", alarms.len()));
    }
    line
}

fn link(view: &LinkView) -> String {
    let state = if view.up { "up" } else { "down" };
    let mut line = format!("{state} since {}, to {}", in_words(view.since), view.server);
    if let Some(error) = &view.last_error {
        line.push_str(&format!("; last failure {}: {}", in_words(error.at), error.words));
    }
    line
}

fn traffic(view: TrafficView) -> String {
    format!(
        "{:.1} KiB sent, {:.1} KiB received since the start, TLS included",
        view.sent_bytes as f64 / KIB,
        view.received_bytes as f64 / KIB
    )
}

fn clock(view: &StatusView) -> String {
    let system = in_words(view.clock.system);
    let trust = match view.clock.trust {
        ClockTrust::System => "as the system's".to_owned(),
        ClockTrust::Floor => format!("at its floor: the system's says {system}, which is too early"),
        ClockTrust::Ahead => format!("the system's went ahead to {system}"),
    };
    format!("{}, {trust}", in_words(view.clock.now))
}

fn runner(view: &RunnerView) -> String {
    view.pid.map_or_else(|| view.state.clone(), |pid| format!("{}, process {pid}", view.state))
}

fn valid_until(at: Timestamp) -> String {
    format!("until {}", in_words(at))
}

fn unreadable() -> String {
    "cannot be read".to_owned()
}

fn runs(view: &ModelView) -> String {
    match (&view.committed, &view.candidate) {
        (Some(committed), Some(candidate)) => format!("{committed} ({candidate} {})", view.step),
        (None, Some(candidate)) => format!("({candidate} {})", view.step),
        (Some(committed), None) => committed.to_string(),
        (None, None) => format!("{} (none)", view.model),
    }
}

pub(super) fn models(views: &[ModelView]) -> Vec<String> {
    if views.is_empty() {
        return vec![shared::words::NOTHING_ASSIGNED.to_owned()];
    }
    let header = ["model", "committed", "candidate", "step", "detail", "last outcome", "held"];
    table(header, &views.iter().map(row).collect::<Vec<_>>())
}

fn row(view: &ModelView) -> [String; 7] {
    let name =
        |release: &Option<shared::ReleaseId>| release.as_ref().map_or("-".to_owned(), ToString::to_string);
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        view.model.to_string(),
        name(&view.committed),
        name(&view.candidate),
        view.step.clone(),
        or_dash(&view.detail),
        view.last.as_ref().map_or_else(|| "-".to_owned(), |last| format!("{}: {}", last.release, last.event)),
        format!("{:.1} MiB", view.held_bytes as f64 / MIB),
    ]
}

pub(super) fn checks(checks: &[Check]) -> Vec<String> {
    let rows: Vec<_> =
        checks.iter().map(|c| [c.state.to_string(), c.name.to_owned(), c.detail.clone()]).collect();
    let mut lines = table(["state", "check", "detail"], &rows);
    lines.extend(
        checks.iter().filter_map(|c| c.advice.as_ref().map(|advice| format!("{}: {advice}", c.name))),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        ErrorView,
        tests::{model, status as view},
    };

    #[test]
    fn a_status_says_since_when_the_link_is_down_and_why() {
        let mut view = view();
        view.link.up = false;
        let error = ErrorView { at: Timestamp(1_800_000_002_000), words: "connection refused".into() };
        view.link.last_error = Some(error);
        let lines = status(&view).join("\n");
        for words in [
            "partial; missing: network",
            "4.0 KiB sent",
            "down since 2027-01-15T08:00:01Z",
            "connection refused",
            "until 2027-02-14",
            "digits@1",
            "digits@1: one of 4 rows is counted, 1200 in 5 windows since the start; alarms of the device: 1",
        ] {
            assert!(lines.contains(words), "'{words}' is missing in\n{lines}");
        }
    }

    #[test]
    fn a_model_is_one_row_with_what_runs_and_what_is_coming() {
        let candidate = Some("digits@2".parse().unwrap());
        let view = ModelView { candidate, step: "probation".into(), held_bytes: 1_572_864, ..model() };
        let lines = models(&[view]);
        assert!(lines[0].starts_with(" MODEL") && lines[1].contains("1.5 MiB"), "{lines:?}");
        assert!(lines[1].contains("digits@1") && lines[1].contains("digits@2"), "{lines:?}");
        assert_eq!(models(&[]), [shared::words::NOTHING_ASSIGNED]);
    }
}
