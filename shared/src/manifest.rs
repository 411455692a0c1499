//! The manifest: everything a device must know about a model version before it runs it.
//!
//! A manifest is a JSON file whose digest stands in the signed targets metadata, so its own bytes need no
//! signature. It is immutable: publishing again makes a new version.

mod drift;
mod policy;
mod tensor;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use drift::{
    CapturePolicy, DriftGuardrail, DriftSpec, FeatureSource, ImageLayout, ImageOrder, ImageStatistic,
    MAX_PROJECTIONS, Reading, Side,
};
pub use policy::{Budgets, ErrorTest, ProbationPolicy, Tolerance};
pub use tensor::{DataType, Dim, TensorSpec};

use crate::{
    artifact::{Artifact, InvalidArtifact},
    id::ReleaseId,
    time::Timestamp,
};

/// Format of this version of the software.
pub const MANIFEST_FORMAT: u32 = 1;

/// Largest manifest: the block tables of two artifacts of the largest size, and room for the rest.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1_024 * 1_024;

/// Most tensors on either side of a model.
pub const MAX_TENSORS: usize = 256;

/// The description of a model version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Which model version this is.
    pub release: ReleaseId,
    /// When it was published.
    pub published_at: Timestamp,

    /// What runs the model and what it must know.
    pub runtime: Runtime,
    /// What goes in, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// What comes out, in the model's order.
    pub outputs: Vec<TensorSpec>,

    /// The model.
    pub model: Artifact,
    /// Inputs with the outputs they must give.
    pub golden: Golden,
    /// Samples of the training-time distribution, if the publisher gave any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Artifact>,
    /// What is watched for drift; made from those samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftSpec>,

    /// What the model may cost.
    pub budgets: Budgets,
    /// When a device keeps it and when it goes back.
    pub probation: ProbationPolicy,

    /// Where it comes from.
    pub lineage: Lineage,
}

/// What runs a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Format of the model artifact; today always `onnx`.
    pub format: String,
    /// ONNX opset of each operator domain; the standard domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Operators used, as `domain.Name`.
    pub operators: BTreeSet<String>,
}

/// Golden vectors: a `safetensors` file with tensors `inputs/<name>` and `outputs/<name>`, whose first axis
/// counts the cases and whose other axes are the tensor's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The file.
    pub artifact: Artifact,
    /// Number of cases, at least one.
    pub cases: u32,
    /// How far an output may lie from its golden value.
    pub tolerance: Tolerance,
}

/// Where a model version comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Commit of the training code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_commit: Option<String>,
    /// Name of the script that trained the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_script: Option<String>,
    /// Digest of the script that trained the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_script_digest: Option<String>,
    /// Digest of the training data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_digest: Option<String>,
    /// Name or address of the training data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source: Option<String>,
    /// Licence and consent under which the data may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_licence: Option<String>,
    /// The version it was derived from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ReleaseId>,
    /// Address of the training run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_link: Option<String>,
    /// Hyper-parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Scalar>,
    /// Metrics of the training run, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// A hyper-parameter's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Why a manifest is not usable although its digest is right.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidManifest {
    /// It was written by newer software.
    #[error("manifest format {0}; this software reads format {MANIFEST_FORMAT}")]
    Format(u32),
    /// It has no inputs or outputs, or too many.
    #[error("{0} {1}; allowed are 1 to {MAX_TENSORS}")]
    TensorCount(usize, &'static str),
    /// Two inputs or two outputs share a name.
    #[error("two {1} are named '{0}'")]
    DuplicateTensor(String, &'static str),
    /// An artifact's description contradicts itself.
    #[error("artifact '{0}': {1}")]
    Artifact(&'static str, #[source] InvalidArtifact),
    /// No golden vectors.
    #[error("no golden cases: a device cannot test what it cannot compare")]
    NoGolden,
    /// A number of the policy lies outside its range.
    #[error("{0}")]
    Policy(String),
}

impl Manifest {
    /// Checks what the types cannot: bounds, contradictions, ranges.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn check(&self) -> Result<(), InvalidManifest> {
        self.check_model()?;
        match &self.drift {
            Some(drift) => drift.check(&self.inputs, &self.outputs).map_err(InvalidManifest::Policy),
            None => Ok(()),
        }
    }

    /// Checks what a device needs to run the model: everything but [`drift`](Self::drift), which costs the counting of features
    /// where it is wrong, and no more.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn check_model(&self) -> Result<(), InvalidManifest> {
        if self.format != MANIFEST_FORMAT {
            return Err(InvalidManifest::Format(self.format));
        }
        check_tensors(&self.inputs, "inputs")?;
        check_tensors(&self.outputs, "outputs")?;
        for (name, artifact) in self.artifacts() {
            artifact.check().map_err(|error| InvalidManifest::Artifact(name, error))?;
        }
        if self.golden.cases == 0 {
            return Err(InvalidManifest::NoGolden);
        }
        self.golden.tolerance.check().map_err(InvalidManifest::Policy)?;
        self.budgets.check().map_err(InvalidManifest::Policy)?;
        self.probation.check().map_err(InvalidManifest::Policy)
    }

    /// The artifacts that a device needs to run the model, with their role.
    pub fn artifacts(&self) -> impl Iterator<Item = (&'static str, &Artifact)> {
        [("model", &self.model), ("golden", &self.golden.artifact)].into_iter()
    }
}

fn check_tensors(tensors: &[TensorSpec], side: &'static str) -> Result<(), InvalidManifest> {
    if tensors.is_empty() || tensors.len() > MAX_TENSORS {
        return Err(InvalidManifest::TensorCount(tensors.len(), side));
    }
    let mut names = BTreeSet::new();
    match tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        Some(twice) => Err(InvalidManifest::DuplicateTensor(twice.name.clone(), side)),
        None => Ok(()),
    }
}
