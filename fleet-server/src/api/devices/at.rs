//! Which version answered on a device at a moment, on what evidence, and who brought it there.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use fleet_core::{DeviceStatus, Progress, Restoration};
use serde::{Deserialize, Serialize};
use shared::{DeviceId, ModelName, Timestamp, report::Report, words};
use utoipa::{IntoParams, ToSchema};

use super::{device_id, no_device};
use crate::{
    api::{
        Shared,
        problem::{Answer, Problem},
    },
    history::{Span, Standing, happened, last_before, spans},
    rollouts,
    store::{ReportRow, RolloutRow, Store},
};

/// The clock of who asks may be ahead of the server's by this; further ahead lies the future, of which no report tells.
const MAX_AHEAD: Duration = Duration::from_secs(300);

/// Which moment.
#[derive(Debug, Deserialize, IntoParams)]
pub struct AtQuery {
    /// The moment, in milliseconds since 1970.
    time: u64,
    /// Only this model; all that the device ever reported about when absent.
    model: Option<String>,
}

/// What answered at a moment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AtView {
    /// The device.
    pub device: String,
    /// The moment, in milliseconds since 1970.
    pub at: u64,
    /// For each model what answered.
    pub answers: Vec<AnswerView>,
    /// False when the device has so many reports that older ones were not looked at.
    pub complete: bool,
}

/// What answered of one model.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    /// The model.
    pub model: String,
    /// The version, as `name@version`; absent when none answered.
    pub release: Option<String>,
    /// `probation` or `committed`; absent when none answered.
    pub standing: Option<String>,
    /// Since when it answered, by the device's clock; or since when none did.
    pub since: Option<u64>,
    /// When it ceased, if it has since then.
    pub until: Option<u64>,
    /// The reports that spoke for it at that moment, oldest first.
    pub evidence: Vec<EvidenceView>,
    /// The rollout that brought it; absent when none is known.
    pub rollout: Option<BroughtBy>,
}

/// A report as evidence.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// When it happened, by the device's clock.
    pub at: u64,
    /// When the server stored it.
    pub received_at: u64,
    /// The report in words.
    pub words: String,
    /// The whole report, with its figures.
    #[schema(value_type = Object)]
    pub report: Report,
}

/// The rollout that brought a version, and the people behind it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BroughtBy {
    /// Its id.
    pub id: String,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: u64,
    /// Who approved it; nobody when it needed no approval.
    pub approved_by: Vec<String>,
}

/// Says which version answered at a moment, since when, on what evidence, and who brought it there.
#[utoipa::path(
    get,
    path = "/api/v1/devices/{id}/at",
    tag = "devices",
    params(("id" = String, Path, description = "Name of the device"), AtQuery),
    responses((status = 200, body = AtView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn at(
    State(app): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<AtQuery>,
) -> Answer<Json<AtView>> {
    let (id, at) = (device_id(&id)?, Timestamp(query.time));
    if at > app.clock.now() + MAX_AHEAD {
        return Err(Problem::bad_request("bad_time", "that moment has not come yet"));
    }
    let device = app.store.device(&id).await?.ok_or_else(|| no_device(&id))?;
    let model = query.model.as_deref().map(ModelName::new).transpose();
    let model = model.map_err(|error| Problem::bad_request("bad_model", error.to_string()))?;
    let reports = app.store.reports_about(&id, model.as_ref()).await?;
    let complete = reports.len() < Store::MAX_HISTORY;
    let mut answers = Vec::new();
    for (name, reports) in by_model(reports, device.enrolled_at, at, model) {
        answers.push(answer(&app, &id, name, spans(reports), at).await?);
    }
    Ok(Json(AtView { device: id.to_string(), at: at.as_millis(), answers, complete }))
}

/// Reports by model, without those of another device that had the same name before or has it since.
fn by_model(
    reports: Vec<ReportRow>,
    enrolled_at: Timestamp,
    at: Timestamp,
    asked: Option<ModelName>,
) -> BTreeMap<ModelName, Vec<ReportRow>> {
    let mut models: BTreeMap<_, Vec<ReportRow>> = asked.into_iter().map(|name| (name, Vec::new())).collect();
    let is_same = |row: &ReportRow| (row.received_at >= enrolled_at) == (at >= enrolled_at);
    for row in reports.into_iter().filter(is_same) {
        models.entry(row.report.release.model.clone()).or_default().push(row);
    }
    models
}

async fn answer(
    app: &Shared,
    device: &DeviceId,
    model: ModelName,
    spans: Vec<Span>,
    at: Timestamp,
) -> Answer<AnswerView> {
    let Some(span) = last_before(&spans, at) else {
        return Ok(nobody(&model, None));
    };
    let brought = brought_by(app, device, span).await?;
    let taken_away = brought.as_ref().and_then(|(_, part)| taken_away(part));
    let span = span.clone().ended_by(taken_away);
    if !span.covers(at) {
        return Ok(nobody(&model, span.until));
    }
    let rollout = match brought {
        Some((row, _)) => Some(people(app, row).await?),
        None => None,
    };
    let evidence = span.evidence.iter().filter(|row| happened(row) <= at).map(evidence).collect();
    Ok(AnswerView {
        model: model.to_string(),
        release: Some(span.release.to_string()),
        standing: Some(word(span.standing(at)).to_owned()),
        since: Some(span.since.as_millis()),
        until: span.until.map(Timestamp::as_millis),
        evidence,
        rollout,
    })
}

fn nobody(model: &ModelName, since: Option<Timestamp>) -> AnswerView {
    AnswerView {
        model: model.to_string(),
        release: None,
        standing: None,
        since: since.map(Timestamp::as_millis),
        until: None,
        evidence: Vec::new(),
        rollout: None,
    }
}

fn evidence(row: &ReportRow) -> EvidenceView {
    EvidenceView {
        at: happened(row).as_millis(),
        received_at: row.received_at.as_millis(),
        words: words::told(&row.report.release, &row.report.event),
        report: row.report.clone(),
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Probation => "probation",
        Standing::Committed => "committed",
    }
}

/// The newest rollout of the release that had asked the device before its report came.
async fn brought_by(
    app: &Shared,
    device: &DeviceId,
    span: &Span,
) -> Answer<Option<(RolloutRow, DeviceStatus)>> {
    for row in app.store.rollouts_of(&span.release).await? {
        if row.created_at > span.brought.received_at {
            continue;
        }
        let parts = rollouts::status(&row)?.devices;
        let asked = |part: &DeviceStatus| part.device == *device && part.progress != Progress::Waiting;
        if let Some(part) = parts.into_iter().find(asked) {
            return Ok(Some((row, part)));
        }
    }
    Ok(None)
}

/// A version that is taken away from a device that had none before goes without a report.
fn taken_away(part: &DeviceStatus) -> Option<Timestamp> {
    match part.restoration {
        Restoration::Confirmed { at } if part.from.is_none() => Some(at),
        Restoration::Confirmed { .. } | Restoration::Ordered { .. } | Restoration::None => None,
    }
}

async fn people(app: &Shared, row: RolloutRow) -> Answer<BroughtBy> {
    Ok(BroughtBy {
        approved_by: app.store.approvers_of(&row.id).await?,
        id: row.id.to_string(),
        started_by: row.created_by,
        started_at: row.created_at.as_millis(),
    })
}
