//! `device label`, `pin`, `unpin`, `quarantine`, `release` and `revoke`.

use reqwest::Method;
use serde_json::Value;
use shared::device::parse_label;

use super::view::lines;
use crate::{
    api::{DeviceView, SetLabels, SetQuarantine},
    cli::{
        Client, Failure,
        args::Trial,
        output::{Output, say},
    },
};

pub(super) async fn label(
    client: &Client,
    id: &str,
    changes: &[String],
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
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
    let path = format!("/devices/{id}/labels{}", trial.query());
    show(client.send_json(Method::PUT, &path, &body).await?, output);
    Ok(())
}

pub(super) async fn pin(
    client: &Client,
    id: &str,
    model: &str,
    method: Method,
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/devices/{id}/pins/{model}{}", trial.query());
    show(client.send_json(method, &path, &Value::Null).await?, output);
    Ok(())
}

pub(super) async fn quarantine(
    client: &Client,
    id: &str,
    body: SetQuarantine,
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/devices/{id}/quarantine{}", trial.query());
    show(client.send_json(Method::PUT, &path, &body).await?, output);
    Ok(())
}

pub(super) async fn revoke(client: &Client, id: &str, trial: Trial) -> Result<(), Failure> {
    client.act(Method::POST, &format!("/devices/{id}/revoke{}", trial.query())).await?;
    let done = if trial.dry_run { "would not be let in any more" } else { "is not let in any more" };
    say(&format!("{id} {done}"));
    Ok(())
}

fn show(view: DeviceView, output: &Output) {
    output.one(&view, &view.id, || lines(&view));
}
