//! `model`.

mod watched;

use std::path::Path;

use reqwest::multipart::{Form, Part};

use super::{
    Client, Failure,
    args::{ModelCommand, PublishArgs},
    output::{Output, moment, say},
};
use crate::api::{ModelSummary, Published, ReleaseView};

pub(super) async fn run(client: &Client, command: ModelCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ModelCommand::Publish(args) => publish(client, args, output).await,
        ModelCommand::List => {
            let models: Vec<ModelSummary> = client.get("/models", &[]).await?;
            output.list(["name", "newest", "versions", "published"], &models, |model| {
                [
                    model.name.clone(),
                    model.newest.to_string(),
                    model.versions.to_string(),
                    moment(Some(model.published_at)),
                ]
            });
            Ok(())
        }
        ModelCommand::Show { model } => show(client, &model, output).await,
    }
}

async fn publish(client: &Client, args: PublishArgs, output: &Output) -> Result<(), Failure> {
    let mut form = Form::new().part("model", file(&args.file).await?);
    form = form.part("golden", file(&args.golden).await?).part("lineage", file(&args.lineage).await?);
    let optional = [("reference", &args.reference), ("features", &args.features), ("policy", &args.policy)];
    for (name, path) in optional {
        if let Some(path) = path {
            form = form.part(name, file(path).await?);
        }
    }
    let published: Published = client.send_form(&format!("/models/{}/versions", args.name), form).await?;
    if published.created {
        say(&format!("published {}", published.release));
    } else {
        say(&format!("these files are {} already; nothing was changed", published.release));
    }
    output.one(&published, &published.release, || lines(&published));
    Ok(())
}

fn lines(published: &Published) -> Vec<String> {
    let number = |name: &str| published.gate.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let mut lines = vec![
        published.release.clone(),
        format!("  transfer      {} bytes", published.transfer_bytes),
        format!("  golden cases  {} passed", number("cases")),
        format!(
            "  latency here  {} us median, {} us at most",
            number("latency_p50_us"),
            number("latency_max_us")
        ),
        format!("  memory here   {} KiB", number("peak_memory_kib")),
    ];
    lines.extend(watched::of_report(&published.gate));
    lines
}

async fn file(path: &Path) -> Result<Part, Failure> {
    let bytes = tokio::fs::read(path)
        .await
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Part::bytes(bytes).file_name(name))
}

async fn show(client: &Client, model: &str, output: &Output) -> Result<(), Failure> {
    let Some((name, version)) = model.split_once('@') else {
        let versions: Vec<ReleaseView> = client.get(&format!("/models/{model}/versions"), &[]).await?;
        output.list(["release", "published", "by", "transfer"], &versions, |view| {
            [
                view.release.clone(),
                moment(Some(view.published_at)),
                view.published_by.clone(),
                format!("{} bytes", view.transfer_bytes),
            ]
        });
        return Ok(());
    };
    let view: ReleaseView = client.get(&format!("/models/{name}/versions/{version}"), &[]).await?;
    output.one(&view, &view.release, || release_lines(&view));
    Ok(())
}

fn release_lines(view: &ReleaseView) -> Vec<String> {
    let manifest = &view.manifest;
    let mut lines = vec![
        view.release.clone(),
        format!("  published     {} by {}", moment(Some(view.published_at)), view.published_by),
        format!("  manifest      {}", view.manifest_digest),
        format!("  model         {} ({} bytes)", manifest.model.digest, manifest.model.size_bytes),
        format!("  transfer      {} bytes", view.transfer_bytes),
        format!("  golden cases  {}", manifest.golden.cases),
        format!("  latency       at most {} ms", manifest.budgets.latency_ms),
        format!("  probation     {} s", manifest.probation.duration_secs),
    ];
    lines.extend(manifest.inputs.iter().map(|spec| format!("  input         {spec}")));
    lines.extend(manifest.outputs.iter().map(|spec| format!("  output        {spec}")));
    lines.extend(watched::of_manifest(manifest.drift.as_ref()));
    lines.extend(
        manifest.lineage.metrics.iter().map(|(name, value)| format!("  metric        {name} {value}")),
    );
    lines
}
