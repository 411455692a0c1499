//! Looking into an ONNX file without running anything of it: the structural gate.
//!
//! The engine is large and was not written for hostile files: a stride of zero makes it panic, pads of 2³⁰ make it
//! hang, and a hundred bytes can ask for a terabyte. So the file is first read by this small, total walk, which
//! bounds what can be bounded statically and names the node at fault. What passes may still be a bad model; the
//! trial process finds out.

mod graph;
mod node;
mod tensors;
mod trees;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use shared::{artifact::MAX_ARTIFACT_BYTES, manifest::TensorSpec};
use thiserror::Error;

use crate::{onnx::ModelProto, tract_engine};
use graph::Walk;

/// Most nodes, subgraphs included. A chain of 20,000 takes the optimiser six seconds on a fast machine, and its
/// time grows faster than the chain; the largest models that edge devices run have a few thousand.
pub const MAX_NODES: usize = 10_000;

/// Deepest nesting of graphs inside nodes; exporters make two or three levels.
pub const MAX_DEPTH: usize = 8;

/// ONNX IR versions in use; 3 is the first that exporters wrote, 13 the newest defined.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=13;

/// What an ONNX file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Version of the ONNX format.
    pub ir_version: i64,
    /// Who wrote it, for example `pytorch`; may be empty.
    pub producer: String,
    /// Opset of each domain; the standard domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Operators used, as `domain.Name`, subgraphs included.
    pub operators: BTreeSet<String>,
    /// What the caller must give, without initialisers.
    pub inputs: Vec<TensorSpec>,
    /// What the model gives.
    pub outputs: Vec<TensorSpec>,
    /// Nodes, subgraphs included.
    pub node_count: usize,
    /// Bytes of constants: weights and other initialisers.
    pub constant_bytes: u64,
    /// Bytes of the file.
    pub size_bytes: u64,
}

/// Why a model is refused before any engine sees it.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum InspectError {
    /// The bytes are not an ONNX model.
    #[error("this is not an ONNX model ({0}); publish the .onnx file that your framework exported")]
    NotOnnx(String),
    /// An operator that no engine here implements.
    #[error(
        "{place} uses the operator {operator}, which no engine here implements; export the model without it, or \
         with it expressed in standard operators"
    )]
    UnsupportedOperator {
        /// As `domain.Name`.
        operator: String,
        /// Which node.
        place: String,
    },
    /// Something in the structure is wrong or beyond a bound.
    #[error("{place} {problem}; {advice}")]
    Structure {
        /// Which node, tensor, input or output.
        place: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
}

impl InspectError {
    fn structure(place: impl Into<String>, problem: impl Into<String>, advice: &'static str) -> Self {
        Self::Structure { place: place.into(), problem: problem.into(), advice }
    }
}

/// Reads the structure of an ONNX model and checks it against the bounds and the operators of the engine.
///
/// # Errors
/// In one sentence: what is wrong, where, and what to do.
pub fn inspect(model: &Bytes) -> Result<Inspected, InspectError> {
    let size_bytes = check_size(model)?;
    let proto =
        ModelProto::decode(model.clone()).map_err(|error| InspectError::NotOnnx(error.to_string()))?;
    let Some(graph) = &proto.graph else {
        return Err(InspectError::NotOnnx("it holds no graph".into()));
    };
    check_header(&proto)?;
    let mut walk = Walk::new(tract_engine::operators());
    walk.graph(graph)?;
    Ok(Inspected {
        ir_version: proto.ir_version,
        opsets: opsets(&proto),
        inputs: tensors::inputs(graph)?,
        outputs: tensors::outputs(graph)?,
        node_count: walk.node_count,
        constant_bytes: walk.constant_bytes,
        operators: walk.operators,
        producer: proto.producer_name,
        size_bytes,
    })
}

fn check_size(model: &Bytes) -> Result<u64, InspectError> {
    let size_bytes = model.len() as u64;
    if size_bytes <= MAX_ARTIFACT_BYTES {
        return Ok(size_bytes);
    }
    Err(InspectError::structure(
        "the model",
        format!("has {size_bytes} bytes; allowed are {MAX_ARTIFACT_BYTES}"),
        "quantise or prune it",
    ))
}

fn check_header(proto: &ModelProto) -> Result<(), InspectError> {
    if !IR_VERSIONS.contains(&proto.ir_version) {
        let text = format!("its IR version is {}, known are 3 to 13", proto.ir_version);
        return Err(InspectError::NotOnnx(text));
    }
    if proto.opset_import.is_empty() {
        return Err(InspectError::NotOnnx("it names no operator set".into()));
    }
    match proto.functions.first() {
        None => Ok(()),
        Some(function) => Err(InspectError::structure(
            format!("function '{}'", short(&function.name)),
            "is defined in the model, which the engine cannot read",
            "inline the model's functions, for example with onnx.inliner",
        )),
    }
}

fn opsets(proto: &ModelProto) -> BTreeMap<String, i64> {
    proto.opset_import.iter().map(|set| (domain(&set.domain).to_owned(), set.version)).collect()
}

/// The standard domain is written as nothing or as `ai.onnx`; here it has one spelling.
fn domain(written: &str) -> &str {
    if written.is_empty() { "ai.onnx" } else { written }
}

/// A name from the file, cut to what fits a sentence.
fn short(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}
