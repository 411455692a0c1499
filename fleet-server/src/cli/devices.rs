//! `device`.

mod at;
mod changes;
mod view;

use clap::ValueEnum;
use reqwest::Method;

use super::{
    Client, Failure,
    args::{DeviceCommand, LimitsArgs, ListArgs},
    output::{Output, labels, moment},
};
use view::{lines, link, runs};

use crate::api::{DeviceList, DeviceStatus, DeviceView, SetLimits, SetQuarantine, WhyView};

pub(super) async fn run(client: &Client, command: DeviceCommand, output: &Output) -> Result<(), Failure> {
    match command {
        DeviceCommand::List(args) => list(client, args, output).await,
        DeviceCommand::Show { id } => {
            let view: DeviceView = client.get(&format!("/devices/{id}"), &[]).await?;
            output.one(&view, &view.id, || lines(&view));
            Ok(())
        }
        DeviceCommand::Label { id, changes, trial } => {
            changes::label(client, &id, &changes, trial, output).await
        }
        DeviceCommand::Pin { id, model, trial } => {
            changes::pin(client, &id, &model, Method::PUT, trial, output).await
        }
        DeviceCommand::Unpin { id, model, trial } => {
            changes::pin(client, &id, &model, Method::DELETE, trial, output).await
        }
        DeviceCommand::Quarantine { id, reason, trial } => {
            let body = SetQuarantine { quarantined: true, reason };
            changes::quarantine(client, &id, body, trial, output).await
        }
        DeviceCommand::Release { id, trial } => {
            let body = SetQuarantine { quarantined: false, reason: None };
            changes::quarantine(client, &id, body, trial, output).await
        }
        DeviceCommand::At { id, time, model } => at::run(client, &id, &time, model, output).await,
        DeviceCommand::Limits(args) => limit(client, args, output).await,
        DeviceCommand::Why { id } => {
            let why: WhyView = client.get(&format!("/devices/{id}/why"), &[]).await?;
            output.one(&why, &why.device.id, || {
                let reasons = why.reasons.iter().map(|reason| format!("  - {reason}"));
                lines(&why.device).into_iter().chain(reasons).collect()
            });
            Ok(())
        }
        DeviceCommand::Revoke { id, trial } => changes::revoke(client, &id, trial).await,
    }
}

async fn limit(client: &Client, args: LimitsArgs, output: &Output) -> Result<(), Failure> {
    let body = SetLimits {
        telemetry_bytes_per_day: args.telemetry_bytes_per_day,
        transfer_bytes_per_day: args.transfer_bytes_per_day,
    };
    let ids = match args.id {
        Some(id) => vec![id],
        None => select(client, args.selector, None).await?.into_iter().map(|view| view.id).collect(),
    };
    for id in ids {
        let view: DeviceView = client.send_json(Method::PUT, &format!("/devices/{id}/limits"), &body).await?;
        output.one(&view, &view.id, || lines(&view));
    }
    Ok(())
}

async fn select(
    client: &Client,
    selector: Option<String>,
    status: Option<DeviceStatus>,
) -> Result<Vec<DeviceView>, Failure> {
    let mut query: Vec<(&str, String)> = selector.map(|text| ("selector", text)).into_iter().collect();
    let word = status.as_ref().and_then(ValueEnum::to_possible_value);
    query.extend(word.map(|word| ("status", word.get_name().to_owned())));
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

async fn list(client: &Client, args: ListArgs, output: &Output) -> Result<(), Failure> {
    let devices = select(client, args.selector, args.status).await?;
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
