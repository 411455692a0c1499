//! `challenger`.

use reqwest::Method;
use shared::ReleaseId;

use super::{
    Client, Failure,
    args::{ChallengerCommand, ChallengerStart},
    output::Output,
};
use crate::{
    api::{ChallengedView, ChallengerReport, MatchView, StartChallenger, StopChallenger},
    clock::Clock,
};

/// Devices that an answer for people names.
const NAMED: usize = 10;

pub(super) async fn run(client: &Client, command: ChallengerCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ChallengerCommand::Start(args) => start(client, args, output).await,
        ChallengerCommand::Stop { release, on, trial } => {
            let path = format!("{}/stop{}", path(&release), trial.query());
            let body = StopChallenger { selector: on };
            let view: ChallengedView = client.send_json(Method::POST, &path, &body).await?;
            let verb = if trial.dry_run { "would end" } else { "ends" };
            output.one(&view, &view.release, || challenged(&view, verb));
            Ok(())
        }
        ChallengerCommand::Report { release } => {
            let report: ChallengerReport = client.get(&path(&release), &[]).await?;
            output.one(&report, &report.release, || lines(&report));
            Ok(())
        }
    }
}

async fn start(client: &Client, args: ChallengerStart, output: &Output) -> Result<(), Failure> {
    let now = Clock::start().now();
    let body = StartChallenger {
        selector: args.on,
        sample_share: Some(args.share),
        cpu_percent: Some(args.cpu),
        until: args.until.map(|until| until.seen_from(now).as_millis()),
    };
    let path = format!("{}{}", path(&args.release), args.trial.query());
    let view: ChallengedView = client.send_json(Method::PUT, &path, &body).await?;
    let verb = if args.trial.dry_run { "would run" } else { "runs" };
    output.one(&view, &view.release, || challenged(&view, verb));
    Ok(())
}

fn path(release: &ReleaseId) -> String {
    format!("/models/{}/challengers/{}", release.model, release.version)
}

fn challenged(view: &ChallengedView, verb: &str) -> Vec<String> {
    let mut lines = vec![format!("{} {verb} on {} devices", view.release, view.devices.len())];
    lines.extend(view.devices.iter().take(NAMED).map(|device| format!("  {device}")));
    let hidden = view.devices.len().saturating_sub(NAMED);
    lines.extend((hidden > 0).then(|| format!("  … and {hidden} more")));
    lines.extend(view.left_out.iter().take(NAMED).map(|left| format!("  not {}: {}", left.device, left.why)));
    let hidden = view.left_out.len().saturating_sub(NAMED);
    lines.extend((hidden > 0).then(|| format!("  … and {hidden} more not")));
    lines
}

fn lines(report: &ChallengerReport) -> Vec<String> {
    let steps: Vec<_> = report.steps.iter().map(|(step, devices)| format!("{devices} {step}")).collect();
    let mut lines = vec![report.release.clone(), format!("  devices      {}", report.devices)];
    lines.extend((!steps.is_empty()).then(|| format!("  steps        {}", steps.join(", "))));
    lines.extend(
        report.reasons.iter().map(|reason| format!("    {} of them: {}", reason.devices, reason.why)),
    );
    report.matches.iter().for_each(|one| lines.extend(match_lines(one)));
    if report.matches.is_empty() {
        lines.push("  nothing was compared yet".into());
    }
    lines
}

fn match_lines(one: &MatchView) -> Vec<String> {
    let mut lines = vec![
        format!("  beside {}, on {} devices", one.champion, one.devices),
        format!(
            "    samples    {} taken, {} compared, {} dropped, {} failed, {} slow",
            one.sampled, one.compared, one.dropped, one.failed, one.slow
        ),
    ];
    if let Some(agreement) = one.agreement {
        lines.push(format!(
            "    agreement  {} ({} to {}) of {} decisions",
            percent(agreement.share),
            percent(agreement.low),
            percent(agreement.high),
            one.agreed + one.disagreed
        ));
    }
    let pairs: Vec<_> = one
        .disagreements
        .iter()
        .map(|pair| format!("{} for {} ({})", pair.challenger, pair.champion, pair.count))
        .collect();
    lines.extend((!pairs.is_empty()).then(|| format!("    disagrees  says {}", pairs.join(", "))));
    let quantiles = [one.score_delta_p50, one.score_delta_p90, one.score_delta_p99];
    if let [Some(p50), Some(p90), Some(p99)] = quantiles {
        lines.push(format!("    scores     differ by {p50:.4} (median), {p90:.4} (90 %), {p99:.4} (99 %)"));
    }
    if let (Some(p50), Some(p99)) = (one.latency_p50_ms, one.latency_p99_ms) {
        lines.push(format!("    latency    {p50:.2} ms (median), {p99:.2} ms (99 %)"));
    }
    lines
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_report_says_how_sure_it_is_and_on_how_many_devices_and_samples() {
        let report = ChallengerReport {
            release: "digits@2".into(),
            devices: 3,
            steps: BTreeMap::from([("running".into(), 2), ("over".into(), 1)]),
            reasons: vec![],
            matches: vec![MatchView {
                champion: "digits@1".into(),
                devices: 2,
                sampled: 110,
                dropped: 5,
                failed: 1,
                compared: 100,
                slow: 0,
                agreed: 97,
                disagreed: 3,
                agreement: fleet_core::challenge::agreement(&[(48, 50), (49, 50)]),
                disagreements: vec![shared::challenger::Disagreement {
                    champion: 3,
                    challenger: 8,
                    count: 2,
                }],
                score_delta_p50: Some(0.01),
                score_delta_p90: Some(0.05),
                score_delta_p99: Some(0.4),
                latency_p50_ms: Some(0.2),
                latency_p99_ms: Some(0.9),
            }],
        };
        let text = lines(&report).join("\n");
        for part in [
            "1 over, 2 running",
            "beside digits@1, on 2 devices",
            "110 taken, 100 compared, 5 dropped, 1 failed",
            "97.00 % (91.55 % to 98.97 %) of 100 decisions",
            "8 for 3 (2)",
            "0.0500 (90 %)",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
