//! What was counted, against what it was when the model was made.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use fleet_core::drift::{ALL, Distances, Sums};
use muster_sketch::{
    quality::{self, QualityFinding},
    reference::{FeatureReference, ReferenceValues},
    window::FeatureCounts,
};
use serde::{Deserialize, Serialize};
use shared::ReleaseId;
use utoipa::{IntoParams, ToSchema};

use super::{AlarmView, known_model, watched_release};
use crate::{
    api::{
        Shared,
        problem::{Answer, Problem},
    },
    store::{AlarmFilter, Strata, SummedRow},
};

/// Bins of one answer: more are no picture, and some tens of megabytes.
const MAX_BINS: usize = 2_000_000;

/// What was counted of a release.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DriftReport {
    /// `name@version`.
    pub release: String,
    /// The label by whose values devices are told apart; all together when absent.
    pub by: Option<String>,
    /// From when on was asked, in milliseconds since 1970. What reaches into the time is in the answer as a whole, so a day is where days
    /// are kept.
    pub since: u64,
    /// Alarms of the release that are not over, the newest first; of one feature where one was asked for.
    pub alarms: Vec<AlarmView>,
    /// The features in the order of the reference, with what the reference counted.
    pub features: Vec<FeatureBins>,
    /// Each stratum, by name.
    pub strata: Vec<StratumReport>,
    /// False when there was more than one answer may read; the oldest is missing then.
    pub complete: bool,
}

/// A feature and its bins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeatureBins {
    /// Its name.
    pub feature: String,
    /// Of a number: where bins begin; the first one is below the first edge, the last one from the last edge on. A value belongs to an
    /// edge when it is at least the edge.
    pub edges: Option<Vec<f64>>,
    /// Of categories: their names; one more bin is for what is none of them.
    pub categories: Option<Vec<String>>,
    /// What the reference counted in each bin.
    pub reference: Vec<u64>,
}

/// What the devices of a stratum counted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StratumReport {
    /// `key=value`; empty for all devices.
    pub stratum: String,
    /// Windows.
    pub windows: u64,
    /// Earliest start of one, in milliseconds since 1970 by the devices' clocks.
    pub from: u64,
    /// Latest end.
    pub to: u64,
    /// Each feature, in the order of the reference.
    pub features: Vec<FeatureReport>,
}

/// What was counted of a feature.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FeatureReport {
    /// Its name.
    pub feature: String,
    /// Rows, with and without a value.
    pub rows: u64,
    /// Rows without a value.
    pub missing: u64,
    /// Of a number: values that are NaN or infinite.
    pub non_finite: u64,
    /// Of a number: the smallest finite value.
    pub lowest: Option<f32>,
    /// Of a number: the largest finite value.
    pub highest: Option<f32>,
    /// How far it is from the reference, each figure with its noise floor; nothing without a value.
    #[schema(value_type = Option<Object>)]
    pub distances: Option<Distances>,
    /// What is broken.
    #[schema(value_type = Vec<Object>)]
    pub quality: Vec<QualityFinding>,
    /// What was counted in each bin.
    pub counts: Vec<u64>,
}

/// What is asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct ReportQuery {
    /// The label, `hardware` or `firmware` by whose values devices are told apart.
    by: Option<String>,
    /// Seconds before now from when on; a day when absent.
    since: Option<u64>,
    /// Number of the version; the newest that devices run when absent.
    version: Option<u32>,
    /// Only this feature.
    feature: Option<String>,
}

/// Tells what devices counted of a model's inputs and outputs, against what they were when the model was made.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/drift/report",
    tag = "drift",
    params(("model" = String, Path, description = "Name of the model"), ReportQuery),
    responses((status = 200, body = DriftReport), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn drift_report(
    State(app): State<Shared>,
    Path(model): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Answer<Json<DriftReport>> {
    let model = known_model(&app, &model).await?;
    let (release, spec) = watched_release(&app, &model, query.version).await?;
    let features = spec.reference.features();
    let is_asked =
        |feature: &FeatureReference| query.feature.as_ref().is_none_or(|only| *only == feature.name);
    if !features.iter().any(is_asked) {
        let asked = query.feature.unwrap_or_default();
        return Err(super::no_feature(&model, &asked, features.iter().map(|feature| feature.name.clone())));
    }
    let now_secs = app.clock.now().as_millis() / 1_000;
    let from_secs = now_secs.saturating_sub(query.since.unwrap_or(86_400));
    let strata = query.by.clone().map_or_else(|| Strata::One(ALL.into()), Strata::OfKey);
    let bins: usize = features.iter().filter(|f| is_asked(f)).map(|f| f.values.bins().len()).sum();
    let (mut sums, mut is_too_large) = (BTreeMap::<String, Sums>::new(), false);
    let add = |mut row: SummedRow| {
        let mut asked = features.iter().map(&is_asked);
        row.sums.features.retain(|_| asked.next().unwrap_or(false));
        let has_room = bins.saturating_mul(sums.len() + 1) <= MAX_BINS;
        match sums.get_mut(&row.stratum) {
            Some(sum) => sum.add(&row.sums)?,
            None if has_room => drop(sums.insert(row.stratum, row.sums)),
            None => is_too_large = true,
        }
        Ok(())
    };
    let complete = app.store.each_sum(&release, &strata, from_secs..u64::MAX >> 1, add).await?;
    if is_too_large {
        return Err(too_large(sums.len(), bins));
    }
    if let (Some(by), true) = (&query.by, sums.is_empty()) {
        super::check_stratum(&app, by)?;
    }
    let of_stratum = |(stratum, sums): (String, Sums)| StratumReport {
        stratum,
        windows: sums.windows,
        from: sums.from_ms,
        to: sums.to_ms,
        features: features
            .iter()
            .filter(|feature| is_asked(feature))
            .zip(&sums.features)
            .map(|(feature, counts)| FeatureReport::of(feature, counts))
            .collect(),
    };
    let alarms = alarms_of(&app, &release, query.feature.clone()).await?;
    Ok(Json(DriftReport {
        release: release.to_string(),
        alarms,
        by: query.by.clone(),
        since: from_secs * 1_000,
        features: features.iter().filter(|feature| is_asked(feature)).map(FeatureBins::of).collect(),
        strata: sums.into_iter().map(of_stratum).collect(),
        complete,
    }))
}

/// Those that are not over.
async fn alarms_of(app: &Shared, release: &ReleaseId, feature: Option<String>) -> Answer<Vec<AlarmView>> {
    let model = Some(release.model.clone());
    let filter = AlarmFilter { model, feature, open_only: true, ..AlarmFilter::default() };
    let mut alarms = app.store.alarms(&filter).await?;
    alarms.retain(|alarm| alarm.release == *release);
    Ok(alarms.into_iter().map(AlarmView::from).collect())
}

impl FeatureBins {
    pub(super) fn of(feature: &FeatureReference) -> Self {
        let (edges, categories) = match &feature.values {
            ReferenceValues::Numeric(numeric) => {
                // Only the last may be infinite, which JSON has no word for: no finite value is beyond it.
                let edges = numeric.edges().as_slice().iter();
                (Some(edges.map(|edge| f64::from(edge.min(f32::MAX))).collect()), None)
            }
            ReferenceValues::Category(category) => (None, Some(category.names().to_vec())),
        };
        let reference = feature.values.bins().to_vec();
        Self { feature: feature.name.clone(), edges, categories, reference }
    }
}

impl FeatureReport {
    pub(super) fn of(feature: &FeatureReference, counts: &FeatureCounts) -> Self {
        let (missing, non_finite, range) = match counts {
            FeatureCounts::Numeric(counts) => (counts.missing(), counts.non_finite(), counts.range()),
            FeatureCounts::Category(counts) => (counts.missing(), 0, None),
        };
        Self {
            feature: feature.name.clone(),
            rows: counts.rows(),
            missing,
            non_finite,
            lowest: range.map(|(lowest, _)| lowest),
            highest: range.map(|(_, highest)| highest),
            distances: Distances::of(&feature.values, counts),
            quality: quality::findings(&feature.values, counts).unwrap_or_default(),
            counts: counts.bins().to_vec(),
        }
    }
}

fn too_large(strata: usize, bins: usize) -> Problem {
    let detail = format!("more than {strata} strata of {bins} bins are more than one answer holds");
    Problem::bad_request("report_too_large", detail).hint("ask for one feature")
}
