//! How the drift of a model is watched.

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
};
use fleet_core::drift::{DriftSettings, Relearn};
use serde::{Deserialize, Serialize};
use shared::ModelName;
use utoipa::ToSchema;

use super::known_model;
use crate::{
    api::{
        Shared,
        dry_run::DryRun,
        problem::{Answer, Problem},
        routes::Caller,
    },
    store::Store,
};

/// How the drift of a model is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsView {
    /// At most one false alarm in so many years, over all features, devices, groups and versions of the model together.
    pub one_false_alarm_in_years: f64,
    /// Seconds for which the devices of a finding count nothing.
    pub suppress_secs: u64,
    /// Who makes what is seen now the new normal: `never` but by order, or `when_acknowledged`.
    #[schema(value_type = String)]
    pub relearn: Relearn,
    /// Nobody has said anything of this model; these are the server's.
    pub is_default: bool,
    /// Seconds between two checks, as the server is configured.
    pub check_secs: u64,
    /// Labels whose values are strata, as the server is configured.
    pub strata: Vec<String>,
}

/// What is to be changed; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSettings {
    /// At most one false alarm in so many years, from 0.1 to 1000.
    #[serde(default)]
    pub one_false_alarm_in_years: Option<f64>,
    /// Seconds for which the devices of a finding count nothing, up to a month.
    #[serde(default)]
    pub suppress_secs: Option<u64>,
    /// `never` or `when_acknowledged`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub relearn: Option<Relearn>,
}

impl SettingsView {
    pub(super) async fn of(app: &Shared, model: &ModelName) -> Answer<Self> {
        Ok(Self::from(app, app.store.drift_settings(model).await?))
    }

    fn from(app: &Shared, own: Option<DriftSettings>) -> Self {
        let settings = own.unwrap_or(app.drift.settings);
        Self {
            one_false_alarm_in_years: settings.one_false_alarm_in_years,
            suppress_secs: settings.suppress_secs,
            relearn: settings.relearn,
            is_default: own.is_none(),
            check_secs: app.drift.check_secs,
            strata: app.drift.strata.clone(),
        }
    }
}

/// Tells how the drift of a model is watched.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/drift/settings",
    tag = "drift",
    params(("model" = String, Path, description = "Name of the model")),
    responses((status = 200, body = SettingsView), (status = 404, body = Problem))
)]
pub async fn show_settings(
    State(app): State<Shared>,
    Path(model): Path<String>,
) -> Answer<Json<SettingsView>> {
    let model = known_model(&app, &model).await?;
    Ok(Json(SettingsView::of(&app, &model).await?))
}

/// Changes how the drift of a model is watched, from the next check on.
#[utoipa::path(
    put,
    path = "/api/v1/models/{model}/drift/settings",
    tag = "drift",
    params(("model" = String, Path, description = "Name of the model"), DryRun),
    request_body = SetSettings,
    responses((status = 200, body = SettingsView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn set_settings(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<SetSettings>,
) -> Answer<Json<SettingsView>> {
    let model = known_model(&app, &model).await?;
    let mut tx = app.store.begin().await?;
    // Read while nobody else writes, so that of two changes none is lost.
    let before = app.store.drift_settings(&model).await?.unwrap_or(app.drift.settings);
    let settings = DriftSettings {
        one_false_alarm_in_years: body.one_false_alarm_in_years.unwrap_or(before.one_false_alarm_in_years),
        suppress_secs: body.suppress_secs.unwrap_or(before.suppress_secs),
        relearn: body.relearn.unwrap_or(before.relearn),
    };
    settings.check().map_err(|error| Problem::bad_request("bad_drift_settings", error.to_string()))?;
    Store::save_drift_settings(&mut tx, &model, &settings).await?;
    let detail = format!(
        "one false alarm in {} years, silent for {} s, relearn {}",
        settings.one_false_alarm_in_years,
        settings.suppress_secs,
        word(settings.relearn)
    );
    let now = app.clock.now();
    Store::audit(&mut tx, now, &caller.name, "drift.settings", model.as_str(), &detail).await?;
    dry_run.end(tx).await?;
    Ok(Json(SettingsView::from(&app, Some(settings))))
}

fn word(relearn: Relearn) -> &'static str {
    match relearn {
        Relearn::Never => "never",
        Relearn::WhenAcknowledged => "when acknowledged",
    }
}
