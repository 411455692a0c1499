//! The result of an experiment: the evidence, judged once more.

use axum::{
    Json,
    extract::{Path, State},
};
use fleet_core::{
    experiment::{ArmsJudge, Results, Row, Rules},
    verdict::{Cohorts, Look},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Shared, experiment_id, find};
use crate::{
    api::problem::{Answer, Problem},
    rollouts::{Replay, read_experiment},
    store::{ExperimentLookRow, StoreError},
};

/// The result of an experiment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReportView {
    /// Its name.
    pub experiment: String,
    /// `name@version` of arm A.
    pub a: String,
    /// `name@version` of arm B.
    pub b: String,
    /// Devices of arm A.
    pub devices_a: usize,
    /// Devices of arm B.
    pub devices_b: usize,
    /// Where it stands, in a word.
    pub phase: String,
    /// The result in words, or that there is none yet.
    pub result: String,
    /// What became of the winner.
    pub adoption: String,
    /// Evidence that decides that an arm is worse, over all metrics.
    pub differs_at: f64,
    /// Evidence that decides that an arm is not worse, of each metric.
    pub equal_at: f64,
    /// Of each arm, `a` and `b`: the evidence that it is worse, over all metrics.
    #[schema(value_type = Object)]
    pub e_worse: fleet_core::experiment::Arms<Option<f64>>,
    /// Metric by metric.
    #[schema(value_type = Vec<Object>)]
    pub metrics: Vec<Row>,
    /// Looks from before, from which it is known what is normal.
    pub looks_before: usize,
    /// Looks since.
    pub looks: usize,
    /// Whether the stored looks, judged once more, give the stored records bit by bit; absent after 90 days, when the oldest
    /// are not kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replays: Option<bool>,
}

/// Judges the stored evidence of an experiment once more and tells the result, metric by metric.
#[utoipa::path(
    get,
    path = "/api/v1/experiments/{id}/report",
    tag = "experiments",
    params(("id" = String, Path, description = "Name of the experiment")),
    responses((status = 200, body = ReportView), (status = 404, body = Problem))
)]
pub async fn report(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<ReportView>> {
    let id = experiment_id(&id)?;
    let row = find(&app, &id).await?;
    let experiment = read_experiment(&row)?;
    let (spec, status) = (experiment.spec(), experiment.status());
    let start = |history: &[Look]| start(&spec.rules, &experiment.cohorts(), history);
    let (mut replay, mut results, mut looks) = (Replay::default(), Results::default(), 0);
    while let page = app.store.experiment_looks(&id, replay.newest()).await?
        && !page.is_empty()
    {
        for ExperimentLookRow { look, record, .. } in page {
            if let Some(record) = replay.take((look, record), start, ArmsJudge::observe)? {
                results.add(record);
                looks += 1;
            }
        }
    }
    let devices = status.arms.as_ref().map(|arm| arm.devices.len());
    let releases = spec.releases.as_ref().map(ToString::to_string);
    let last = results.last();
    Ok(Json(ReportView {
        experiment: id.to_string(),
        a: releases.a,
        b: releases.b,
        devices_a: devices.a,
        devices_b: devices.b,
        phase: status.state.word().to_owned(),
        result: status.reason.unwrap_or_else(|| "nothing is decided yet".into()),
        adoption: status.adoption.to_string(),
        differs_at: 2.0 / spec.rules.alpha,
        equal_at: 1.0 / spec.rules.alpha_equal,
        e_worse: last.map(|last| last.worse.as_ref().map(|of| of.e_worse)).unwrap_or_default(),
        metrics: results.rows(&spec.rules),
        looks_before: replay.looks_before(),
        looks,
        replays: replay.is_exact(row.created_at, app.clock.now()),
    }))
}

fn start(rules: &Rules, cohorts: &Cohorts, history: &[Look]) -> Result<ArmsJudge, StoreError> {
    ArmsJudge::start(rules, cohorts, history)
        .map_err(|error| StoreError::Corrupt { what: "rules of an experiment", detail: error.to_string() })
}
