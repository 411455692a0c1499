//! Rollout files: the same file may be applied again and again, as a pipeline does, and starts one rollout.

use super::{super::output::say, plan, start, watch};
use super::{Client, Failure, Output};
use crate::api::{RolloutSummaryView, RolloutView, StartRollout};

/// Rollouts of the release that are looked at, newest first; an older one was certainly meant otherwise.
const MAX_LOOKED_AT: usize = 20;

pub(super) async fn apply(
    client: &Client,
    request: &StartRollout,
    dry_run: bool,
    output: &Output,
) -> Result<(), Failure> {
    if let Some(view) = same(client, request).await? {
        say(&format!("{} does this already, it is {}", view.status.id, view.status.state.word()));
        output.one(&view, view.status.id.as_str(), || watch::lines(&view));
        return Ok(());
    }
    if dry_run { plan(client, request, output).await } else { start(client, request, output).await }
}

/// A rollout that does what the file asks for, under way or complete. One that was halted or taken back does not.
async fn same(client: &Client, request: &StartRollout) -> Result<Option<RolloutView>, Failure> {
    let rollouts: Vec<RolloutSummaryView> = client.get("/rollouts", &[]).await?;
    let of_release = rollouts.into_iter().filter(|view| view.release == request.release);
    for summary in of_release.take(MAX_LOOKED_AT) {
        let view: RolloutView = client.get(&format!("/rollouts/{}", summary.id), &[]).await?;
        let fell = matches!(summary.phase.as_str(), "halted" | "rolling back" | "rolled back");
        if !fell && does(&view, request) {
            return Ok(Some(view));
        }
    }
    Ok(None)
}

/// Selectors are compared as written by the server, which writes equal ones alike.
fn does(view: &RolloutView, request: &StartRollout) -> bool {
    let asked = fleet_core::Selector::parse(&request.selector).map(|selector| selector.to_string());
    let selector = asked.unwrap_or_else(|_| request.selector.clone());
    view.status.selector == selector && view.status.strategy == request.strategy
}
