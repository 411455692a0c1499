//! Plans and evidence for people.

use fleet_core::{Plan, Reach, WaveKind, verdict::by_metric};

use crate::api::ExplainView;

pub(super) fn plan_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
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
    lines.extend(plan.freezes.iter().map(ToString::to_string));
    lines
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
        let replays =
            if wave.replays { "gives the same verdicts" } else { "DOES NOT give the stored verdicts" };
        lines.push(format!("  judged once more from the stored looks, it {replays}"));
    }
    lines
}
