//! Alarms of drift.

use fleet_core::drift::{Cause, Distances, Evidence, whose};
use muster_sketch::distance::Score;
use reqwest::Method;
use serde_json::json;

use crate::{
    api::{AlarmView, CloseAlarm},
    cli::{
        Client, Failure,
        args::AlarmStateWord,
        output::{Output, moment},
    },
};

pub(super) async fn list(
    client: &Client,
    model: Option<String>,
    state: Option<AlarmStateWord>,
    output: &Output,
) -> Result<(), Failure> {
    let mut query = Vec::new();
    query.extend(model.map(|model| ("model", model)));
    query.extend(state.map(|state| ("state", state.word().to_owned())));
    let alarms: Vec<AlarmView> = client.get("/drift/alarms", &query).await?;
    output.list(["id", "state", "since", "times", "release", "feature", "whose", "what"], &alarms, row);
    Ok(())
}

pub(super) async fn show(client: &Client, alarm: u64, output: &Output) -> Result<(), Failure> {
    let view: AlarmView = client.get(&format!("/drift/alarms/{alarm}"), &[]).await?;
    one(&view, output);
    Ok(())
}

pub(super) async fn acknowledge(
    client: &Client,
    alarm: u64,
    trial: &str,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/drift/alarms/{alarm}/acknowledge{trial}");
    let view: AlarmView = client.send_json(Method::POST, &path, &json!({})).await?;
    one(&view, output);
    Ok(())
}

pub(super) async fn close(
    client: &Client,
    alarm: u64,
    reason: String,
    trial: &str,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/drift/alarms/{alarm}/close{trial}");
    let view: AlarmView = client.send_json(Method::POST, &path, &CloseAlarm { reason }).await?;
    one(&view, output);
    Ok(())
}

fn one(view: &AlarmView, output: &Output) {
    output.one(view, &view.id.to_string(), || lines(view));
}

fn row(view: &AlarmView) -> [String; 8] {
    [
        view.id.to_string(),
        view.state.clone(),
        moment(Some(view.opened_at)),
        view.times.to_string(),
        view.release.clone(),
        view.feature.clone(),
        whose(&view.scope),
        view.cause.clone(),
    ]
}

fn lines(view: &AlarmView) -> Vec<String> {
    let mut lines = vec![
        format!("alarm {}, {}", view.id, view.state),
        format!("  {}", view.text),
        format!("  release   {}", view.release),
        format!(
            "  found     {}, last {}, {} times",
            moment(Some(view.opened_at)),
            moment(Some(view.last_at)),
            view.times
        ),
    ];
    if let Some(by) = &view.by {
        let why = view.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!("  {:<9} by {by}, {}{why}", view.state, moment(view.by_at)));
    }
    if view.relearns {
        lines.push("  its devices learn the feature anew".into());
    }
    lines.extend(cause(&view.finding));
    lines.extend(view.evidence.iter().flat_map(counted));
    lines
}

fn cause(cause: &Cause) -> Vec<String> {
    let Cause::Drift { finding, others, uncounted } = cause else { return vec![] };
    let alarm = &finding.alarm;
    let since = match alarm.since_secs {
        0 => "from the first check on".to_owned(),
        since => format!("after {}", moment(Some(since * 1_000))),
    };
    let mut lines = vec![
        format!("  began     {since}; {} samples in {} checks since", alarm.samples, alarm.checks),
        format!("  evidence  {:.2e}, alarm at {:.2e}", alarm.evidence, alarm.threshold),
    ];
    if let Some(contrast) = &finding.contrast {
        lines.push(format!(
            "  moved     {:.3} ± {:.3} s.d. of its score, the others {:.3} ± {:.3}",
            contrast.inside, contrast.inside_error, contrast.outside, contrast.outside_error
        ));
    }
    if *others > 0 {
        lines.push(format!("  others    {others} devices with other versions were compared"));
    }
    if *uncounted {
        lines.push(
            "  others    something of another version could not be read; the server's log names it".into(),
        );
    }
    lines
}

fn counted(evidence: &Evidence) -> Vec<String> {
    let mut lines = vec![format!(
        "  counted   {} rows of {} devices, {} to {}",
        evidence.counts.rows(),
        evidence.devices,
        moment(Some(evidence.from_ms)),
        moment(Some(evidence.to_ms))
    )];
    match evidence.distances {
        Some(Distances::Numeric(of)) => {
            lines.push(distance("PSI", of.psi));
            lines.push(distance("Jensen-Shannon", of.jensen_shannon));
            lines.push(distance("Kolmogorov-Smirnov", of.kolmogorov_smirnov));
            lines.push(distance("Wasserstein", of.wasserstein));
        }
        Some(Distances::Category(of)) => {
            lines.push(distance("PSI", of.psi));
            lines.push(distance("Jensen-Shannon", of.jensen_shannon));
        }
        None => {}
    }
    lines
}

fn distance(name: &str, score: Score) -> String {
    let noise = if score.reportable { "" } else { ", which is noise" };
    format!("    {name:<18}  {:.4}, {:.4} without drift{noise}", score.value, score.noise_floor)
}
