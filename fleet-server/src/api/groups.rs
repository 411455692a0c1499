//! Groups: selectors with a name.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use shared::GroupName;
use utoipa::ToSchema;

use super::{
    Shared,
    dry_run::DryRun,
    problem::{Answer, Problem},
    routes::Caller,
    selectors::resolve_selector,
};
use crate::store::{GroupAdded, GroupRow, Store};

/// Devices that are named in the answer about one group; the count is of all.
const MAX_NAMED: usize = 1_000;

/// A group to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// Its name: 1 to 64 characters out of A-Z a-z 0-9 _ -.
    pub name: String,
    /// Which devices, such as `site=berlin,tier in (a,b)`.
    pub selector: String,
}

/// A group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// Its name; `group:NAME` stands for the selector.
    pub name: String,
    /// Which devices.
    pub selector: String,
    /// Who made it.
    pub created_by: String,
    /// When, in milliseconds since 1970.
    pub created_at: u64,
}

/// A group with its devices.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupDevicesView {
    /// The group.
    pub group: GroupView,
    /// How many devices its selector matches now.
    pub count: usize,
    /// Their names; of more than a thousand the first.
    pub devices: Vec<String>,
}

impl From<GroupRow> for GroupView {
    fn from(row: GroupRow) -> Self {
        Self {
            name: row.name.to_string(),
            selector: row.selector,
            created_by: row.created_by,
            created_at: row.created_at.as_millis(),
        }
    }
}

/// Lists groups by name.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups", responses((status = 200, body = Vec<GroupView>)))]
pub async fn list(State(app): State<Shared>) -> Answer<Json<Vec<GroupView>>> {
    Ok(Json(app.store.groups().await?.into_iter().map(GroupView::from).collect()))
}

/// Gives a selector a name. It never changes; delete the group and make it again.
#[utoipa::path(
    post,
    path = "/api/v1/groups",
    tag = "groups",
    params(DryRun),
    request_body = CreateGroup,
    responses(
        (status = 201, body = GroupView),
        (status = 400, body = Problem),
        (status = 409, body = Problem),
    )
)]
pub async fn create(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<CreateGroup>,
) -> Answer<(StatusCode, Json<GroupView>)> {
    let (name, now) = (group_name(&body.name)?, app.clock.now());
    let selector = resolve_selector(&app, &body.selector).await?.to_string();
    let row = GroupRow { name, selector, created_by: caller.name, created_at: now };
    let mut tx = app.store.begin().await?;
    match Store::insert_group(&mut tx, &row).await? {
        GroupAdded::Done => {}
        GroupAdded::Taken => return Err(taken(&row.name)),
        GroupAdded::Full => return Err(full()),
    }
    let subject = row.name.as_str();
    Store::audit(&mut tx, now, &row.created_by, "group.create", subject, &row.selector).await?;
    let done = dry_run.end(tx).await?;
    Ok((if done { StatusCode::CREATED } else { StatusCode::OK }, Json(row.into())))
}

/// Shows a group with the devices that match now.
#[utoipa::path(
    get,
    path = "/api/v1/groups/{id}",
    tag = "groups",
    params(("id" = String, Path, description = "Name of the group")),
    responses((status = 200, body = GroupDevicesView), (status = 404, body = Problem))
)]
pub async fn show(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<GroupDevicesView>> {
    let name = group_name(&id)?;
    let group = app.store.group(&name).await?.ok_or_else(|| no_group(&name))?;
    let selector = resolve_selector(&app, &group.selector).await?;
    let mut devices = app.store.every_device_facts().await?;
    devices.retain(|row| selector.matches(&row.id, &row.labels, &row.inventory));
    let (group, count) = (group.into(), devices.len());
    let devices = devices.iter().take(MAX_NAMED).map(|row| row.id.to_string()).collect();
    Ok(Json(GroupDevicesView { group, count, devices }))
}

/// Deletes a group. What was started or frozen by it stays as it is.
#[utoipa::path(
    delete,
    path = "/api/v1/groups/{id}",
    tag = "groups",
    params(("id" = String, Path, description = "Name of the group"), DryRun),
    responses((status = 204, description = "It is no more"), (status = 404, body = Problem))
)]
pub async fn delete(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(dry_run): Query<DryRun>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let name = group_name(&id)?;
    let mut tx = app.store.begin().await?;
    if !Store::delete_group(&mut tx, &name).await? {
        return Err(no_group(&name));
    }
    Store::audit(&mut tx, app.clock.now(), &caller.name, "group.delete", name.as_str(), "").await?;
    dry_run.end(tx).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn group_name(text: &str) -> Answer<GroupName> {
    GroupName::new(text).map_err(|error| Problem::bad_request("bad_group_name", error.to_string()))
}

pub(super) fn no_group(name: &GroupName) -> Problem {
    Problem::not_found("group_not_found", format!("there is no group {name}"))
        .hint("see what there is: muster group list")
}

fn taken(name: &GroupName) -> Problem {
    Problem::conflict("group_exists", format!("there is a group {name} already"))
        .hint(format!("see it: muster group show {name}; or delete it first"))
}

fn full() -> Problem {
    let detail = format!("there are {} groups, and no more are kept", Store::MAX_GROUPS);
    Problem::conflict("too_many_groups", detail).hint("delete one: muster group delete NAME")
}
