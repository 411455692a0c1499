//! What was counted of one feature, by time or as a sketch that other programs read.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use fleet_core::drift::{ALL, Sums};
use muster_sketch::{
    reference::{FeatureReference, ReferenceValues},
    window::FeatureCounts,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{FeatureBins, FeatureReport, known_model, watched_release};
use crate::{
    api::{
        Shared,
        problem::{Answer, Problem},
    },
    drift::kll_bytes,
    store::Strata,
};

/// Windows of one answer: two weeks of hours and a year of days.
const MAX_WINDOWS: usize = 2_000;

/// What was counted of a feature, by time.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WindowsView {
    /// `name@version`.
    pub release: String,
    /// `key=value`; empty for all devices.
    pub stratum: String,
    /// The feature and its bins.
    pub feature: FeatureBins,
    /// The windows, oldest first: minutes, hours and days, as they are kept.
    pub windows: Vec<WindowView>,
    /// False when there were more than one answer holds; the oldest are missing then.
    pub complete: bool,
}

/// What was counted in a minute, an hour or a day.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WindowView {
    /// Its start, in milliseconds since 1970.
    pub from: u64,
    /// Its length in seconds.
    pub span_secs: u64,
    /// Windows of devices that ended in it.
    pub windows: u64,
    /// What they counted.
    pub counted: FeatureReport,
}

/// What is asked.
#[derive(Debug, Deserialize, IntoParams)]
pub struct WindowsQuery {
    /// Name of the feature.
    feature: String,
    /// Number of the version; the newest that devices run when absent.
    version: Option<u32>,
    /// `key=value`; all devices when absent.
    stratum: Option<String>,
    /// From this moment on, in milliseconds since 1970; a day before now when absent. What reaches into the time is taken as a whole.
    since: Option<u64>,
    /// Until this moment; now when absent.
    until: Option<u64>,
    /// `json`, or `kll`: the sum as a KLL sketch of `f32` values, as Apache DataSketches reads it.
    format: Option<String>,
}

/// Gives what was counted of a feature: by time, or all together as a KLL sketch that Apache DataSketches reads
/// (`datasketches.kll_floats_sketch.deserialize` in Python). In the sketch values lie evenly in their bins; their number, the
/// smallest and the largest are exact.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/drift/windows",
    tag = "drift",
    params(("model" = String, Path, description = "Name of the model"), WindowsQuery),
    responses(
        (status = 200, body = WindowsView, content_type = "application/json"),
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, body = Problem),
        (status = 404, body = Problem)
    )
)]
pub async fn drift_windows(
    State(app): State<Shared>,
    Path(model): Path<String>,
    Query(query): Query<WindowsQuery>,
) -> Answer<Response> {
    let model = known_model(&app, &model).await?;
    let (release, spec) = watched_release(&app, &model, query.version).await?;
    let features = spec.reference.features();
    let Some(place) = features.iter().position(|feature| feature.name == query.feature) else {
        let known = features.iter().map(|feature| feature.name.clone());
        return Err(super::no_feature(&model, &query.feature, known));
    };
    let now_ms = app.clock.now().as_millis();
    let from_secs = query.since.unwrap_or(now_ms.saturating_sub(86_400_000)) / 1_000;
    let until_secs = query.until.map_or(u64::MAX >> 1, |until| until / 1_000);
    if until_secs <= from_secs {
        return Err(Problem::bad_request("bad_time", "the time that is asked for ends before it begins")
            .hint("ask for a `since` that is before `until`; it is a day ago when absent"));
    }
    let stratum = query.stratum.clone().unwrap_or_else(|| ALL.into());
    let (feature, strata) = (&features[place], Strata::One(stratum.clone()));
    let mut windows = Vec::new();
    let mut complete = app
        .store
        .each_sum(&release, &strata, from_secs..until_secs, |row| {
            windows.push((row.start_secs, row.span_secs, of_feature(row.sums, place)));
            Ok(())
        })
        .await?;
    if stratum != ALL && windows.is_empty() {
        super::check_stratum(&app, stratum.split('=').next().unwrap_or_default())?;
    }
    match query.format.as_deref() {
        None | Some("json") => {
            complete &= windows.len() <= MAX_WINDOWS;
            windows.truncate(MAX_WINDOWS);
            let view =
                |(start_secs, span_secs, (windows, counts)): (u64, u64, (u64, Option<FeatureCounts>))| {
                    let counted = FeatureReport::of(feature, &counts?);
                    Some(WindowView { from: start_secs * 1_000, span_secs, windows, counted })
                };
            let windows = windows.into_iter().rev().filter_map(view).collect();
            let feature = FeatureBins::of(feature);
            let release = release.to_string();
            Ok(Json(WindowsView { release, stratum, feature, windows, complete }).into_response())
        }
        Some("kll") if complete => kll(feature, windows.into_iter().filter_map(|(.., (_, counts))| counts)),
        Some("kll") => {
            Err(Problem::bad_request("too_many_windows", "there is more than one answer may read")
                .hint("ask for a shorter time"))
        }
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Err(Problem::bad_request("bad_format", format!("'{other}' is no format"))
                .hint("write json or kll"))
        }
    }
}

fn of_feature(sums: Sums, place: usize) -> (u64, Option<FeatureCounts>) {
    (sums.windows, sums.features.into_iter().nth(place))
}

fn kll(feature: &FeatureReference, counts: impl Iterator<Item = FeatureCounts>) -> Answer<Response> {
    let mut sum = FeatureCounts::empty(&feature.values);
    for more in counts {
        sum.merge(&more).map_err(|error| Problem::internal(&error))?;
    }
    let (ReferenceValues::Numeric(reference), FeatureCounts::Numeric(counts)) = (&feature.values, &sum)
    else {
        let detail = format!("{} has categories, and a sketch of quantiles needs numbers", feature.name);
        return Err(Problem::bad_request("not_a_number", detail).hint("ask for json"));
    };
    let bytes = kll_bytes(reference, counts).map_err(|_| {
        Problem::not_found("no_values", format!("no value of {} was counted in this time", feature.name))
    })?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}
