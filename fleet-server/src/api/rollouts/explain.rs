//! Why a rollout decided as it did: the evidence of its metrics, judged once more.

use axum::{
    Json,
    extract::{Path, State},
};
use fleet_core::verdict::{Look, LookRecord, VerdictPolicy, curve, replay};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Shared, find, rollout_id};
use crate::{
    api::problem::{Answer, Problem},
    store::{ComparisonRow, LookRow, StoreError},
};

/// Rows of a curve.
const CURVE_ROWS: usize = 40;

/// The evidence of a rollout.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// Which rollout.
    pub rollout: String,
    /// Where it stands and why, as a sentence.
    pub state: String,
    /// The waves whose metrics were compared, in order.
    pub waves: Vec<ExplainedWave>,
}

/// The evidence of one wave.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainedWave {
    /// Which, counted from 0.
    pub wave: usize,
    /// `name@version` that the canaries run.
    pub candidate: String,
    /// Devices that run it.
    pub canaries: usize,
    /// Devices that they are compared with.
    pub controls: usize,
    /// Looks from before the wave, from which it is known what is normal.
    pub looks_before: usize,
    /// The stored looks, judged once more, give the stored records bit by bit.
    pub replays: bool,
    /// By which rules.
    #[schema(value_type = Object)]
    pub policy: VerdictPolicy,
    /// What each look showed.
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<LookRecord>,
    /// The way to the verdict as text.
    pub curve: String,
}

/// Judges the stored evidence of a rollout once more and tells the way to its verdicts.
#[utoipa::path(
    get,
    path = "/api/v1/rollouts/{id}/explain",
    tag = "rollouts",
    params(("id" = String, Path, description = "Id of the rollout")),
    responses((status = 200, body = ExplainView), (status = 404, body = Problem))
)]
pub async fn explain(State(app): State<Shared>, Path(id): Path<String>) -> Answer<Json<ExplainView>> {
    let id = rollout_id(&id)?;
    let row = find(&app, &id).await?;
    let status = crate::rollouts::status(&row)?;
    let word = status.state.word();
    let state = status.reason.map_or_else(|| word.to_owned(), |reason| format!("{word}: {reason}"));
    let mut waves = Vec::new();
    for comparison in app.store.comparisons_of(&id).await? {
        let looks = app.store.looks_of(&id, comparison.wave).await?;
        waves.push(explained(comparison, looks, &row.release.model.to_string())?);
    }
    Ok(Json(ExplainView { rollout: id.to_string(), state, waves }))
}

fn explained(row: ComparisonRow, looks: Vec<LookRow>, model: &str) -> Result<ExplainedWave, StoreError> {
    let (mut before, mut since, mut records) = (Vec::<Look>::new(), Vec::new(), Vec::new());
    for LookRow { look, record, .. } in looks {
        match record {
            Some(record) => {
                since.push(look);
                records.push(record);
            }
            None => before.push(look),
        }
    }
    let opening = row.opening;
    let (canaries, controls) = (opening.cohorts.canaries.len(), opening.cohorts.controls.len());
    let again = replay(opening.policy.clone(), opening.cohorts, &before, &since)
        .map_err(|error| StoreError::Corrupt { what: "policy of a comparison", detail: error.to_string() })?;
    Ok(ExplainedWave {
        wave: row.wave,
        candidate: format!("{model}@{}", opening.candidate),
        canaries,
        controls,
        looks_before: before.len(),
        replays: again == records,
        policy: opening.policy,
        curve: curve(&records, CURVE_ROWS),
        records,
    })
}
