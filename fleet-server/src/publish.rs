//! Publishing a model: inspect → gate → pack → seal → sign.
//!
//! Each step takes what the step before it made, so none can be left out. The steps that parse what the publisher
//! sent run in a process of their own ([`worker`]): a hostile model may kill that process, never the server.
//!
//! A release is immutable. The same files published again are the release that is there already.

mod features;
pub mod gate;
mod golden_file;
mod npz;
mod pack;
mod policy;
mod reference;
mod report;
mod sample;
pub mod worker;

use std::sync::Arc;

use bytes::Bytes;
use shared::{
    Digest, ModelName, ReleaseId, Version,
    artifact::{Artifact, MAX_ARTIFACT_BYTES},
    manifest::{
        DriftSpec, Golden, InvalidManifest, Lineage, MANIFEST_FORMAT, MAX_MANIFEST_BYTES, Manifest, Runtime,
    },
};
use thiserror::Error;

use crate::{
    app::App,
    artifacts::ArtifactError,
    config::ConfigError,
    signing::SigningError,
    store::{NewRelease, Store, StoreError},
};
use gate::{Gated, Refused};
pub use policy::Policy;

/// Devices answer under `/v2/models/stats` with the figures of all models, so a model of that name were hidden there.
const RESERVED_NAME: &str = "stats";

/// Longest schema of features: the names of a few thousand categories.
pub const MAX_FEATURES_BYTES: usize = 256 * 1_024;

/// What a publisher gives.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The line of versions that gets another one.
    pub model: ModelName,
    /// The model, an ONNX file.
    pub onnx: Bytes,
    /// Golden vectors, `.npz` or `.safetensors`.
    pub golden: Bytes,
    /// Samples of the training-time distribution, `.npz` or `.csv`.
    pub reference: Option<Bytes>,
    /// What of them is watched for drift, where that is not to be derived from the model; TOML.
    pub features: Option<Bytes>,
    /// Where the model comes from.
    pub lineage: Lineage,
    /// What it may cost and when devices go back.
    pub policy: Policy,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The release.
    pub release: ReleaseId,
    /// False when the same files were published before.
    pub created: bool,
}

/// Why nothing was published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// A file has a mistake, with line and column.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The name means something else on devices.
    #[error("a model cannot be named '{0}': devices answer /v2/models/{0} with the figures of all models")]
    ReservedName(ModelName),
    /// A file is empty or too large.
    #[error("the {what} has {size_bytes} bytes; allowed are 1 to {MAX_ARTIFACT_BYTES}")]
    Size {
        /// Which.
        what: &'static str,
        /// How many it has.
        size_bytes: usize,
    },
    /// There is a schema of features and nothing to read them off.
    #[error("the schema of features says what of a reference sample is watched, and there is no sample")]
    FeaturesWithoutReference,
    /// The schema of features is empty or too long.
    #[error("the schema of features has {size_bytes} bytes; allowed are 1 to {MAX_FEATURES_BYTES}")]
    FeaturesSize {
        /// How many it has.
        size_bytes: usize,
    },
    /// The manifest would not be read by devices.
    #[error(
        "the manifest has {size_bytes} bytes, {reference_bytes} of them the reference of {features} features; devices read \
         at most {MAX_MANIFEST_BYTES}"
    )]
    ManifestSize {
        /// How many it has.
        size_bytes: usize,
        /// How many of these are the reference.
        reference_bytes: usize,
        /// How many features are watched.
        features: usize,
    },
    /// The gate refused the model.
    #[error("{0}")]
    Refused(Refused),
    /// The gate itself did not work.
    #[error(transparent)]
    Gate(#[from] gate::GateError),
    /// The policy and the model make no usable manifest.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
    /// Packing failed.
    #[error("cannot pack the files")]
    Pack(#[source] std::io::Error),
    /// A file cannot be stored.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Signing failed.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a lineage file.
///
/// # Errors
/// Names line and column.
pub fn read_lineage(text: &str) -> Result<Lineage, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::toml("lineage", text, &error))
}

/// Publishes a model.
///
/// # Errors
/// When the model is refused or something cannot be stored; then there is no new release.
pub async fn publish(app: &Arc<App>, upload: Upload, by: &str) -> Result<Outcome, PublishError> {
    check_name(&upload.model)?;
    check_sizes(&upload)?;
    let _turn = app.publishing.lock().await;
    let content = content_digest(&upload);
    if let Some(version) = app.store.find_content(&upload.model, &content).await? {
        return again(app, ReleaseId::new(upload.model, version)).await;
    }
    let gated = gate::gate(app, upload).await?.map_err(PublishError::Refused)?;
    let sealed = seal(app, gated).await?;
    let release = sealed.manifest.release.clone();
    sign(app, sealed, content, by).await?;
    tracing::info!(%release, "published");
    Ok(Outcome { release, created: true })
}

/// The same files again. Listing repeats, in case the server died between storing and listing.
async fn again(app: &App, release: ReleaseId) -> Result<Outcome, PublishError> {
    if let Some(row) = app.store.release(&release).await? {
        app.signing.add_release(row.manifest_json.as_bytes(), app.clock.now()).await?;
    }
    Ok(Outcome { release, created: false })
}

/// Lists every stored release: one that was stored just before a crash is listed at the next start. A release that
/// cannot be listed is of no use to devices, which is no reason to serve them none of the others.
///
/// # Errors
/// When the database gives no answer or nothing can be signed.
pub async fn list_stored(app: &App) -> Result<(), PublishError> {
    for release in app.store.release_ids().await? {
        let Some(row) = app.store.release(&release).await? else { continue };
        if app.signing.lists(&release, &row.manifest_digest) {
            continue;
        }
        match app.signing.add_release(row.manifest_json.as_bytes(), app.clock.now()).await {
            Ok(()) => tracing::info!(%release, "a stored release is listed"),
            Err(SigningError::Repository(error)) => {
                tracing::error!(%release, error = &error as &dyn std::error::Error, "a stored release cannot be listed");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A manifest whose artifacts are all stored.
struct Sealed {
    manifest: Manifest,
    manifest_json: String,
    gate: String,
}

async fn seal(app: &Arc<App>, gated: Gated) -> Result<Sealed, PublishError> {
    let newest = app.store.newest_version(&gated.upload.model).await?;
    let version = newest.map_or(Version::FIRST, Version::next);
    let gate = serde_json::to_string(&gated.report).expect("a gate report is texts, numbers and lists");
    let Gated { upload, report, drift, golden } = gated;
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        release: ReleaseId::new(upload.model, version),
        published_at: app.clock.now(),
        runtime: Runtime { format: "onnx".into(), opsets: report.opsets, operators: report.operators },
        inputs: report.inputs,
        outputs: report.outputs,
        model: store(app, upload.onnx).await?,
        golden: Golden {
            artifact: store(app, golden).await?,
            cases: report.cases,
            tolerance: upload.policy.tolerance,
        },
        reference: match upload.reference {
            Some(bytes) => Some(store(app, bytes).await?),
            None => None,
        },
        drift,
        budgets: upload.policy.budgets,
        probation: upload.policy.probation,
        lineage: upload.lineage,
    };
    manifest.check()?;
    let manifest_json = serde_json::to_string(&manifest).expect("a manifest is texts, numbers and lists");
    check_manifest_size(manifest_json.len(), manifest.drift.as_ref())?;
    Ok(Sealed { manifest, manifest_json, gate })
}

fn check_manifest_size(size_bytes: usize, drift: Option<&DriftSpec>) -> Result<(), PublishError> {
    if size_bytes as u64 <= MAX_MANIFEST_BYTES {
        return Ok(());
    }
    let reference = serde_json::to_vec(&drift).unwrap_or_default();
    let features = drift.map_or(0, |drift| drift.sources.len());
    Err(PublishError::ManifestSize { size_bytes, reference_bytes: reference.len(), features })
}

/// Packs a file and stores its packed form.
async fn store(app: &App, bytes: Bytes) -> Result<Artifact, PublishError> {
    let packing = tokio::task::spawn_blocking(move || pack::pack(&bytes));
    let (artifact, packed) =
        packing.await.map_err(std::io::Error::other).and_then(|packed| packed).map_err(PublishError::Pack)?;
    app.artifacts.put(packed).await?;
    Ok(artifact)
}

/// Stores the release, then lists it. In this order a crash in between leaves a release that the next start lists.
async fn sign(app: &App, sealed: Sealed, content: Digest, by: &str) -> Result<(), PublishError> {
    let now = app.clock.now();
    let Sealed { manifest, manifest_json, gate } = sealed;
    // What the repository would refuse must not get into the database. Nobody else publishes meanwhile.
    app.signing.check_release(manifest_json.as_bytes(), now)?;
    let release = manifest.release.clone();
    let new = NewRelease {
        release: release.clone(),
        manifest_json: manifest_json.clone(),
        content_digest: content,
        model_digest: manifest.model.digest,
        gate,
        published_by: by.to_owned(),
    };
    let mut tx = app.store.begin().await?;
    Store::insert_release(&mut tx, &new, now).await?;
    let artifacts = [Some(&manifest.model), Some(&manifest.golden.artifact), manifest.reference.as_ref()];
    for Artifact { packed, .. } in artifacts.into_iter().flatten() {
        Store::insert_artifact(&mut tx, &packed.digest, packed.size_bytes, now).await?;
    }
    Store::audit(&mut tx, now, by, "model.publish", &release.to_string(), &content.to_string()).await?;
    tx.commit().await.map_err(StoreError::from)?;
    app.signing.add_release(manifest_json.as_bytes(), now).await?;
    Ok(())
}

/// Digest over everything the publisher gave, each part with its length so that no two uploads look alike.
///
/// What was published with a sample before references were made of samples is another content: published again, it gets
/// a version that is watched.
fn content_digest(upload: &Upload) -> Digest {
    let lineage = serde_json::to_vec(&upload.lineage).unwrap_or_default();
    let policy = serde_json::to_vec(&upload.policy).unwrap_or_default();
    let reference = upload.reference.clone().unwrap_or_default();
    let features = upload.features.clone().unwrap_or_default();
    let mut parts: Vec<&[u8]> = vec![&upload.onnx, &upload.golden, &reference, &lineage, &policy];
    if upload.reference.is_some() {
        parts.push(&features);
    }
    let list: Vec<u8> = parts.iter().flat_map(|part| *Digest::of(part).as_bytes()).collect();
    Digest::of(&list)
}

fn check_name(model: &ModelName) -> Result<(), PublishError> {
    if model.as_str() == RESERVED_NAME { Err(PublishError::ReservedName(model.clone())) } else { Ok(()) }
}

fn check_sizes(upload: &Upload) -> Result<(), PublishError> {
    let reference = upload.reference.as_ref().map_or(1, Bytes::len);
    let sizes =
        [("model", upload.onnx.len()), ("golden file", upload.golden.len()), ("reference", reference)];
    let wrong = |size: usize| size == 0 || size as u64 > MAX_ARTIFACT_BYTES;
    if let Some((what, size_bytes)) = sizes.into_iter().find(|(_, size)| wrong(*size)) {
        return Err(PublishError::Size { what, size_bytes });
    }
    match (&upload.features, &upload.reference) {
        (Some(_), None) => Err(PublishError::FeaturesWithoutReference),
        (Some(features), Some(_)) if !(1..=MAX_FEATURES_BYTES).contains(&features.len()) => {
            Err(PublishError::FeaturesSize { size_bytes: features.len() })
        }
        (Some(_) | None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_devices_would_not_read_is_refused_with_what_makes_it_large() {
        let spec: DriftSpec = serde_json::from_value(serde_json::json!({
            "sources": [{"side": "output", "tensor": "y", "reading": "top_class"}],
            "reference": [{"name": "class", "values": {"category": {
                "names": ["a", "b"], "counts": {"bins": [600, 600, 0], "missing": 0},
            }}}],
        }))
        .unwrap();
        let most = usize::try_from(MAX_MANIFEST_BYTES).unwrap();
        check_manifest_size(most, Some(&spec)).unwrap();
        let error = check_manifest_size(most + 1, Some(&spec)).unwrap_err().to_string();
        let is_clear =
            error.starts_with("the manifest has 4194305 bytes") && error.contains("reference of 1 features");
        assert!(is_clear, "{error}");
    }
}
