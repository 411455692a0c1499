//! Challengers: releases that run beside champions, and what came of them.

use std::collections::BTreeMap;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
};
use fleet_core::{
    ReleaseNeeds,
    challenge::{Challenged, Share, agreement, challenge},
};
use serde::{Deserialize, Serialize};
use shared::{
    DeviceId, ReleaseId, Timestamp,
    challenger::{Challenger, DEFAULT_CPU_PERCENT, DEFAULT_SAMPLE_PPM, Disagreement, MAX_CHALLENGERS, Terms},
};
use utoipa::ToSchema;

use super::{
    Shared,
    dry_run::DryRun,
    models,
    problem::{Answer, Problem},
    routes::Caller,
    selectors::resolve_selector,
};
use crate::{
    gateway,
    rollouts::RolloutError,
    store::{ChallengedDevice, MatchRow, Store},
};

/// Pairs of classes that a report names: those that a person reads first.
const NAMED_PAIRS: usize = 10;

/// Reasons that a report names.
const NAMED_REASONS: usize = 10;

/// A challenger that is asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartChallenger {
    /// Which devices: `all`, `site=berlin,env!=lab`, `id in (a,b)`, `group:NAME`.
    pub selector: String,
    /// Share of the champion's inputs, above 0 and up to 1; 0.05 when absent.
    #[serde(default)]
    pub sample_share: Option<f64>,
    /// Share of one core, in percent; 10 when absent.
    #[serde(default)]
    pub cpu_percent: Option<u8>,
    /// When it ends by itself, in milliseconds since 1970; never when absent.
    #[serde(default)]
    pub until: Option<u64>,
}

/// Where a challenger shall end.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopChallenger {
    /// Which devices; all when absent.
    #[serde(default)]
    pub selector: Option<String>,
}

/// Who was asked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChallengedView {
    /// `name@version`.
    pub release: String,
    /// The devices that run it, or end it.
    pub devices: Vec<String>,
    /// The selected devices that cannot run it, and why.
    pub left_out: Vec<LeftOutView>,
}

/// A device that cannot run a challenger.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LeftOutView {
    /// Its name.
    pub device: String,
    /// Why, in words.
    pub why: String,
}

/// What came of a challenger.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChallengerReport {
    /// `name@version`.
    pub release: String,
    /// Devices that shall run it now.
    pub devices: usize,
    /// How far they are, by step: `unconfirmed`, `waiting`, `transferring`, `self_testing`, `starting`, `running`, `over`.
    #[schema(value_type = std::collections::BTreeMap<String, usize>)]
    pub steps: BTreeMap<String, usize>,
    /// What those that do not run it wait for, or why it is over there; the most frequent first.
    pub reasons: Vec<ReasonView>,
    /// What it did beside each champion, the newest first.
    pub matches: Vec<MatchView>,
}

/// Why a challenger does not run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    /// In words.
    pub why: String,
    /// On how many devices.
    pub devices: usize,
}

/// A challenger beside one champion, on all devices since the beginning.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MatchView {
    /// `name@version` of the one that answered.
    pub champion: String,
    /// Devices that told of it.
    pub devices: usize,
    /// Inputs that the sample fell on.
    pub sampled: u64,
    /// Of them, not tried for want of room.
    pub dropped: u64,
    /// Of them, tried, and the challenger failed.
    pub failed: u64,
    /// Of them, answered by both.
    pub compared: u64,
    /// Of those compared, slower than the challenger's latency budget.
    pub slow: u64,
    /// Of those compared, both decided for the same class.
    pub agreed: u64,
    /// Of those compared, each decided for another class.
    pub disagreed: u64,
    /// Share of the decisions in which both agreed; absent without decisions.
    #[schema(value_type = Option<Object>)]
    pub agreement: Option<Share>,
    /// The pairs of classes, champion's first, in which they disagreed most.
    #[schema(value_type = Vec<Object>)]
    pub disagreements: Vec<Disagreement>,
    /// Median of the largest difference between scores.
    pub score_delta_p50: Option<f64>,
    /// What 10 % of the differences exceed.
    pub score_delta_p90: Option<f64>,
    /// What 1 % of the differences exceed.
    pub score_delta_p99: Option<f64>,
    /// Median time of the challenger in the engine.
    pub latency_p50_ms: Option<f64>,
    /// Time of the challenger that 1 % exceed.
    pub latency_p99_ms: Option<f64>,
}

/// Runs a release beside what the selected devices run of its model. It answers nobody, moves no rollout and changes no
/// desired state. Asked for once more, it takes the place of what was asked for before.
#[utoipa::path(
    put,
    path = "/api/v1/models/{model}/challengers/{version}",
    tag = "challengers",
    params(
        ("model" = String, Path, description = "Name of the model"),
        ("version" = u32, Path, description = "Number of the version"),
        DryRun,
    ),
    request_body = StartChallenger,
    responses((status = 200, body = ChallengedView), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub async fn start(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((model, version)): Path<(String, u32)>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<StartChallenger>,
) -> Answer<Json<ChallengedView>> {
    let row = models::find(&app, &model, version).await?;
    let now = app.clock.now();
    let (terms, selector) = (terms(&body, now)?, resolve_selector(&app, &body.selector).await?);
    let needs = ReleaseNeeds::of(&row.manifest()?);
    let others = others(&app.store.challenged_devices().await?, &row.release, now);
    let fleet = app.store.every_device_facts().await?;
    let challenged =
        challenge(&row.release, &needs, &selector, &fleet, &others).map_err(RolloutError::Plan)?;
    if challenged.devices.is_empty() {
        return Err(nobody(&row.release, &challenged));
    }
    let listed = row.assignment(false);
    let named = |order| Challenger {
        release: row.release.clone(),
        manifest_digest: listed.manifest_digest,
        manifest_size_bytes: listed.manifest_size_bytes,
        order,
        terms,
    };
    let mut tx = app.store.begin().await?;
    for device in &challenged.devices {
        let change = |all: &mut Vec<Challenger>, revision| {
            all.retain(|other| other.release.model != row.release.model && runs_at(other, now));
            let has_room = all.len() < MAX_CHALLENGERS;
            all.push(named(revision));
            has_room
        };
        if !Store::change_challengers(&mut tx, device, now, change).await? {
            return Err(changed_meanwhile(device));
        }
    }
    let detail = format!(
        "{} devices by '{selector}', {} ppm of the inputs, {} % of a core",
        challenged.devices.len(),
        terms.sample_ppm,
        terms.cpu_percent
    );
    Store::audit(&mut tx, now, &caller.name, "challenger.start", &row.release.to_string(), &detail).await?;
    if dry_run.end(tx).await? {
        tell(&app, &challenged.devices).await;
    }
    Ok(Json(ChallengedView::of(&row.release, challenged)))
}

/// Ends a challenger on the selected devices. What came of it stays.
#[utoipa::path(
    post,
    path = "/api/v1/models/{model}/challengers/{version}/stop",
    tag = "challengers",
    params(
        ("model" = String, Path, description = "Name of the model"),
        ("version" = u32, Path, description = "Number of the version"),
        DryRun,
    ),
    request_body = StopChallenger,
    responses((status = 200, body = ChallengedView), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub async fn stop(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path((model, version)): Path<(String, u32)>,
    Query(dry_run): Query<DryRun>,
    Json(body): Json<StopChallenger>,
) -> Answer<Json<ChallengedView>> {
    let row = models::find(&app, &model, version).await?;
    let now = app.clock.now();
    let mut running = app.store.challenged_devices().await?;
    running.retain(|device| device.runs(&row.release).is_some());
    if let Some(selector) = &body.selector {
        let selector = resolve_selector(&app, selector).await?;
        let fleet = app.store.every_device_facts().await?;
        let selected = fleet.iter().filter(|d| selector.matches(&d.id, &d.labels, &d.inventory));
        let selected: Vec<&DeviceId> = selected.map(|d| &d.id).collect();
        running.retain(|device| selected.binary_search(&&device.device).is_ok());
    }
    let devices: Vec<DeviceId> = running.into_iter().map(|device| device.device).collect();
    let mut tx = app.store.begin().await?;
    for device in &devices {
        let change = |all: &mut Vec<Challenger>, _| {
            all.retain(|other| other.release != row.release);
            true
        };
        Store::change_challengers(&mut tx, device, now, change).await?;
    }
    let detail = format!("{} devices", devices.len());
    Store::audit(&mut tx, now, &caller.name, "challenger.stop", &row.release.to_string(), &detail).await?;
    if dry_run.end(tx).await? {
        tell(&app, &devices).await;
    }
    Ok(Json(ChallengedView::of(&row.release, Challenged { devices, left_out: vec![] })))
}

/// What came of a challenger.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/challengers/{version}",
    tag = "challengers",
    params(
        ("model" = String, Path, description = "Name of the model"),
        ("version" = u32, Path, description = "Number of the version"),
    ),
    responses((status = 200, body = ChallengerReport), (status = 404, body = Problem))
)]
pub async fn report(
    State(app): State<Shared>,
    Path((model, version)): Path<(String, u32)>,
) -> Answer<Json<ChallengerReport>> {
    let release = models::find(&app, &model, version).await?.release;
    let mut devices = app.store.challenged_devices().await?;
    devices.retain(|device| device.runs(&release).is_some());
    let matches = app.store.matches(&release).await?;
    let (mut steps, mut reasons) = (BTreeMap::<String, usize>::new(), BTreeMap::<String, usize>::new());
    for (step, detail) in devices.iter().map(|device| standing(device, &release)) {
        *steps.entry(step).or_default() += 1;
        if !detail.is_empty() {
            *reasons.entry(detail).or_default() += 1;
        }
    }
    let reasons = reasons.into_iter().map(|(why, devices)| ReasonView { why, devices });
    let mut reasons: Vec<ReasonView> = reasons.collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.devices));
    reasons.truncate(NAMED_REASONS);
    Ok(Json(ChallengerReport {
        release: release.to_string(),
        devices: devices.len(),
        steps,
        reasons,
        matches: matches.into_iter().map(MatchView::from).collect(),
    }))
}

/// The step and the detail of a challenger on a device. What it said of an earlier order says nothing of this one.
fn standing(device: &ChallengedDevice, release: &ReleaseId) -> (String, String) {
    let unconfirmed = || ("unconfirmed".to_owned(), String::new());
    let Some(named) = device.runs(release) else { return unconfirmed() };
    let state = device.states.iter().find(|state| state.release == *release && state.order == named.order);
    state.map_or_else(unconfirmed, |state| (state.step.clone(), state.detail.clone()))
}

fn terms(body: &StartChallenger, now: Timestamp) -> Answer<Terms> {
    let refused = |detail: String| Problem::bad_request("bad_terms", detail);
    let sample_ppm = match body.sample_share {
        None => DEFAULT_SAMPLE_PPM,
        Some(share) if share > 0.0 && share <= 1.0 => ((share * 1e6).round() as u32).max(1),
        Some(share) => return Err(refused(format!("a share of {share}; it lies above 0 and up to 1"))),
    };
    let until = body.until.map(Timestamp);
    if until.is_some_and(|until| until <= now) {
        return Err(refused("it would have ended already; `until` is in the past".into()));
    }
    let terms = Terms { sample_ppm, cpu_percent: body.cpu_percent.unwrap_or(DEFAULT_CPU_PERCENT), until };
    terms.check().map_err(refused)?;
    Ok(terms)
}

/// How many challengers of other models each device shall run.
fn others(devices: &[ChallengedDevice], release: &ReleaseId, now: Timestamp) -> BTreeMap<DeviceId, usize> {
    let is_other = |named: &&Challenger| named.release.model != release.model && runs_at(named, now);
    let count = |device: &ChallengedDevice| device.named.challengers.iter().filter(is_other).count();
    devices.iter().map(|device| (device.device.clone(), count(device))).collect()
}

/// False when its time is over: it takes no place any more.
fn runs_at(challenger: &Challenger, now: Timestamp) -> bool {
    challenger.terms.until.is_none_or(|until| until > now)
}

fn changed_meanwhile(device: &DeviceId) -> Problem {
    let detail = format!("{device} left, or got as many challengers as it can run, while this was asked for");
    Problem::conflict("changed_meanwhile", detail).hint("ask again")
}

fn nobody(release: &ReleaseId, challenged: &Challenged) -> Problem {
    let first = challenged.left_out.first();
    let first = first.map(|left| format!("; {} {}", left.device, left.why)).unwrap_or_default();
    let detail =
        format!("none of the {} selected devices can run {release}{first}", challenged.left_out.len());
    Problem::conflict("nobody_to_challenge", detail)
        .hint("a challenger runs beside another version of its model; bring one to the devices first")
}

async fn tell(app: &Shared, devices: &[DeviceId]) {
    for device in devices {
        gateway::send_desired(app, device).await;
    }
}

impl ChallengedView {
    fn of(release: &ReleaseId, challenged: Challenged) -> Self {
        let left_out = challenged.left_out.into_iter();
        Self {
            release: release.to_string(),
            devices: challenged.devices.iter().map(ToString::to_string).collect(),
            left_out: left_out
                .map(|left| LeftOutView { device: left.device.to_string(), why: left.why.to_string() })
                .collect(),
        }
    }
}

impl From<MatchRow> for MatchView {
    fn from(MatchRow { figures, devices }: MatchRow) -> Self {
        let mut disagreements = figures.disagreements;
        disagreements.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        disagreements.truncate(NAMED_PAIRS);
        let delta = |q| figures.score_delta.quantile(q);
        let latency = |q| figures.latency_ms.quantile(q);
        Self {
            champion: figures.champion.to_string(),
            devices: devices.len(),
            sampled: figures.sampled,
            dropped: figures.dropped,
            failed: figures.failed,
            compared: figures.compared,
            slow: figures.slow,
            agreed: figures.agreed,
            disagreed: figures.disagreed,
            agreement: agreement(&devices),
            disagreements,
            score_delta_p50: delta(0.5),
            score_delta_p90: delta(0.9),
            score_delta_p99: delta(0.99),
            latency_p50_ms: latency(0.5),
            latency_p99_ms: latency(0.99),
        }
    }
}
