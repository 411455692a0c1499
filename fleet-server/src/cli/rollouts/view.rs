//! Plans and evidence for people.

use std::collections::BTreeMap;

use fleet_core::{Expected, ExpectedWave, Plan, Reach, WaveKind, verdict::by_metric};

use crate::api::ExplainView;

pub(super) fn plan_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if plan.waves.is_empty() {
        lines.push("nobody would be asked, and a start would be refused".into());
    }
    for (number, wave) in plan.waves.iter().enumerate() {
        let bytes: u64 = wave.devices.iter().map(|device| device.bytes).sum();
        let offline = wave.devices.iter().filter(|device| device.reach == Reach::Offline).count();
        let kind = match wave.kind {
            WaveKind::Step | WaveKind::Late => "",
            WaveKind::Control => ", held back to the end",
        };
        let approve = if wave.approve { ", needs approval" } else { "" };
        lines.push(format!(
            "wave {}: {} devices ({offline} offline), at most {bytes} bytes, watched {} s{kind}{approve}",
            number + 1,
            wave.devices.len(),
            wave.bake_time_secs
        ));
        lines
            .extend(plan.expected.waves.get(number).map(|expected| format!("  {}", expected_line(expected))));
        lines.extend(wave.devices.iter().map(|device| {
            let from = device.from.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let reach = if device.reach == Reach::Offline { ", offline" } else { "" };
            format!("  {}  from {from}, {} bytes{reach}", device.device, device.bytes)
        }));
    }
    if !plan.blocked.is_empty() {
        lines.push(format!("left out: {} devices", plan.blocked.len()));
        lines.extend(plan.blocked.iter().map(|blocked| format!("  {}  {}", blocked.device, blocked.why)));
    }
    lines.extend(superseding(plan));
    lines.extend(plan.freezes.iter().map(ToString::to_string));
    lines.extend(total_line(&plan.expected));
    lines
}

/// Which rollouts lose devices to this one, and how many.
fn superseding(plan: &Plan) -> Vec<String> {
    let mut of = BTreeMap::<_, usize>::new();
    plan.supersedes.iter().for_each(|lost| *of.entry(&lost.rollout).or_default() += 1);
    of.into_iter()
        .map(|(rollout, devices)| format!("takes {devices} devices from rollout {rollout}"))
        .collect()
}

/// When a wave is asked and passes, from the start on.
fn expected_line(wave: &ExpectedWave) -> String {
    let mut line = format!(
        "expected: asked from {} to {}, settled at {}, passes at {}",
        time(wave.asked_from_secs),
        time(wave.asked_until_secs),
        time(wave.settled_secs),
        time(wave.passes_secs)
    );
    if wave.waits_for_approval {
        line.push_str(", and the time until somebody approves");
    }
    if wave.waits_for_quorum {
        line.push_str(", and the time until enough devices connect");
    }
    line + &format!("; at most {} longer", time(wave.at_most_longer_secs))
}

/// `None` for the plan of a server that does not tell.
fn total_line(expected: &Expected) -> Option<String> {
    (!expected.waves.is_empty()).then(|| {
        format!(
            "expected: {} if all goes well, {} for each device at {} bytes a second; who is offline is not counted",
            time(expected.total_secs),
            time(expected.passage_secs),
            expected.link_bytes_per_sec
        )
    })
}

/// `2d 03:15:00`, or without the days.
fn time(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60);
    if days == 0 { clock } else { format!("{days}d {clock}") }
}

pub(super) fn explain_lines(view: &ExplainView) -> Vec<String> {
    let mut lines = vec![format!("{} is {}", view.rollout, view.state)];
    if view.waves.is_empty() {
        lines.push(
            "no wave was compared: its strategy asks for no metrics, or nobody was left to compare with"
                .into(),
        );
    }
    for wave in &view.waves {
        lines.push(format!(
            "wave {}: {} on {} canaries against {} controls, learned from {} looks",
            wave.wave + 1,
            wave.candidate,
            wave.canaries,
            wave.controls,
            wave.looks_before
        ));
        lines.extend(wave.curve.lines().map(|line| format!("  {line}")));
        if let Some(last) = wave.records.last() {
            lines.extend(by_metric(last).iter().map(|line| format!("  {line}")));
        }
        lines.push(
            match wave.replays {
                Some(true) => "  judged once more from the stored looks, it gives the same verdicts",
                Some(false) => {
                    "  judged once more from the stored looks, it DOES NOT give the stored verdicts"
                }
                None => "  the oldest looks are not kept any more, so it cannot be judged once more",
            }
            .into(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_times_of_a_wave_read_as_one_line() {
        let wave = ExpectedWave {
            asked_from_secs: 0,
            asked_until_secs: 600,
            settled_secs: 1_261,
            passes_secs: 90_000,
            at_most_longer_secs: 86_339,
            waits_for_approval: true,
            waits_for_quorum: false,
        };
        assert_eq!(
            expected_line(&wave),
            "expected: asked from 00:00:00 to 00:10:00, settled at 00:21:01, passes at 1d 01:00:00, and the time until \
             somebody approves; at most 23:58:59 longer"
        );
        assert_eq!(total_line(&Expected::default()), None);
    }
}
