//! `drift`.

mod alarms;
mod bars;
mod report;

use fleet_core::drift::Relearn;
use reqwest::Method;
use serde_json::Value;

use super::{
    Client, Exit, Failure,
    args::{DriftCommand, DriftExportArgs, DriftSettingsArgs, ExportFormat, RelearnWord},
    output::{Output, moment, say},
    when::When,
};
use crate::{
    api::{DriftView, FeatureDrift, RelearnBody, RelearntView, SetSettings, SettingsView},
    clock::Clock,
};

pub(super) async fn run(client: &Client, command: DriftCommand, output: &Output) -> Result<(), Failure> {
    match command {
        DriftCommand::Status { model } => {
            let view: DriftView = client.get(&format!("/models/{model}/drift"), &[]).await?;
            output.one(&view, &view.model, || status(&view));
            Ok(())
        }
        DriftCommand::Report(args) => report::run(client, args, output).await,
        DriftCommand::Alarms { model, state } => alarms::list(client, model, state, output).await,
        DriftCommand::Show { alarm } => alarms::show(client, alarm, output).await,
        DriftCommand::Acknowledge { alarm, trial } => {
            alarms::acknowledge(client, alarm, trial.query(), output).await
        }
        DriftCommand::Close { alarm, reason, trial } => {
            alarms::close(client, alarm, reason, trial.query(), output).await
        }
        DriftCommand::Relearn { model, device, feature, version, trial } => {
            let path = format!("/models/{model}/drift/relearn{}", trial.query());
            let body = RelearnBody { device, feature, version };
            let view: RelearntView = client.send_json(Method::POST, &path, &body).await?;
            output.one(&view, &model, || relearnt(&view, trial.dry_run));
            Ok(())
        }
        DriftCommand::Settings(args) => settings(client, args, output).await,
        DriftCommand::Export(args) => export(client, args).await,
    }
}

async fn settings(client: &Client, args: DriftSettingsArgs, output: &Output) -> Result<(), Failure> {
    let DriftSettingsArgs { model, one_false_alarm_in_years, suppress, relearn, trial } = args;
    let path = format!("/models/{model}/drift/settings");
    let asks_only = one_false_alarm_in_years.is_none() && suppress.is_none() && relearn.is_none();
    let view: SettingsView = if asks_only {
        client.get(&path, &[]).await?
    } else {
        let relearn = relearn.map(|word| match word {
            RelearnWord::Never => Relearn::Never,
            RelearnWord::WhenAcknowledged => Relearn::WhenAcknowledged,
        });
        let suppress_secs = suppress.map(|time| time.as_secs());
        let body = SetSettings { one_false_alarm_in_years, suppress_secs, relearn };
        client.send_json(Method::PUT, &format!("{path}{}", trial.query()), &body).await?
    };
    output.one(&view, &model, || settings_lines(&view));
    Ok(())
}

async fn export(client: &Client, args: DriftExportArgs) -> Result<(), Failure> {
    let now = Clock::start().now();
    let ago = |time| When::Ago(time).seen_from(now).as_millis().to_string();
    let mut query = vec![("feature", args.feature), ("since", ago(args.since))];
    query.extend(args.until.map(|until| ("until", ago(until))));
    query.extend(args.version.map(|version| ("version", version.to_string())));
    query.extend(args.stratum.map(|stratum| ("stratum", stratum)));
    let path = format!("/models/{}/drift/windows", args.model);
    let bytes = match args.format {
        ExportFormat::Kll => {
            query.push(("format", "kll".to_owned()));
            client.get_bytes(&path, &query).await?
        }
        ExportFormat::Json => {
            let view: Value = client.get(&path, &query).await?;
            view.to_string().into_bytes()
        }
    };
    tokio::fs::write(&args.file, &bytes).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write {}: {error}", args.file.display()))
    })?;
    say(&format!("wrote {} bytes to {}", bytes.len(), args.file.display()));
    Ok(())
}

fn relearnt(view: &RelearntView, dry_run: bool) -> Vec<String> {
    let would = if dry_run { "would begin" } else { "begin" };
    let mut lines = vec![format!("baselines of {} {would} anew", view.releases.join(", "))];
    let closed: Vec<_> = view.closed.iter().map(ToString::to_string).collect();
    lines.extend((!closed.is_empty()).then(|| format!("  over with it: alarms {}", closed.join(", "))));
    lines
}

fn settings_lines(view: &SettingsView) -> Vec<String> {
    let of = if view.is_default {
        "the server's, nobody has said anything of this model"
    } else {
        "the model's own"
    };
    vec![
        format!("  settings      {of}"),
        format!("  false alarms  at most one in {} years", view.one_false_alarm_in_years),
        format!("  silent        {} s after a finding", view.suppress_secs),
        format!(
            "  new baseline  {}",
            match view.relearn {
                Relearn::Never => "only when somebody orders it",
                Relearn::WhenAcknowledged => "also when somebody acknowledges a drift",
            }
        ),
        format!("  checks        every {} s", view.check_secs),
        format!("  strata        {}", view.strata.join(", ")),
    ]
}

fn status(view: &DriftView) -> Vec<String> {
    let mut lines = vec![view.model.clone()];
    lines.extend(settings_lines(&view.settings));
    for version in &view.versions {
        lines.push(format!("  version {}", version.version));
        version.features.iter().for_each(|feature| lines.extend(feature_lines(feature)));
    }
    if view.versions.is_empty() {
        lines.push("  nothing was checked yet".into());
    }
    lines.push(format!("  alarms        {}", view.alarms.len()));
    lines.extend(view.alarms.iter().map(|alarm| format!("    {}  {}", alarm.id, alarm.text)));
    lines
}

fn feature_lines(FeatureDrift { feature, status }: &FeatureDrift) -> Vec<String> {
    let mut lines = vec![
        format!("    {feature}"),
        format!(
            "      evidence    {:.1e} of {:.1e}, checked {}",
            status.evidence,
            status.threshold,
            moment(Some(status.at.as_millis()))
        ),
        format!(
            "      devices     {} watched, {} learning, {} silent; {} brought {} samples",
            status.watching, status.learning, status.suppressed, status.devices, status.samples
        ),
    ];
    let leaders: Vec<_> =
        status.leaders.iter().map(|leader| format!("{} {:.1e}", leader.device, leader.evidence)).collect();
    lines.extend((!leaders.is_empty()).then(|| format!("      most of it  {}", leaders.join(", "))));
    let left_out = [
        (status.devices_left_out, "devices"),
        (status.groups_left_out, "groups"),
        (status.findings_left_out, "findings"),
    ];
    let left_out: Vec<_> =
        left_out.iter().filter(|(count, _)| *count > 0).map(|(n, what)| format!("{n} {what}")).collect();
    lines.extend((!left_out.is_empty()).then(|| format!("      left out    {}", left_out.join(", "))));
    lines
}
