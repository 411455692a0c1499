//! What the gate says of a model.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shared::manifest::TensorSpec;

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who wrote the file.
    pub producer: String,
    /// Opset of each domain.
    pub opsets: BTreeMap<String, i64>,
    /// Operators used.
    pub operators: BTreeSet<String>,
    /// What goes in.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// Nodes of the graph.
    pub node_count: usize,
    /// Golden cases replayed.
    pub cases: u32,
    /// Time to load and warm.
    pub load_ms: u64,
    /// Median latency on the server.
    pub latency_p50_us: u64,
    /// Slowest case on the server.
    pub latency_max_us: u64,
    /// Peak resident memory of the worker.
    pub peak_memory_kib: u64,
    /// What is watched for drift; nothing without a reference sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftReport>,
}

/// How the reference was made that devices count against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftReport {
    /// What tells the reference from any other.
    pub reference: String,
    /// Features that are watched.
    pub features: usize,
    /// How many of each kind: `numeric`, `categorical`, `image`, `confidence`, `entropy`, `class`, `embedding`.
    pub kinds: BTreeMap<String, usize>,
    /// Whether they were derived from the model, because the publisher gave no schema.
    pub derived: bool,
    /// Cases in the sample.
    pub cases: u64,
    /// Rows that the features of inputs were read from.
    pub input_rows: u64,
    /// Rows that the model was run on, for the features of outputs.
    pub output_rows: u64,
    /// Cases that the model failed on or answered with NaN or infinities; they are not in the reference of outputs.
    pub unanswered: u64,
    /// What the publisher should know besides.
    pub notes: Vec<String>,
}

/// Why the gate refused a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}
