//! `rollout`.

mod apply;
mod request;
mod view;

use fleet_core::State;
use reqwest::Method;

use super::{
    Client, Failure,
    args::RolloutCommand,
    output::{Output, moment, say},
    watch,
};
use crate::api::{
    ApproveBody, ExplainView, Order, OrderBody, PlanView, RolloutSummaryView, RolloutView, StartRollout,
    StopBody, Stopped,
};

pub(super) use request::{read, wave};

pub(super) async fn run(client: &Client, command: RolloutCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RolloutCommand::Plan(args) => plan(client, &request::of_args(args)?, output).await,
        RolloutCommand::Start(args) => start(client, &request::of_args(args)?, output).await,
        RolloutCommand::Apply { file, dry_run } => {
            apply::apply(client, &request::of_file(&file)?, dry_run, output).await
        }
        RolloutCommand::Explain { id } => {
            let view: ExplainView = client.get(&format!("/rollouts/{id}/explain"), &[]).await?;
            output.one(&view, &id, || view::explain_lines(&view));
            Ok(())
        }
        RolloutCommand::Approve { id } => {
            let body = ApproveBody { wave: wave_under_way(client, &id).await? };
            let path = format!("/rollouts/{id}/approve");
            let view: RolloutView = client.send_json(Method::POST, &path, &body).await?;
            output.one(&view, view.status.id.as_str(), || watch::lines(&view));
            Ok(())
        }
        RolloutCommand::Status { id, watch: true, timeout } => {
            watch::watch(client, &id, timeout, output).await
        }
        RolloutCommand::Status { id, watch: false, .. } => {
            let view: RolloutView = client.get(&format!("/rollouts/{id}"), &[]).await?;
            output.one(&view, view.status.id.as_str(), || watch::lines(&view));
            Ok(())
        }
        RolloutCommand::List => list(client, output).await,
        RolloutCommand::Pause { id } => order(client, &id, Order::Pause, None, output).await,
        RolloutCommand::Resume { id } => order(client, &id, Order::Resume, None, output).await,
        RolloutCommand::Promote { id } => {
            let wave = Some(wave_under_way(client, &id).await?);
            give(client, &id, &OrderBody { order: Order::Promote, reason: None, wave }, output).await
        }
        RolloutCommand::Retry { id } => order(client, &id, Order::Retry, None, output).await,
        RolloutCommand::Halt { id, reason } => order(client, &id, Order::Halt, reason, output).await,
        RolloutCommand::Rollback { id } => order(client, &id, Order::Rollback, None, output).await,
    }
}

/// The wave that a person means who gives an order now.
async fn wave_under_way(client: &Client, id: &str) -> Result<usize, Failure> {
    let view: RolloutView = client.get(&format!("/rollouts/{id}"), &[]).await?;
    match view.status.state {
        State::AwaitingApproval { wave, .. } | State::Running { wave } | State::Paused { wave, .. } => {
            Ok(wave)
        }
        // The server says why the order does not fit.
        _ => Ok(0),
    }
}

async fn plan(client: &Client, request: &StartRollout, output: &Output) -> Result<(), Failure> {
    let view: PlanView = client.send_json(Method::POST, "/rollouts/plan", request).await?;
    output.one(&view, "plan", || view::plan_lines(&view.plan));
    Ok(())
}

async fn start(client: &Client, request: &StartRollout, output: &Output) -> Result<(), Failure> {
    let view: RolloutView = client.send_json(Method::POST, "/rollouts", request).await?;
    say(&format!("started; follow it with: muster rollout status {} --watch", view.status.id));
    output.one(&view, view.status.id.as_str(), || watch::lines(&view));
    Ok(())
}

/// `stop-everything`.
pub(super) async fn stop_everything(
    client: &Client,
    reason: String,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    if !yes {
        return Err(Failure::usage("this halts every rollout under way")
            .hint("if that is meant, say it once more with --yes"));
    }
    let stopped: Stopped = client.send_json(Method::POST, "/stop-everything", &StopBody { reason }).await?;
    output.one(&stopped, &stopped.rollouts.join("\n"), || match stopped.rollouts.as_slice() {
        [] => vec!["no rollout was under way".into()],
        ids => ids.iter().map(|id| format!("halted {id}")).collect(),
    });
    Ok(())
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let rollouts: Vec<RolloutSummaryView> = client.get("/rollouts", &[]).await?;
    output.list(["id", "release", "state", "started", "by"], &rollouts, |view| {
        [
            view.id.clone(),
            view.release.clone(),
            view.phase.clone(),
            moment(Some(view.created_at)),
            view.created_by.clone(),
        ]
    });
    Ok(())
}

async fn order(
    client: &Client,
    id: &str,
    order: Order,
    reason: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    give(client, id, &OrderBody { order, reason, wave: None }, output).await
}

async fn give(client: &Client, id: &str, body: &OrderBody, output: &Output) -> Result<(), Failure> {
    let view: RolloutView = client.send_json(Method::POST, &format!("/rollouts/{id}/orders"), body).await?;
    output.one(&view, view.status.id.as_str(), || watch::lines(&view));
    Ok(())
}
