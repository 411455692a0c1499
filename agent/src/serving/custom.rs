//! What applications measure beside the model: counters and gauges, told to the fleet with the version that answered.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    MetricName,
    telemetry::{CustomKind, CustomSums, MAX_VALUE},
};

use super::{error::ServingError, find_model, find_version, version_text};
use crate::runner::{
    figures::Figures,
    models::{Model, Models},
};

/// Largest report: five short members, and room for the longest names.
pub(super) const MAX_REPORT_BYTES: usize = 4 * 1_024;

/// One report.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    model: String,
    name: MetricName,
    kind: CustomKind,
    /// What is added to the counter, or what the gauge shows.
    value: f64,
    /// The inference that it is about; the version that answers now when absent.
    #[serde(default)]
    id: Option<String>,
}

/// Counts a report for the version that answered.
pub(super) async fn report(
    State(models): State<Arc<Models>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ServingError> {
    let report = read(body)?;
    let model = find_model(&models, &report.model)?;
    let figures = answered_by(&model, &report)?;
    let admitted = model.custom_names().admit(&report.name, report.kind);
    admitted.map_err(|why| ServingError::BadRequest(format!("{}: {why}", report.model)))?;
    figures.reported(&report.name, report.kind, report.value);
    let version = version_text(figures.release());
    Ok(Json(json!({ "model_name": report.model, "model_version": version })))
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Report, ServingError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ServingError::TooLarge(format!(
            "a report has at most {MAX_REPORT_BYTES} bytes; report one counter or gauge at a time"
        )),
        _ => ServingError::BadRequest(rejection.body_text()),
    })?;
    let report: Report = serde_json::from_slice(&body).map_err(|error| {
        let form = "{\"model\", \"name\", \"kind\": \"counter\" or \"gauge\", \"value\"} with, if it is known, the \"id\" of \
                    the inference";
        ServingError::BadRequest(format!("a report is {form}: {error}"))
    })?;
    let least = CustomSums::least(report.kind);
    if (least..=MAX_VALUE).contains(&report.value) {
        return Ok(report);
    }
    let Report { name, kind, value, .. } = report;
    let text = format!("the value of the {kind} '{name}' is {value:e}; report {least} to {MAX_VALUE}");
    Err(ServingError::BadRequest(text))
}

/// The figures of the version that a report is about.
fn answered_by(model: &Model, report: &Report) -> Result<Arc<Figures>, ServingError> {
    let Some(id) = &report.id else {
        return Ok(Arc::clone(&find_version(model, &report.model, None)?.figures));
    };
    model.recent().figures(id).ok_or_else(|| {
        let text = "no inference of this id is remembered; leave the id out to report for the version that answers now";
        ServingError::NotFound(text.into())
    })
}
