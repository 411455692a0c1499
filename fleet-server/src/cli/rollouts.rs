//! `rollout`.

mod apply;
mod request;
mod view;

use fleet_core::State;
use reqwest::Method;
use serde::Serialize;

use super::{
    Client, Failure,
    args::{RolloutCommand, Trial},
    output::{Output, moment, say},
    watch,
};
use crate::api::{
    ApproveBody, ExplainView, Order, OrderBody, PlanView, RolloutSummaryView, RolloutView, StartRollout,
    StopBody, Stopped,
};

pub(super) use request::{read, wave};

/// Said before what a trial answers.
const NOTHING_DONE: &str = "nothing was done; this is what it would be";

pub(super) async fn run(client: &Client, command: RolloutCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RolloutCommand::Plan(args) => plan(client, &request::of_args(args)?, output).await,
        RolloutCommand::Start { wanted, trial } => {
            start(client, &request::of_args(wanted)?, trial, output).await
        }
        RolloutCommand::Apply { file, dry_run, again } => {
            apply::apply(client, &request::of_file(&file)?, (dry_run, again), output).await
        }
        RolloutCommand::Explain { id } => {
            let view: ExplainView = client.get(&format!("/rollouts/{id}/explain"), &[]).await?;
            output.one(&view, &id, || view::explain_lines(&view));
            Ok(())
        }
        RolloutCommand::Approve { id, trial } => {
            let body = ApproveBody { wave: wave_under_way(client, &id).await? };
            give(client, &format!("/rollouts/{id}/approve"), &body, trial, output).await
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
        RolloutCommand::Pause { id, trial } => order(client, &id, Order::Pause, trial, output).await,
        RolloutCommand::Resume { id, trial } => order(client, &id, Order::Resume, trial, output).await,
        RolloutCommand::Promote { id, trial } => {
            let wave = Some(wave_under_way(client, &id).await?);
            let body = OrderBody { order: Order::Promote, reason: None, wave };
            give(client, &orders(&id), &body, trial, output).await
        }
        RolloutCommand::Retry { id, trial } => order(client, &id, Order::Retry, trial, output).await,
        RolloutCommand::Halt { id, reason, trial } => {
            let body = OrderBody { order: Order::Halt, reason, wave: None };
            give(client, &orders(&id), &body, trial, output).await
        }
        RolloutCommand::Rollback { id, trial } => order(client, &id, Order::Rollback, trial, output).await,
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

async fn start(
    client: &Client,
    request: &StartRollout,
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/rollouts{}", trial.query());
    let view: RolloutView = client.send_json(Method::POST, &path, request).await?;
    say(&match trial.dry_run {
        true => NOTHING_DONE.to_owned(),
        false => format!("started; follow it with: muster rollout status {} --watch", view.status.id),
    });
    output.one(&view, view.status.id.as_str(), || watch::lines(&view));
    Ok(())
}

/// `stop-everything`.
pub(super) async fn stop_everything(
    client: &Client,
    (reason, yes): (String, bool),
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    if !yes && !trial.dry_run {
        return Err(Failure::usage("this halts every rollout and ends every experiment under way")
            .hint("if that is meant, say it once more with --yes"));
    }
    let path = format!("/stop-everything{}", trial.query());
    let stopped: Stopped = client.send_json(Method::POST, &path, &StopBody { reason }).await?;
    let Stopped { rollouts, experiments } = &stopped;
    let would = if trial.dry_run { "would have " } else { "" };
    let mut lines: Vec<_> = rollouts.iter().map(|id| format!("{would}halted {id}")).collect();
    lines.extend(experiments.iter().map(|name| format!("{would}ended experiment {name}")));
    if lines.is_empty() {
        lines.push("nothing was under way".into());
    }
    output.one(&stopped, &[rollouts.as_slice(), experiments].concat().join("\n"), || lines);
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
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    give(client, &orders(id), &OrderBody { order, reason: None, wave: None }, trial, output).await
}

/// Where orders to a rollout go.
fn orders(id: &str) -> String {
    format!("/rollouts/{id}/orders")
}

async fn give<B: Serialize>(
    client: &Client,
    path: &str,
    body: &B,
    trial: Trial,
    output: &Output,
) -> Result<(), Failure> {
    let view: RolloutView = client.send_json(Method::POST, &format!("{path}{}", trial.query()), body).await?;
    if trial.dry_run {
        say(NOTHING_DONE);
    }
    output.one(&view, view.status.id.as_str(), || watch::lines(&view));
    Ok(())
}
