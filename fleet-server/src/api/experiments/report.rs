//! The result of an experiment: the evidence, judged once more.

use axum::{
    Json,
    extract::{Path, State},
};
use fleet_core::experiment::{Record, Row, replay, rows};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Shared, experiment_id, find};
use crate::{
    api::problem::{Answer, Problem},
    rollouts::read_experiment,
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
    /// The stored looks, judged once more, give the stored records bit by bit.
    pub replays: bool,
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
    let experiment = read_experiment(&find(&app, &id).await?)?;
    let (mut before, mut since, mut records) = (Vec::new(), Vec::new(), Vec::<Record>::new());
    for ExperimentLookRow { look, record, .. } in app.store.experiment_looks(&id).await? {
        match record {
            Some(record) => {
                since.push(look);
                records.push(record);
            }
            None => before.push(look),
        }
    }
    let (spec, status) = (experiment.spec(), experiment.status());
    let again = replay(&spec.rules, &experiment.cohorts(), &before, &since)
        .map_err(|error| StoreError::Corrupt { what: "rules of an experiment", detail: error.to_string() })?;
    let devices = status.arms.as_ref().map(|arm| arm.devices.len());
    let releases = spec.releases.as_ref().map(ToString::to_string);
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
        e_worse: records.last().map(|last| last.worse.as_ref().map(|of| of.e_worse)).unwrap_or_default(),
        metrics: rows(&spec.rules, &records),
        looks_before: before.len(),
        looks: since.len(),
        replays: again == records,
    }))
}
