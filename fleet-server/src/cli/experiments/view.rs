//! Experiments and their results for people.

use fleet_core::experiment::{Adoption, Arm, ArmStatus, ExperimentStatus, Row, State};

use super::super::output::table;
use crate::{
    api::{ExperimentView, ReportView},
    clock::moment,
};

/// Devices shown of an arm; more do not fit a screen.
const MAX_SHOWN: usize = 20;

pub(super) fn lines(view: &ExperimentView) -> Vec<String> {
    let status = &view.status;
    let mut lines = vec![format!(
        "{}: {} against {} for {}: {}",
        status.id, status.arms.a.release, status.arms.b.release, status.selector, view.phase
    )];
    lines.extend(status.reason.iter().map(|reason| format!("  {reason}")));
    if status.adoption != Adoption::None {
        lines.push(format!("  {}", status.adoption));
    }
    lines.push(format!("  {}", since(status)));
    lines.push(format!(
        "  dealt by seed {}, shares {} and {} %",
        status.seed, status.shares.a, status.shares.b
    ));
    for (arm, of) in status.arms.as_ref() {
        lines.extend(arm_lines(arm, of));
    }
    lines.extend(
        status
            .left_out
            .iter()
            .take(MAX_SHOWN)
            .map(|left| format!("  left out: {} {}", left.device, left.why)),
    );
    lines.extend(hidden(status.left_out.len(), "  "));
    lines
}

fn since(status: &ExperimentStatus) -> String {
    let (started, deadline) = (moment(status.started_at), moment(status.deadline));
    match &status.state {
        State::Preparing => {
            format!("started {started}; an arm waits for approval; ends {deadline} at the latest")
        }
        State::Comparing { since } => {
            format!("started {started}, compared since {}; ends {deadline} at the latest", moment(*since))
        }
        State::Ended { at, .. } => format!("started {started}, ended {}", moment(*at)),
    }
}

fn arm_lines(arm: Arm, of: &ArmStatus) -> Vec<String> {
    let carried = match (&of.rollout, &of.carrying) {
        (Some(rollout), Some(how)) => format!("rollout {rollout} {how}"),
        _ => "all run it already".to_owned(),
    };
    let mut lines = vec![format!("  arm {arm}: {}, {} devices; {carried}", of.release, of.devices.len())];
    lines.extend(of.devices.iter().take(MAX_SHOWN).map(|assigned| {
        let from = assigned.from.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"));
        let change = if assigned.moves { format!("from {from}") } else { "stays".to_owned() };
        format!("    {}  {change}", assigned.device)
    }));
    lines.extend(hidden(of.devices.len(), "    "));
    lines
}

fn hidden(count: usize, indent: &str) -> Option<String> {
    let hidden = count.saturating_sub(MAX_SHOWN);
    (hidden > 0).then(|| format!("{indent}… and {hidden} more"))
}

pub(super) fn report_lines(view: &ReportView) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}: A is {} on {} devices, B is {} on {} devices; {}",
            view.experiment, view.a, view.devices_a, view.b, view.devices_b, view.phase
        ),
        format!("  {}", view.result),
        format!("  {}", view.adoption),
        String::new(),
    ];
    let header = [
        "metric",
        "B against A",
        "margin",
        "A worse",
        "B worse",
        "A not worse",
        "B not worse",
        "devices",
        "looks",
        "shows",
    ];
    let rows: Vec<_> = view.metrics.iter().map(row).collect();
    lines.extend(table(header, &rows).trim_fmt().lines().map(str::to_owned));
    lines.push(String::new());
    lines.push(format!(
        "evidence: {:.0} over all metrics show that an arm is worse (A {}, B {}), {:.0} of each metric that it is not",
        view.differs_at,
        evidence(view.e_worse.a),
        evidence(view.e_worse.b),
        view.equal_at
    ));
    let replays = match view.replays {
        Some(true) => "judged once more from them, it gives the same result",
        Some(false) => "judged once more from them, it DOES NOT give the stored result",
        None => "older ones are not kept any more, so it cannot be judged once more",
    };
    lines.push(format!("{} looks before and {} since; {replays}", view.looks_before, view.looks));
    lines
}

fn row(row: &Row) -> [String; 10] {
    let estimate = row.estimate.map_or_else(|| "-".to_owned(), |estimate| row.written(estimate));
    [
        row.metric.to_string(),
        estimate,
        row.written(row.margin).replace('+', "±"),
        evidence(row.e_worse.a),
        evidence(row.e_worse.b),
        evidence(row.e_not_worse.a),
        evidence(row.e_not_worse.b),
        format!("{}, {}", row.devices.a, row.devices.b),
        row.looks.to_string(),
        row.shown.to_string(),
    ]
}

fn evidence(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 100_000.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.1e}"),
    }
}
