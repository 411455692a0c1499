//! Models to publish: the demo's, those that are bad on purpose, and big ones.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::programs::repository;

/// A model with what belongs to it.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The model.
    pub onnx: PathBuf,
    /// Its golden vectors.
    pub golden: PathBuf,
    /// Where it comes from.
    pub lineage: Option<PathBuf>,
    /// When a device keeps it.
    pub policy: Policy,
    /// What is watched for drift, as the file that `--features` takes; nothing without it.
    pub features: Option<String>,
}

/// What of the manifest's policy a test sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// An inference slower than this is slow.
    pub latency_ms: u32,
    /// What it may take of the memory.
    pub memory_mib: u32,
    /// Shortest probation.
    pub duration_secs: u32,
    /// Fewest inferences in probation.
    pub min_inferences: u32,
    /// Starts after which a version is given up.
    pub max_starts: u32,
}

impl Policy {
    /// Kept after a second, used or not.
    pub const QUICK: Self =
        Self { latency_ms: 5_000, memory_mib: 1_024, duration_secs: 1, min_inferences: 0, max_starts: 3 };

    /// Watched until a decision falls: more inferences are asked for than any test sends.
    pub const WATCHFUL: Self = Self { min_inferences: 1_000_000, ..Self::QUICK };

    /// As the file that `--policy` takes.
    #[must_use]
    pub fn toml(&self) -> String {
        let Self { latency_ms, memory_mib, duration_secs, min_inferences, max_starts } = self;
        format!(
            "[budgets]\nlatency_ms = {latency_ms}\nmemory_mib = {memory_mib}\n\n[probation]\nduration_secs = {duration_secs}\n\
             min_inferences = {min_inferences}\nmax_starts = {max_starts}\n"
        )
    }
}

impl Publication {
    /// The demo's model of that number: 1 good, 2 better, 3 bad.
    #[must_use]
    pub fn digits(number: u32) -> Self {
        let demo = repository().join("fleet-server/demo");
        Self {
            onnx: demo.join(format!("digits-v{number}.onnx")),
            golden: demo.join(format!("digits-v{number}-golden.npz")),
            lineage: None,
            policy: Policy::QUICK,
            features: None,
        }
    }

    /// A model of `tests/data`, for example `digits-slow-sometimes`.
    #[must_use]
    pub fn of_tests(name: &str) -> Self {
        let (onnx, golden) = (data(&format!("{name}.onnx")), data(&format!("{name}-golden.npz")));
        Self { onnx, golden, lineage: None, policy: Policy::QUICK, features: None }
    }

    /// The same with the lineage file beside the model.
    #[must_use]
    pub fn with_lineage(self) -> Self {
        let stem = self.onnx.file_stem().and_then(|stem| stem.to_str()).expect("a model has a name");
        let lineage = self.onnx.with_file_name(format!("{stem}-lineage.toml"));
        Self { lineage: Some(lineage), ..self }
    }

    /// The same with another policy.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same with the demo's training images as its reference, watched as `features` say.
    #[must_use]
    pub fn watched(self, features: &str) -> Self {
        Self { features: Some(features.to_owned()), ..self }
    }

    /// The same model as other bytes, which a device does not remember, written into `folder`.
    #[must_use]
    pub fn marked(self, folder: &Path, seed: u64) -> Self {
        self.padded(folder, 16, seed)
    }

    /// The same model with `padding_bytes` of random weights that no operator uses, written into `folder`.
    #[must_use]
    pub fn padded(self, folder: &Path, padding_bytes: usize, seed: u64) -> Self {
        let onnx = folder.join(format!("padded-{padding_bytes}-{seed}.onnx"));
        let model = fs::read(&self.onnx).expect("the model is in the repository");
        fs::write(&onnx, pad(&model, &noise(padding_bytes, seed))).expect("the scratch folder is writable");
        Self { onnx, ..self }
    }

    /// Digits version 1 with `padding_bytes` of random weights that no operator uses, written into `folder`. It
    /// answers as version 1, travels as a big model, and every `seed` makes other bytes.
    #[must_use]
    pub fn big(folder: &Path, padding_bytes: usize, seed: u64) -> Self {
        Self::digits(1).padded(folder, padding_bytes, seed)
    }
}

/// The training images of the digits.
#[must_use]
pub fn digits_reference() -> PathBuf {
    repository().join("fleet-server/demo/digits-reference.npz")
}

/// A file of `tests/data`.
#[must_use]
pub fn data(name: &str) -> PathBuf {
    repository().join("tests/data").join(name)
}

/// A file that must be refused.
#[must_use]
pub fn bad(name: &str) -> PathBuf {
    data("bad-models").join(name)
}

/// Bytes that do not compress (xorshift64*).
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

/// Field numbers of the ONNX protobuf format.
mod field {
    pub const MODEL_GRAPH: u64 = 7;
    pub const GRAPH_INITIALIZER: u64 = 5;
    pub const TENSOR_DIMS: u64 = 1;
    pub const TENSOR_DATA_TYPE: u64 = 2;
    pub const TENSOR_NAME: u64 = 8;
    pub const TENSOR_RAW_DATA: u64 = 9;
    /// Value of `TENSOR_DATA_TYPE` for bytes.
    pub const UINT8: u64 = 2;
}

/// Adds `weights` to the graph of an ONNX `model` as an initializer that nothing reads.
fn pad(model: &[u8], weights: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    put_number(&mut tensor, field::TENSOR_DIMS, weights.len() as u64);
    put_number(&mut tensor, field::TENSOR_DATA_TYPE, field::UINT8);
    put_bytes(&mut tensor, field::TENSOR_NAME, b"padding");
    put_bytes(&mut tensor, field::TENSOR_RAW_DATA, weights);

    let (before, graph, after) = split_at_graph(model);
    let mut padded_graph = graph.to_vec();
    put_bytes(&mut padded_graph, field::GRAPH_INITIALIZER, &tensor);
    let mut padded = before.to_vec();
    put_bytes(&mut padded, field::MODEL_GRAPH, &padded_graph);
    padded.extend_from_slice(after);
    padded
}

/// What comes before the graph's field, the graph, and what comes after it.
fn split_at_graph(model: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut rest = model;
    while !rest.is_empty() {
        let start = model.len() - rest.len();
        let tag = take_varint(&mut rest);
        match tag & 7 {
            0 => {
                take_varint(&mut rest);
            }
            2 => {
                let length = usize::try_from(take_varint(&mut rest)).expect("a field fits in memory");
                let (value, after) = rest.split_at(length);
                if tag >> 3 == field::MODEL_GRAPH {
                    return (&model[..start], value, after);
                }
                rest = after;
            }
            other => panic!("an ONNX model has no fields of wire type {other}"),
        }
    }
    panic!("this ONNX model has no graph");
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().expect("the model ends within a field");
        *rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than 64 bits");
}

fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_adds_to_the_graph_and_keeps_the_rest() {
        let model = fs::read(Publication::digits(1).onnx).unwrap();
        let padded = pad(&model, &noise(1_000, 7));
        let (before, graph, after) = split_at_graph(&model);
        let (padded_before, padded_graph, padded_after) = split_at_graph(&padded);
        assert_eq!((before, after), (padded_before, padded_after));
        assert!(padded_graph.starts_with(graph) && padded_graph.len() > graph.len() + 1_000);
    }

    #[test]
    fn every_seed_makes_other_noise() {
        assert_ne!(noise(64, 1), noise(64, 2));
        assert_eq!(noise(64, 1), noise(64, 1));
    }
}
