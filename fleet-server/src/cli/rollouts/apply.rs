//! Rollout files: the same file may be applied again and again, as a pipeline does, and starts one rollout.

use std::cmp::Reverse;

use fleet_core::State;

use super::{Client, Failure, Output, Trial, start, watch};
use crate::{
    api::{GroupDevicesView, RolloutSummaryView, RolloutView, StartRollout},
    cli::{Exit, output::say},
};

/// Rollouts of the release that are looked at, newest first; an older one was certainly meant otherwise.
const MAX_LOOKED_AT: usize = 20;

pub(super) async fn apply(
    client: &Client,
    request: &StartRollout,
    (dry_run, again): (bool, bool),
    output: &Output,
) -> Result<(), Failure> {
    if let Some(view) = same(client, request).await?
        && !(again && fell(&view))
    {
        if fell(&view) {
            return Err(stopped(&view));
        }
        say(&format!("{} does this already, it is {}", view.status.id, view.status.state.word()));
        output.one(&view, view.status.id.as_str(), || watch::lines(&view));
        return Ok(());
    }
    start(client, request, Trial { dry_run }, output).await
}

/// The newest rollout that does what the file asks for, or did until it was stopped. One from which another rollout has taken
/// devices since did it once, and does it no more; why one was stopped holds whoever has its devices now.
async fn same(client: &Client, request: &StartRollout) -> Result<Option<RolloutView>, Failure> {
    let selector = selector(client, &request.selector).await?;
    let mut rollouts: Vec<RolloutSummaryView> = client.get("/rollouts", &[]).await?;
    // Names order those of one second by chance.
    rollouts.sort_by_key(|view| Reverse(view.created_at));
    let of_release = rollouts.into_iter().filter(|view| view.release == request.release);
    for summary in of_release.take(MAX_LOOKED_AT) {
        let view: RolloutView = client.get(&format!("/rollouts/{}", summary.id), &[]).await?;
        if does(&view, &selector, request) && (fell(&view) || view.status.counts.superseded == 0) {
            return Ok(Some(view));
        }
    }
    Ok(None)
}

/// Whether a person or a verdict has stopped it.
fn fell(view: &RolloutView) -> bool {
    match view.status.state {
        State::Halted { .. } | State::RollingBack { .. } | State::RolledBack { .. } => true,
        State::AwaitingApproval { .. }
        | State::Running { .. }
        | State::Watching { .. }
        | State::Paused { .. }
        | State::Completed { .. }
        | State::Superseded { .. } => false,
    }
}

/// A pipeline that comes by every hour must not bring devices again what was found wrong with it.
fn stopped(view: &RolloutView) -> Failure {
    let (id, state) = (&view.status.id, view.status.state.word());
    let reason = view.status.reason.clone().unwrap_or_default();
    Failure::new(Exit::RolloutFailed, format!("{id} did this and is {state}: {reason}"))
        .hint("publish another version; or, if it is meant to be tried once more, say so with --again")
}

fn does(view: &RolloutView, selector: &str, request: &StartRollout) -> bool {
    view.status.selector == selector && view.status.strategy == request.strategy
}

/// The selector as the server writes it, which writes equal ones alike and resolves groups.
async fn selector(client: &Client, text: &str) -> Result<String, Failure> {
    let text = match text.trim().strip_prefix("group:") {
        Some(name) => {
            client.get::<GroupDevicesView>(&format!("/groups/{}", name.trim()), &[]).await?.group.selector
        }
        None => text.to_owned(),
    };
    let parsed = fleet_core::Selector::parse(&text);
    parsed.map(|selector| selector.to_string()).map_err(|error| Failure::usage(error.to_string()))
}
