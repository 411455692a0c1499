//! Freeze periods: times in which rollouts ask nobody new.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use shared::Timestamp;
use utoipa::ToSchema;

use super::{
    Shared,
    dry_run::DryRun,
    problem::{Answer, Problem},
    routes::Caller,
    selectors::resolve_selector,
};
use crate::{
    clock::moment,
    store::{FreezeRow, NewFreeze, Store},
};

/// Longest freeze: one that is meant for ever is forgotten by the one who made it.
const MAX_LENGTH: Duration = Duration::from_secs(92 * 86_400);

/// Longest text of a reason.
pub(super) const MAX_REASON_LEN: usize = 500;

/// A freeze period to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddFreeze {
    /// When it begins, in milliseconds since 1970; now when absent.
    #[serde(default)]
    pub from: Option<u64>,
    /// When it ends.
    pub until: u64,
    /// Why; everybody who asks what holds a rollout back reads it.
    pub reason: String,
    /// Which devices; all when absent.
    #[serde(default)]
    pub selector: Option<String>,
}

/// A freeze period.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FreezeView {
    /// Its id.
    pub id: String,
    /// When it begins, in milliseconds since 1970.
    pub from: u64,
    /// When it ends.
    pub until: u64,
    /// Why.
    pub reason: String,
    /// Which devices; all when absent. A group was resolved when the period was made.
    pub selector: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: u64,
    /// Holds now.
    pub holds: bool,
}

impl FreezeView {
    fn of(row: FreezeRow, now: Timestamp) -> Self {
        Self {
            holds: row.holds(now),
            id: row.id,
            from: row.from.as_millis(),
            until: row.until.as_millis(),
            reason: row.reason,
            selector: row.selector,
            created_by: row.created_by,
            created_at: row.created_at.as_millis(),
        }
    }
}

/// Lists freeze periods by their beginning, those that are over too.
#[utoipa::path(
    get,
    path = "/api/v1/freezes",
    tag = "freezes",
    responses((status = 200, body = Vec<FreezeView>))
)]
pub async fn list(State(app): State<Shared>) -> Answer<Json<Vec<FreezeView>>> {
    let now = app.clock.now();
    Ok(Json(app.store.freezes().await?.into_iter().map(|row| FreezeView::of(row, now)).collect()))
}

/// Adds a freeze period. Periods may overlap.
#[utoipa::path(
    post,
    path = "/api/v1/freezes",
    tag = "freezes",
    params(DryRun),
    request_body = AddFreeze,
    responses(
        (status = 201, body = FreezeView),
        (status = 400, body = Problem),
        (status = 409, body = Problem),
    )
)]
pub async fn add(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<AddFreeze>,
) -> Answer<(StatusCode, Json<FreezeView>)> {
    let now = app.clock.now();
    let (from, until) = period(&body, now)?;
    check_reason(&body.reason)?;
    let selector = match &body.selector {
        Some(text) => Some(resolve_selector(&app, text).await?.to_string()),
        None => None,
    };
    let new = NewFreeze { from, until, reason: body.reason, selector, created_by: caller.name.clone() };
    let mut tx = app.store.begin().await?;
    let row = Store::insert_freeze(&mut tx, &new, now).await?.ok_or_else(full)?;
    Store::audit(&mut tx, now, &caller.name, "freeze.add", &row.id, &words(&row)).await?;
    let done = dry_run.end(tx).await?;
    if done {
        app.rollouts.refreeze().await?;
    }
    let status = if done { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(FreezeView::of(row, now))))
}

/// Removes a freeze period, whether it holds or not.
#[utoipa::path(
    delete,
    path = "/api/v1/freezes/{id}",
    tag = "freezes",
    params(("id" = String, Path, description = "Id of the freeze period"), DryRun),
    responses((status = 204, description = "It is no more"), (status = 404, body = Problem))
)]
pub async fn remove(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let mut tx = app.store.begin().await?;
    let row = Store::delete_freeze(&mut tx, &id).await?.ok_or_else(|| no_freeze(&id))?;
    Store::audit(&mut tx, app.clock.now(), &caller.name, "freeze.remove", &id, &words(&row)).await?;
    if dry_run.end(tx).await? {
        app.rollouts.refreeze().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn period(body: &AddFreeze, now: Timestamp) -> Answer<(Timestamp, Timestamp)> {
    let (from, until) = (body.from.map_or(now, Timestamp), Timestamp(body.until));
    let wrong = |detail: String| Err(Problem::bad_request("bad_period", detail));
    if until <= from {
        return wrong(format!("it would end ({}) before it begins ({})", moment(until), moment(from)));
    }
    if until <= now {
        return wrong(format!("it would be over already ({})", moment(until)));
    }
    if until.since(from) > MAX_LENGTH {
        let days = MAX_LENGTH.as_secs() / 86_400;
        return wrong(format!("it would last longer than {days} days; add another one when this one ends"));
    }
    Ok((from, until))
}

/// Reasons are for people: not empty, and no more than a screen shows.
pub(super) fn check_reason(reason: &str) -> Answer<()> {
    let fits = (1..=MAX_REASON_LEN).contains(&reason.chars().count()) && !reason.trim().is_empty();
    let detail = || format!("a reason has 1 to {MAX_REASON_LEN} characters");
    if fits { Ok(()) } else { Err(Problem::bad_request("bad_reason", detail())) }
}

fn words(row: &FreezeRow) -> String {
    let whom = row.selector.as_deref().unwrap_or("all");
    format!("{whom} from {} until {}: {}", moment(row.from), moment(row.until), row.reason)
}

fn no_freeze(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Problem::not_found("freeze_not_found", format!("there is no freeze period {id}"))
        .hint("see what there is: muster freeze list")
}

fn full() -> Problem {
    let detail = format!("there are {} freeze periods that are not over", Store::MAX_FREEZES);
    Problem::conflict("too_many_freezes", detail).hint("remove one: muster freeze remove ID")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_period_that_freezes_nothing_or_lasts_for_ever_is_refused() {
        let ask = |from: Option<u64>, until: u64| {
            let body = AddFreeze { from, until, reason: String::new(), selector: None };
            period(&body, NOW).map_err(|problem| problem.detail)
        };
        let now = NOW.as_millis();
        assert_eq!(ask(None, now + 1), Ok((NOW, Timestamp(now + 1))));
        assert_eq!(ask(Some(now - 5), now + 1), Ok((Timestamp(now - 5), Timestamp(now + 1))));
        assert!(ask(None, now).unwrap_err().contains("before it begins"));
        assert!(ask(Some(1), 2).unwrap_err().contains("over already"));
        assert!(ask(None, u64::MAX).unwrap_err().contains("92 days"));
    }

    #[test]
    fn a_reason_is_there_and_fits_a_screen() {
        assert!(check_reason("harvest").is_ok() && check_reason(&"ü".repeat(500)).is_ok());
        for wrong in ["", "  ", &"x".repeat(501)] {
            assert!(check_reason(wrong).is_err());
        }
    }
}
