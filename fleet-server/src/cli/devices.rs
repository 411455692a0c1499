//! `device`.

use reqwest::Method;
use shared::device::parse_label;

use super::{
    Client, Failure,
    args::DeviceCommand,
    output::{Output, labels, moment, say},
};
use crate::api::{DeviceList, DeviceView, SetLabels, WhyView};

pub(super) async fn run(client: &Client, command: DeviceCommand, output: &Output) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { selector } => list(client, selector, output).await,
        DeviceCommand::Show { id } => {
            let view: DeviceView = client.get(&format!("/devices/{id}"), &[]).await?;
            output.one(&view, &view.id, || lines(&view));
            Ok(())
        }
        DeviceCommand::Label { id, changes } => label(client, &id, &changes, output).await,
        DeviceCommand::Why { id } => {
            let why: WhyView = client.get(&format!("/devices/{id}/why"), &[]).await?;
            output.one(&why, &why.device.id, || {
                let reasons = why.reasons.iter().map(|reason| format!("  - {reason}"));
                lines(&why.device).into_iter().chain(reasons).collect()
            });
            Ok(())
        }
        DeviceCommand::Revoke { id } => {
            client.act(Method::POST, &format!("/devices/{id}/revoke")).await?;
            say(&format!("{id} is not let in any more"));
            Ok(())
        }
    }
}

async fn list(client: &Client, selector: Option<String>, output: &Output) -> Result<(), Failure> {
    let mut query: Vec<(&str, String)> = selector.map(|text| ("selector", text)).into_iter().collect();
    let mut devices = Vec::new();
    loop {
        let page: DeviceList = client.get("/devices", &query).await?;
        devices.extend(page.devices);
        let Some(next) = page.next else { break };
        query.retain(|(name, _)| *name != "after");
        query.push(("after", next));
    }
    output.list(["device", "link", "runs", "shall run", "labels", "last seen"], &devices, |view| {
        [
            view.id.clone(),
            link(view).to_owned(),
            runs(view),
            view.desired.join(","),
            labels(&view.labels),
            moment(view.last_seen),
        ]
    });
    Ok(())
}

fn link(view: &DeviceView) -> &'static str {
    match (view.revoked, view.connected) {
        (true, _) => "revoked",
        (false, true) => "connected",
        (false, false) => "offline",
    }
}

fn runs(view: &DeviceView) -> String {
    let model = |on: &crate::api::ReleaseOnDevice| match (&on.committed, &on.candidate) {
        (Some(committed), Some(candidate)) => format!("{committed} ({candidate} {})", on.step),
        (None, Some(candidate)) => format!("({candidate} {})", on.step),
        (Some(committed), None) => committed.clone(),
        (None, None) => String::new(),
    };
    view.models.iter().map(model).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(",")
}

fn lines(view: &DeviceView) -> Vec<String> {
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
    if let Some(health) = &view.health {
        lines.push(format!(
            "  health      {:.0} % cpu, {} of {} MiB used, {} MiB of disk free",
            health.cpu_percent, health.memory_used_mib, health.memory_total_mib, health.disk_free_mib
        ));
    }
    lines
}

async fn label(client: &Client, id: &str, changes: &[String], output: &Output) -> Result<(), Failure> {
    let mut view: DeviceView = client.get(&format!("/devices/{id}"), &[]).await?;
    for change in changes {
        match change.strip_suffix('-') {
            Some(name) if !change.contains('=') => {
                view.labels.remove(name);
            }
            _ => {
                let (name, value) = parse_label(change).map_err(Failure::usage)?;
                view.labels.insert(name, value);
            }
        }
    }
    let body = SetLabels { labels: view.labels };
    let view: DeviceView = client.send_json(Method::PUT, &format!("/devices/{id}/labels"), &body).await?;
    output.one(&view, &view.id, || lines(&view));
    Ok(())
}
