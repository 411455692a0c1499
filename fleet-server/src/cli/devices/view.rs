//! A device as lines for people.

use shared::telemetry::{Counts, CustomKind, DeviceHealth};

use crate::{
    api::{CustomView, DeliveryView, DeviceView, LabelsView, ReleaseFigures},
    cli::output::{labels, moment, table},
};

/// A clock that is less than this apart from the server's is not worth a line; the way of a message takes time too.
const MAX_SKEW_MS: u64 = 2_000;

pub(super) fn lines(view: &DeviceView) -> Vec<String> {
    let inventory = &view.inventory;
    let mut lines = vec![
        view.id.clone(),
        format!("  link        {}, last seen {}", link(view), moment(view.last_seen)),
        format!("  labels      {}", labels(&view.labels)),
        format!("  runs        {}", runs(view)),
        format!("  shall run   {}", view.desired.join(",")),
        format!("  generation  {}, confirmed {}", view.generation, view.seen_generation),
        format!("  machine     {} {}, {} MiB of memory", inventory.arch, inventory.os, inventory.memory_mib),
        format!("  agent       {}", inventory.agent_version),
    ];
    lines.extend(view.pins.iter().map(|pin| format!("  pinned      {pin}")));
    lines.extend(quarantine_line(view));
    lines.extend(inventory.hardening.iter().map(|hardening| format!("  hardening   {hardening}")));
    lines.extend(view.clock_skew_ms.and_then(clock_line));
    lines.extend(view.health.iter().flat_map(health_lines));
    lines.extend(delivery_lines(&view.delivery));
    lines.extend(view.figures.iter().flat_map(|figures| figures_lines(figures)));
    lines
}

fn quarantine_line(view: &DeviceView) -> Option<String> {
    let why = view.quarantine_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    view.quarantined.then(|| format!("  quarantine  rollouts pass it over{why}"))
}

fn clock_line(skew_ms: i64) -> Option<String> {
    let side = if skew_ms > 0 { "ahead of" } else { "behind" };
    let seconds = skew_ms.unsigned_abs() as f64 / 1_000.0;
    (skew_ms.unsigned_abs() > MAX_SKEW_MS)
        .then(|| format!("  clock       {seconds:.1} s {side} the server's"))
}

fn health_lines(health: &DeviceHealth) -> Vec<String> {
    let temperature = health.temperature_celsius.map(|degrees| format!(", {degrees:.0} °C"));
    vec![
        format!(
            "  health      {:.0} % cpu, {} of {} MiB used, {} MiB of disk free{}",
            health.cpu_percent,
            health.memory_used_mib,
            health.memory_total_mib,
            health.disk_free_mib,
            temperature.unwrap_or_default()
        ),
        format!(
            "  up          {}, the agent uses {:.1} MiB",
            duration(health.uptime_secs),
            health.agent_memory_kib as f64 / 1_024.0
        ),
        format!(
            "  traffic     {} bytes sent, {} received since the agent was started",
            health.link_sent_bytes, health.link_received_bytes
        ),
    ]
}

/// What was lost is told always, what is bounded only where there is a bound.
fn delivery_lines(delivery: &DeliveryView) -> Vec<String> {
    let place = if delivery.in_memory { " in memory, since the disk refuses them" } else { "" };
    let mut lines = vec![format!(
        "  telemetry   {} bytes today, {} windows waiting{place}, {} lost windows",
        delivery.telemetry_bytes_today, delivery.waiting_windows, delivery.lost_windows
    )];
    let limits =
        [("telemetry", delivery.telemetry_bytes_per_day), ("transfers", delivery.transfer_bytes_per_day)];
    let known = if delivery.confirmed { "" } else { ", not confirmed yet" };
    let limits = limits.iter().filter_map(|(what, bytes)| Some((what, (*bytes)?)));
    lines.extend(limits.map(|(what, bytes)| format!("  limit       {bytes} bytes of {what} a day{known}")));
    lines
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn figures_lines(figures: &[ReleaseFigures]) -> Vec<String> {
    if figures.is_empty() {
        return Vec::new();
    }
    let header =
        ["release", "inferences", "failures", "busy", "slow", "accuracy", "confidence", "p50", "p99"];
    let rows: Vec<_> = figures.iter().map(figures_row).collect();
    let counted = table(header, &rows).trim_fmt();
    let counted = counted.lines().map(|line| format!(" {line}"));
    counted.chain(figures.iter().flat_map(custom_lines)).collect()
}

/// What applications reported while a version answered.
fn custom_lines(figures: &ReleaseFigures) -> Vec<String> {
    let line = |(name, of): (&String, &CustomView)| {
        let per = match of.kind {
            CustomKind::Counter => "per inference",
            CustomKind::Gauge => "on average",
        };
        let value = of.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        format!("  {}  {} {name} {value} {per}, {} reports", figures.release, of.kind, of.reports)
    };
    figures.custom.iter().map(line).collect()
}

fn figures_row(figures: &ReleaseFigures) -> [String; 9] {
    let counts = &figures.counts;
    [
        figures.release.clone(),
        counts.judged().to_string(),
        failures(counts),
        counts.busy.to_string(),
        counts.slow.to_string(),
        accuracy(&figures.labels),
        figures.confidence.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.3}")),
        milliseconds(figures.latency_p50_ms),
        milliseconds(figures.latency_p99_ms),
    ]
}

/// Outputs that are not numbers are told apart: they are the model's own fault.
fn failures(counts: &Counts) -> String {
    match counts.non_finite {
        0 => counts.failures().to_string(),
        non_finite => format!("{} ({non_finite} non-finite)", counts.failures()),
    }
}

fn accuracy(labels: &LabelsView) -> String {
    let all = labels.correct.saturating_add(labels.wrong);
    labels.accuracy.map_or_else(|| "-".to_owned(), |share| format!("{:.1} % of {all}", share * 100.0))
}

fn milliseconds(latency: Option<f64>) -> String {
    latency.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms"))
}

pub(super) fn link(view: &DeviceView) -> &'static str {
    match (view.revoked, view.connected) {
        (true, _) => "revoked",
        (false, true) => "connected",
        (false, false) => "offline",
    }
}

pub(super) fn runs(view: &DeviceView) -> String {
    let model = |on: &crate::api::ReleaseOnDevice| match (&on.committed, &on.candidate) {
        (Some(committed), Some(candidate)) => format!("{committed} ({candidate} {})", on.step),
        (None, Some(candidate)) => format!("({candidate} {})", on.step),
        (Some(committed), None) => committed.clone(),
        (None, None) => String::new(),
    };
    view.models.iter().map(model).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn figures_are_told_with_non_finite_outputs_apart_and_nothing_invented() {
        let queue = CustomView { kind: CustomKind::Gauge, sum: 50.0, reports: 40, value: Some(1.25) };
        let full = ReleaseFigures {
            release: "digits@2".into(),
            updated_at: 0,
            counts: Counts { ok: 261, non_finite: 39, busy: 4, slow: 2, ..Counts::default() },
            labels: LabelsView { correct: 9, wrong: 1, accuracy: Some(0.9) },
            confidence: Some(0.8),
            custom: [("queue".into(), queue)].into(),
            latency_p50_ms: Some(0.183),
            latency_p99_ms: Some(1.5),
        };
        let row = [
            "digits@2",
            "300",
            "39 (39 non-finite)",
            "4",
            "2",
            "90.0 % of 10",
            "0.800",
            "0.18 ms",
            "1.50 ms",
        ];
        assert_eq!(figures_row(&full), row);
        assert_eq!(custom_lines(&full), ["  digits@2  gauge queue 1.2500 on average, 40 reports"]);
        let empty = ReleaseFigures {
            confidence: None,
            custom: BTreeMap::new(),
            counts: Counts::default(),
            labels: LabelsView { correct: 0, wrong: 0, accuracy: None },
            latency_p50_ms: None,
            latency_p99_ms: None,
            ..full
        };
        assert_eq!(figures_row(&empty), ["digits@2", "0", "0", "0", "0", "-", "-", "-", "-"]);
    }

    #[test]
    fn a_temperature_is_told_where_there_is_one() {
        let mut health = DeviceHealth { uptime_secs: 90_061, ..DeviceHealth::default() };
        assert!(!health_lines(&health).concat().contains("°C"));
        health.temperature_celsius = Some(61.4);
        let lines = health_lines(&health);
        assert!(lines[0].ends_with("61 °C") && lines[1].contains("1 d 1 h"), "{lines:?}");
    }

    #[test]
    fn lost_windows_are_told_and_limits_where_there_are_some() {
        let mut delivery = DeliveryView { lost_windows: 3, confirmed: true, ..DeliveryView::default() };
        assert!(delivery_lines(&delivery)[0].ends_with("3 lost windows"));
        assert_eq!(delivery_lines(&delivery).len(), 1);
        (delivery.telemetry_bytes_per_day, delivery.confirmed) = (Some(2_000_000), false);
        let line = "  limit       2000000 bytes of telemetry a day, not confirmed yet";
        assert_eq!(delivery_lines(&delivery)[1], line);
    }

    #[test]
    fn a_clock_within_two_seconds_gets_no_line() {
        assert_eq!(clock_line(-2_000), None);
        assert_eq!(clock_line(2_500).unwrap(), "  clock       2.5 s ahead of the server's");
    }
}
