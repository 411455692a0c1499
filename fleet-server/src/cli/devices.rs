//! `device`.

mod view;

use reqwest::Method;
use shared::device::parse_label;

use super::{
    Client, Failure,
    args::{DeviceCommand, LimitsArgs},
    output::{Output, labels, moment, say},
};
use view::{lines, link, runs};

use crate::api::{DeviceList, DeviceView, SetLabels, SetLimits, WhyView};

pub(super) async fn run(client: &Client, command: DeviceCommand, output: &Output) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { selector } => list(client, selector, output).await,
        DeviceCommand::Show { id } => {
            let view: DeviceView = client.get(&format!("/devices/{id}"), &[]).await?;
            output.one(&view, &view.id, || lines(&view));
            Ok(())
        }
        DeviceCommand::Label { id, changes } => label(client, &id, &changes, output).await,
        DeviceCommand::Limits(args) => limit(client, args, output).await,
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

async fn limit(client: &Client, args: LimitsArgs, output: &Output) -> Result<(), Failure> {
    let body = SetLimits {
        telemetry_bytes_per_day: args.telemetry_bytes_per_day,
        transfer_bytes_per_day: args.transfer_bytes_per_day,
    };
    let ids = match args.id {
        Some(id) => vec![id],
        None => select(client, args.selector).await?.into_iter().map(|view| view.id).collect(),
    };
    for id in ids {
        let view: DeviceView = client.send_json(Method::PUT, &format!("/devices/{id}/limits"), &body).await?;
        output.one(&view, &view.id, || lines(&view));
    }
    Ok(())
}

async fn select(client: &Client, selector: Option<String>) -> Result<Vec<DeviceView>, Failure> {
    let mut query: Vec<(&str, String)> = selector.map(|text| ("selector", text)).into_iter().collect();
    let mut devices = Vec::new();
    loop {
        let page: DeviceList = client.get("/devices", &query).await?;
        devices.extend(page.devices);
        let Some(next) = page.next else { break };
        query.retain(|(name, _)| *name != "after");
        query.push(("after", next));
    }
    Ok(devices)
}

async fn list(client: &Client, selector: Option<String>, output: &Output) -> Result<(), Failure> {
    let devices = select(client, selector).await?;
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
