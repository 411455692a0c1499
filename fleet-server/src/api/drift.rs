//! Drift: how models are watched, what was found, and what was counted.

mod alarms;
mod export;
mod relearn;
mod report;
mod settings;

use axum::{
    Json,
    extract::{Path, State},
};
use fleet_core::drift::{FIRMWARE, FeatureStatus, HARDWARE};
use serde::{Deserialize, Serialize};
use shared::{ModelName, ReleaseId, Version, manifest::DriftSpec};
use utoipa::ToSchema;

use super::{
    Shared, models,
    problem::{Answer, Problem},
};
use crate::store::AlarmFilter;

// The macro that documents handlers makes a type beside each, which the table of routes names.
pub(super) use alarms::*;
pub(super) use export::*;
pub(super) use relearn::*;
pub(super) use report::*;
pub(super) use settings::*;

pub use alarms::{AlarmView, CloseAlarm};
pub use export::{WindowView, WindowsView};
pub use relearn::{RelearnBody, RelearntView};
pub use report::{DriftReport, FeatureBins, FeatureReport, StratumReport};
pub use settings::{SetSettings, SettingsView};

/// How a model is watched, and how its detectors stand.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DriftView {
    /// Name of the model.
    pub model: String,
    /// By which settings.
    pub settings: SettingsView,
    /// The versions that were checked, the newest first.
    pub versions: Vec<VersionDrift>,
    /// Alarms that are not over, the newest first.
    pub alarms: Vec<AlarmView>,
}

/// How the detectors of a version stand.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VersionDrift {
    /// Its number.
    pub version: u32,
    /// Each feature after the last check that brought anything of it.
    pub features: Vec<FeatureDrift>,
}

/// How the detectors of a feature stand.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FeatureDrift {
    /// Its name.
    pub feature: String,
    /// Moments, counts, evidence and what it has to reach.
    #[schema(value_type = Object)]
    pub status: FeatureStatus,
}

/// Tells how a model is watched for drift, how its detectors stand and what alarms there are.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/drift",
    tag = "drift",
    params(("model" = String, Path, description = "Name of the model")),
    responses((status = 200, body = DriftView), (status = 404, body = Problem))
)]
pub async fn show_drift(State(app): State<Shared>, Path(model): Path<String>) -> Answer<Json<DriftView>> {
    let model = known_model(&app, &model).await?;
    let mut versions = Vec::<VersionDrift>::new();
    for (release, feature, status) in app.store.drift_statuses(&model).await? {
        let version = release.version.get();
        if versions.last().is_none_or(|last| last.version != version) {
            versions.push(VersionDrift { version, features: vec![] });
        }
        versions.iter_mut().last().into_iter().for_each(|last| {
            last.features.push(FeatureDrift { feature: feature.clone(), status: status.clone() });
        });
    }
    let filter = AlarmFilter { model: Some(model.clone()), ..AlarmFilter::default() };
    let alarms = app.store.alarms(&AlarmFilter { open_only: true, ..filter }).await?;
    Ok(Json(DriftView {
        settings: SettingsView::of(&app, &model).await?,
        model: model.to_string(),
        versions,
        alarms: alarms.into_iter().map(AlarmView::from).collect(),
    }))
}

/// A model that was published.
async fn known_model(app: &Shared, model: &str) -> Answer<ModelName> {
    let model = models::model_name(model)?;
    match app.store.newest_version(&model).await? {
        Some(_) => Ok(model),
        None => Err(Problem::not_found("model_not_found", format!("there is no model {model}"))
            .hint("see what there is: muster model list")),
    }
}

/// The release that is asked about, with what is watched of it: this version, or the newest that devices sent windows of, or the
/// newest that is watched.
async fn watched_release(
    app: &Shared,
    model: &ModelName,
    version: Option<u32>,
) -> Answer<(ReleaseId, std::sync::Arc<DriftSpec>)> {
    let not_watched = || {
        Problem::not_found(
            "not_watched",
            format!("no release of {model} that is asked about is watched for drift"),
        )
        .hint("publish it with a sample of its inputs: muster model publish --features FILE --reference FILE")
    };
    let releases = match version {
        Some(version) => {
            let version = Version::try_from(version).map_err(|_| not_watched())?;
            vec![ReleaseId::new(model.clone(), version)]
        }
        None => {
            let mut releases = app.store.drift_releases(model).await?;
            let published = app.store.releases(Some(model)).await?;
            releases.extend(published.into_iter().map(|row| row.release));
            releases
        }
    };
    for release in releases {
        if let Some(spec) = app.specs.of(&release).await? {
            return Ok((release, spec));
        }
    }
    Err(not_watched())
}

/// Nothing was counted of a key: one that nobody counts by is a mistake, and is told.
fn check_stratum(app: &Shared, key: &str) -> Answer<()> {
    let known = app.drift.strata.iter().map(String::as_str).chain([HARDWARE, FIRMWARE]);
    let known: Vec<_> = known.collect();
    if known.contains(&key) {
        return Ok(());
    }
    let key: String = key.chars().take(64).collect();
    let detail = format!("devices are not told apart by '{key}'; they are by {}", known.join(", "));
    Err(Problem::bad_request("no_stratum", detail).hint(
        "list the label in [drift] strata of the server's configuration; what devices count from then on is told by it",
    ))
}

fn no_feature(model: &ModelName, feature: &str, known: impl Iterator<Item = String>) -> Problem {
    /// Names that a hint has.
    const NAMED: usize = 20;
    let feature: String = feature.chars().take(64).collect();
    let known: Vec<_> = known.take(NAMED).collect();
    Problem::not_found("feature_not_found", format!("no feature of {model} is called '{feature}'"))
        .hint(format!("there are {}", known.join(", ")))
}
