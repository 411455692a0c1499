//! Models and their versions.

use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, Multipart, Path, Query, State, multipart::MultipartError},
    http::StatusCode,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{ModelName, ReleaseId, Timestamp, Version, manifest::Manifest};
use utoipa::{IntoParams, ToSchema};

use super::{
    Shared,
    problem::{Answer, Problem},
    routes::Caller,
};
use crate::{
    config::ConfigError,
    publish::{self, Policy, PublishError, Upload, gate::Refused},
    store::{MinuteFigures, ReleaseRow},
};

/// Longest lineage or policy file.
const MAX_TEXT_BYTES: usize = 64 * 1_024;

/// A model with its newest version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// Number of its newest version.
    pub newest: u32,
    /// How many versions there are.
    pub versions: u32,
    /// When the newest was published, in milliseconds since 1970.
    pub published_at: u64,
}

/// A published version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// `name@version`.
    pub release: String,
    /// When it was published, in milliseconds since 1970.
    pub published_at: u64,
    /// By whom.
    pub published_by: String,
    /// Digest of the manifest, as it is signed.
    pub manifest_digest: String,
    /// Bytes that a device fetches, besides the manifest.
    pub transfer_bytes: u64,
    /// The manifest: inputs, outputs, artifacts, budgets, probation, lineage.
    #[schema(value_type = Object)]
    pub manifest: Manifest,
    /// What the gate found.
    #[schema(value_type = Object)]
    pub gate: Value,
}

/// What came of a publication.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Published {
    /// `name@version`.
    pub release: String,
    /// False when the same files were published before; then `release` is that one.
    pub created: bool,
    /// Bytes that a device fetches, besides the manifest.
    pub transfer_bytes: u64,
    /// What the gate found.
    #[schema(value_type = Object)]
    pub gate: Value,
}

/// What all devices together did with a version in one minute.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Figures {
    /// Start of the minute, in milliseconds since 1970.
    pub from: u64,
    /// Inferences that were answered.
    pub ok: u64,
    /// Inferences that the model failed.
    pub failures: u64,
    /// Of these, those with an output that was NaN or infinite.
    pub non_finite: u64,
    /// Inferences slower than the latency budget.
    pub slow: u64,
    /// Labels that came back for earlier inferences and agreed with the answer.
    pub labels_correct: u64,
    /// Labels that did not.
    pub labels_wrong: u64,
    /// Median time in the engine.
    pub latency_p50_ms: Option<f64>,
    /// Time in the engine that 5 % exceed.
    pub latency_p95_ms: Option<f64>,
    /// Time in the engine that 1 % exceed.
    pub latency_p99_ms: Option<f64>,
}

/// Since when.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct FiguresQuery {
    /// Minutes from this moment on, in milliseconds since 1970.
    #[serde(default)]
    from: u64,
}

impl ReleaseView {
    fn of(row: ReleaseRow) -> Answer<Self> {
        let manifest = row.manifest()?;
        Ok(Self {
            release: row.release.to_string(),
            published_at: row.published_at.as_millis(),
            published_by: row.published_by,
            manifest_digest: row.manifest_digest.to_string(),
            transfer_bytes: manifest.artifacts().map(|(_, artifact)| artifact.packed.size_bytes).sum(),
            manifest,
            gate: row.gate,
        })
    }
}

impl From<MinuteFigures> for Figures {
    fn from(minute: MinuteFigures) -> Self {
        let MinuteFigures { from, figures } = minute;
        let quantile = |q| figures.latency_ms.quantile(q);
        Self {
            from: from.as_millis(),
            ok: figures.counts.ok,
            failures: figures.counts.failures(),
            non_finite: figures.counts.non_finite,
            slow: figures.counts.slow,
            labels_correct: figures.labels.correct,
            labels_wrong: figures.labels.wrong,
            latency_p50_ms: quantile(0.5),
            latency_p95_ms: quantile(0.95),
            latency_p99_ms: quantile(0.99),
        }
    }
}

/// Lists models.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", responses((status = 200, body = Vec<ModelSummary>)))]
pub async fn list(State(app): State<Shared>) -> Answer<Json<Vec<ModelSummary>>> {
    let mut models: Vec<ModelSummary> = Vec::new();
    // Ordered by model, newest version first.
    for row in app.store.releases(None).await? {
        match models.last_mut().filter(|model| model.name == row.release.model.as_str()) {
            Some(model) => model.versions += 1,
            None => models.push(ModelSummary {
                name: row.release.model.to_string(),
                newest: row.release.version.get(),
                versions: 1,
                published_at: row.published_at.as_millis(),
            }),
        }
    }
    Ok(Json(models))
}

/// Lists the versions of a model, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/versions",
    tag = "models",
    params(("model" = String, Path, description = "Name of the model")),
    responses((status = 200, body = Vec<ReleaseView>), (status = 404, body = Problem))
)]
pub async fn versions(
    State(app): State<Shared>,
    Path(model): Path<String>,
) -> Answer<Json<Vec<ReleaseView>>> {
    let model = model_name(&model)?;
    let rows = app.store.releases(Some(&model)).await?;
    if rows.is_empty() {
        return Err(Problem::not_found("model_not_found", format!("there is no model {model}"))
            .hint("see what there is: muster model list"));
    }
    Ok(Json(rows.into_iter().map(ReleaseView::of).collect::<Answer<_>>()?))
}

/// Shows one version.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/versions/{version}",
    tag = "models",
    params(
        ("model" = String, Path, description = "Name of the model"),
        ("version" = u32, Path, description = "Number of the version")
    ),
    responses((status = 200, body = ReleaseView), (status = 404, body = Problem))
)]
pub async fn show(
    State(app): State<Shared>,
    Path((model, version)): Path<(String, u32)>,
) -> Answer<Json<ReleaseView>> {
    Ok(Json(ReleaseView::of(find(&app, &model, version).await?)?))
}

/// What devices did with a version, by minute.
#[utoipa::path(
    get,
    path = "/api/v1/models/{model}/versions/{version}/figures",
    tag = "models",
    params(
        ("model" = String, Path, description = "Name of the model"),
        ("version" = u32, Path, description = "Number of the version"),
        FiguresQuery
    ),
    responses((status = 200, body = Vec<Figures>), (status = 404, body = Problem))
)]
pub async fn figures(
    State(app): State<Shared>,
    Path((model, version)): Path<(String, u32)>,
    Query(query): Query<FiguresQuery>,
) -> Answer<Json<Vec<Figures>>> {
    let row = find(&app, &model, version).await?;
    let minutes = app.store.minutes(&row.release, Timestamp(query.from)).await?;
    Ok(Json(minutes.into_iter().map(Figures::from).collect()))
}

/// Publishes a version.
///
/// Parts of the form: `model` (an ONNX file), `golden` (`.npz` or `.safetensors`), `lineage` (TOML), and optionally
/// `reference` (`.npz` or `.csv`, a sample of the inputs that the model was made with, of 1,000 rows or more), `features`
/// (TOML: what of the sample is watched for drift; derived from the model when it is absent) and `policy` (TOML). The same
/// files again are the version that is there already.
#[utoipa::path(
    post,
    path = "/api/v1/models/{model}/versions",
    tag = "models",
    params(("model" = String, Path, description = "Name of the model")),
    request_body(content = Object, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Published, description = "The same files were published before"),
        (status = 201, body = Published),
        (status = 400, body = Problem),
        (status = 422, body = Problem, description = "The gate refused the model")
    )
)]
pub async fn publish(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    parts: Multipart,
) -> Answer<(StatusCode, Json<Published>)> {
    let upload = read_upload(model_name(&model)?, parts).await?;
    let outcome = publish::publish(&app, upload, &caller.name).await?;
    let row = app.store.release(&outcome.release).await?.ok_or_else(|| missing(&outcome.release))?;
    let view = ReleaseView::of(row)?;
    let published = Published {
        release: view.release,
        created: outcome.created,
        transfer_bytes: view.transfer_bytes,
        gate: view.gate,
    };
    let status = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(published)))
}

/// The bound on the body of a publication.
pub(super) fn upload_limit(upload_mib: u32) -> DefaultBodyLimit {
    DefaultBodyLimit::max((upload_mib as usize).saturating_mul(1_024 * 1_024))
}

async fn read_upload(model: ModelName, mut parts: Multipart) -> Answer<Upload> {
    let (mut onnx, mut golden, mut lineage) = (None, None, None);
    let (mut reference, mut features, mut policy) = (None, None, None);
    while let Some(part) = parts.next_field().await.map_err(bad_form)? {
        let name = part.name().unwrap_or_default().to_owned();
        let slot = match name.as_str() {
            "model" => &mut onnx,
            "golden" => &mut golden,
            "reference" => &mut reference,
            "features" => &mut features,
            "lineage" => &mut lineage,
            "policy" => &mut policy,
            _ => {
                let detail = format!("'{name}' is not a part of a publication");
                return Err(Problem::bad_request("unknown_part", detail)
                    .hint("parts are model, golden, lineage, reference, features, policy"));
            }
        };
        *slot = Some(part.bytes().await.map_err(bad_form)?);
    }
    let needed = |part: Option<Bytes>, name: &str| {
        part.ok_or_else(|| Problem::bad_request("missing_part", format!("the part '{name}' is missing")))
    };
    Ok(Upload {
        model,
        onnx: needed(onnx, "model")?,
        golden: needed(golden, "golden")?,
        reference,
        features,
        lineage: publish::read_lineage(&text(&needed(lineage, "lineage")?, "lineage")?).map_err(bad_file)?,
        policy: match policy {
            Some(bytes) => Policy::read(&text(&bytes, "policy")?).map_err(bad_file)?,
            None => Policy::default(),
        },
    })
}

fn text(bytes: &Bytes, what: &str) -> Answer<String> {
    let small = bytes.len() <= MAX_TEXT_BYTES;
    let text = String::from_utf8(bytes.to_vec()).ok().filter(|_| small);
    text.ok_or_else(|| {
        Problem::bad_request(
            "bad_file",
            format!("the {what} is not a text of at most {MAX_TEXT_BYTES} bytes"),
        )
    })
}

fn bad_form(error: MultipartError) -> Problem {
    Problem::new(error.status(), "bad_form", error.body_text())
}

fn bad_file(error: ConfigError) -> Problem {
    Problem::bad_request("bad_file", error.to_string())
}

pub(super) fn model_name(text: &str) -> Answer<ModelName> {
    ModelName::new(text).map_err(|error| Problem::bad_request("bad_name", error.to_string()))
}

pub(super) async fn find(app: &Shared, model: &str, version: u32) -> Answer<ReleaseRow> {
    let version = Version::try_from(version)
        .map_err(|_| Problem::bad_request("bad_version", "versions are numbered from 1 up"))?;
    let release = ReleaseId::new(model_name(model)?, version);
    app.store.release(&release).await?.ok_or_else(|| missing(&release))
}

fn missing(release: &ReleaseId) -> Problem {
    Problem::not_found("release_not_found", format!("there is no release {release}"))
        .hint(format!("see its versions: muster model show {}", release.model))
}

fn hint_of(refused: &Refused) -> &'static str {
    match refused.code.as_str() {
        "bad_features" | "bad_reference" => {
            "the model was not published; correct the sample or the features and publish again, or publish it without \
             them, and nothing is watched for drift"
        }
        _ => "the model was not published; correct it or its golden vectors and publish again",
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::File(error) => bad_file(error),
            PublishError::ReservedName(_) => {
                Self::refused("reserved_name", error.to_string()).hint("publish it under another name")
            }
            PublishError::Size { .. } | PublishError::FeaturesSize { .. } => {
                Self::bad_request("bad_size", error.to_string())
            }
            PublishError::FeaturesWithoutReference => Self::bad_request("missing_part", error.to_string())
                .hint("give the sample too (--reference), or leave the features out"),
            PublishError::ManifestSize { .. } => Self::refused("bad_reference", error.to_string())
                .hint("watch fewer features with many categories, or shorten the names of the categories"),
            PublishError::Refused(refused) => {
                let hint = hint_of(&refused);
                Self::refused(&refused.code, refused.detail).hint(hint)
            }
            PublishError::Manifest(error) => Self::refused("bad_policy", error.to_string()),
            PublishError::Store(error) => error.into(),
            PublishError::Artifact(error) => error.into(),
            PublishError::Signing(error) => error.into(),
            PublishError::Gate(_) | PublishError::Pack(_) => Self::internal(&error),
        }
    }
}
