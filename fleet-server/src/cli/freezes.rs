//! `freeze`.

use reqwest::Method;

use super::{
    Client, Failure,
    args::{FreezeArgs, FreezeCommand},
    output::{Output, moment, say},
};
use crate::{
    api::{AddFreeze, FreezeView},
    clock::Clock,
};

pub(super) async fn run(client: &Client, command: FreezeCommand, output: &Output) -> Result<(), Failure> {
    match command {
        FreezeCommand::Add(args) => add(client, args, output).await,
        FreezeCommand::List => {
            let freezes: Vec<FreezeView> = client.get("/freezes", &[]).await?;
            output.list(["id", "from", "until", "holds", "devices", "by", "reason"], &freezes, row);
            Ok(())
        }
        FreezeCommand::Remove { id, trial } => {
            client.act(Method::DELETE, &format!("/freezes/{id}{}", trial.query())).await?;
            say(if trial.dry_run { "it would be removed" } else { "removed" });
            Ok(())
        }
    }
}

async fn add(client: &Client, args: FreezeArgs, output: &Output) -> Result<(), Failure> {
    let now = Clock::start().now();
    let body = AddFreeze {
        from: Some(args.from.seen_from(now).as_millis()),
        until: args.until.seen_from(now).as_millis(),
        reason: args.reason,
        selector: args.selector,
    };
    let path = format!("/freezes{}", args.trial.query());
    let view: FreezeView = client.send_json(Method::POST, &path, &body).await?;
    output.one(&view, &view.id, || lines(&view));
    Ok(())
}

fn row(view: &FreezeView) -> [String; 7] {
    [
        view.id.clone(),
        moment(Some(view.from)),
        moment(Some(view.until)),
        if view.holds { "yes" } else { "no" }.to_owned(),
        devices(view).to_owned(),
        view.created_by.clone(),
        view.reason.clone(),
    ]
}

fn lines(view: &FreezeView) -> Vec<String> {
    vec![
        view.id.clone(),
        format!("  from     {}", moment(Some(view.from))),
        format!("  until    {}", moment(Some(view.until))),
        format!("  devices  {}", devices(view)),
        format!("  reason   {}", view.reason),
    ]
}

fn devices(view: &FreezeView) -> &str {
    view.selector.as_deref().unwrap_or("all")
}
