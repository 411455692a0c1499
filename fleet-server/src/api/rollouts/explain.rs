//! Why a rollout decided as it did: the evidence of its metrics, judged once more.

use axum::{
    Json,
    extract::{Path, State},
};
use fleet_core::verdict::{CanaryJudge, Look, LookRecord, VerdictPolicy, curve};
use serde::{Deserialize, Serialize};
use shared::ModelName;
use utoipa::ToSchema;

use super::{Shared, find, rollout_id, thinned::Thinned};
use crate::{
    api::problem::{Answer, Problem},
    rollouts::Replay,
    store::{ComparisonRow, LookRow, Opening, StoreError},
};

/// Rows of a curve.
const CURVE_ROWS: usize = 40;

/// Looks of a wave that are told: two weeks of one every quarter of an hour, and fewer where there were more.
const RECORDS: usize = 1_344;

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
    /// Whether the stored looks, judged once more, give the stored records bit by bit; absent after 90 days, when the oldest
    /// are not kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replays: Option<bool>,
    /// By which rules.
    #[schema(value_type = Object)]
    pub policy: VerdictPolicy,
    /// Looks since the wave began, all of which were judged.
    pub looks: u64,
    /// What looks showed: all of up to 1,344, of more every second, fourth and so on, and the last.
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
        let start = |history: &[Look]| start(&comparison.opening, history);
        let (mut replay, mut records) = (Replay::default(), Thinned::to(RECORDS));
        while let page = app.store.looks_of(&id, comparison.wave, replay.newest()).await?
            && !page.is_empty()
        {
            for LookRow { look, record, .. } in page {
                if let Some(record) = replay.take((look, record), start, CanaryJudge::observe)? {
                    records.push(record);
                }
            }
        }
        let replays = replay.is_exact(comparison.opened_at, app.clock.now());
        let looks_before = replay.looks_before();
        waves.push(explained(comparison, &row.release.model, records, (looks_before, replays)));
    }
    Ok(Json(ExplainView { rollout: id.to_string(), state, waves }))
}

fn explained(
    row: ComparisonRow,
    model: &ModelName,
    records: Thinned<LookRecord>,
    (looks_before, replays): (usize, Option<bool>),
) -> ExplainedWave {
    let Opening { candidate, cohorts, policy } = row.opening;
    let (looks, records) = (records.pushed(), records.into_vec());
    ExplainedWave {
        wave: row.wave,
        candidate: format!("{model}@{candidate}"),
        canaries: cohorts.canaries.len(),
        controls: cohorts.controls.len(),
        looks_before,
        replays,
        policy,
        looks,
        curve: curve(&records, CURVE_ROWS),
        records,
    }
}

fn start(opening: &Opening, history: &[Look]) -> Result<CanaryJudge, StoreError> {
    CanaryJudge::start(opening.policy.clone(), opening.cohorts.clone(), history)
        .map_err(|error| StoreError::Corrupt { what: "policy of a comparison", detail: error.to_string() })
}
