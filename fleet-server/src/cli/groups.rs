//! `group`.

use reqwest::Method;

use super::{
    Client, Failure,
    args::GroupCommand,
    output::{Output, moment, say},
};
use crate::api::{CreateGroup, GroupDevicesView, GroupView};

pub(super) async fn run(client: &Client, command: GroupCommand, output: &Output) -> Result<(), Failure> {
    match command {
        GroupCommand::Create { name, selector, trial } => {
            let body = CreateGroup { name, selector };
            let path = format!("/groups{}", trial.query());
            let view: GroupView = client.send_json(Method::POST, &path, &body).await?;
            output.one(&view, &view.name, || lines(&view));
        }
        GroupCommand::List => {
            let groups: Vec<GroupView> = client.get("/groups", &[]).await?;
            output.list(["group", "selector", "by", "since"], &groups, |view| {
                [
                    view.name.clone(),
                    view.selector.clone(),
                    view.created_by.clone(),
                    moment(Some(view.created_at)),
                ]
            });
        }
        GroupCommand::Show { name } => {
            let view: GroupDevicesView = client.get(&format!("/groups/{name}"), &[]).await?;
            output.one(&view, &view.group.name, || device_lines(&view));
        }
        GroupCommand::Delete { name, trial } => {
            client.act(Method::DELETE, &format!("/groups/{name}{}", trial.query())).await?;
            say(if trial.dry_run { "it would be deleted" } else { "deleted" });
        }
    }
    Ok(())
}

fn lines(view: &GroupView) -> Vec<String> {
    vec![
        view.name.clone(),
        format!("  selector  {}", view.selector),
        format!("  made      {} by {}", moment(Some(view.created_at)), view.created_by),
    ]
}

fn device_lines(view: &GroupDevicesView) -> Vec<String> {
    let mut lines = lines(&view.group);
    lines.push(format!("  devices   {}", view.count));
    lines.extend(view.devices.iter().map(|device| format!("    {device}")));
    let hidden = view.count.saturating_sub(view.devices.len());
    lines.extend((hidden > 0).then(|| format!("    … and {hidden} more")));
    lines
}
