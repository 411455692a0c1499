//! What a device could be sent to take it down: the folders of `tests/data/hostile`, and what would be too big for them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use muster_engine::onnx::{GraphProto, ModelProto, NodeProto};
use prost::Message as _;

use crate::models::{Publication, data};

/// A chain of this length is what the structural gate exists for: its optimisation takes long.
const LONGER_THAN_ALLOWED: usize = 20_000;

/// The longest chain that the gate lets through.
const AS_LONG_AS_ALLOWED: usize = 9_990;

/// One attack with the files that belong to it.
#[derive(Debug, Clone)]
pub struct Attack {
    /// Name of its folder.
    pub name: String,
    /// What must come of it, in the word that reports have for it.
    pub expects: String,
    /// What the manifest promises to be the model.
    pub model: Vec<u8>,
    /// Golden vectors.
    pub golden: Vec<u8>,
    /// What travels instead of the model, said to be its packed form.
    pub packed: Option<Vec<u8>>,
}

/// Every attack, by name.
#[must_use]
pub fn attacks() -> Vec<Attack> {
    let folder = data("hostile");
    let entries = fs::read_dir(&folder).expect("the attacks are in the repository").filter_map(Result::ok);
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let mut all: Vec<Attack> = folders.iter().map(|path| Attack::read(path)).collect();
    all.push(chain("chain-too-long", "bad_structure", LONGER_THAN_ALLOWED));
    all
}

/// The slowest chain that the gate lets through: whether it fits the budgets is for the trial to find out.
#[must_use]
pub fn longest_chain() -> Attack {
    chain("chain-as-long-as-allowed", "over_budget", AS_LONG_AS_ALLOWED)
}

impl Attack {
    fn read(folder: &Path) -> Self {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("folders have names").to_owned();
        let file = |name: &str| fs::read(folder.join(name)).ok();
        let readme = String::from_utf8(file("README.md").expect("each attack explains itself")).unwrap();
        let expects = readme.lines().find_map(|line| line.strip_prefix("Expects: "));
        Self {
            expects: expects.unwrap_or_else(|| panic!("{name} does not say what it expects")).to_owned(),
            model: file("model.onnx").expect("each attack has a model"),
            golden: file("golden.safetensors").unwrap_or_else(right_golden),
            packed: file("packed.zst"),
            name,
        }
    }
}

/// A model of `tests/data/treacherous` with the golden vectors of digits version 1, which it all passes.
#[must_use]
pub fn treacherous(name: &str) -> Publication {
    Publication { onnx: data(&format!("treacherous/{name}.onnx")), ..Publication::digits(1) }
}

/// Golden vectors of digits version 1.
#[must_use]
pub fn right_golden() -> Vec<u8> {
    fs::read(data("hostile/golden.safetensors")).expect("the golden vectors are in the repository")
}

/// Digits version 1 behind a chain of `length` nodes that change nothing.
fn chain(name: &str, expects: &str, length: usize) -> Attack {
    let good = fs::read(Publication::digits(1).onnx).expect("the demo's model is in the repository");
    let mut model = ModelProto::decode(good.as_slice()).expect("the demo's model is a model");
    let graph = model.graph.as_mut().expect("a model has a graph");
    put_before(graph, "image", length);
    Attack {
        name: name.into(),
        expects: expects.into(),
        model: model.encode_to_vec(),
        golden: right_golden(),
        packed: None,
    }
}

/// Pixels are not negative, so a `Relu` leaves them as they are.
fn put_before(graph: &mut GraphProto, input: &str, length: usize) {
    let name = |number: usize| if number == 0 { input.to_owned() } else { format!("link_{number}") };
    let link = |number: usize| NodeProto {
        input: vec![name(number)],
        output: vec![name(number + 1)],
        op_type: "Relu".into(),
        ..NodeProto::default()
    };
    let last = name(length);
    for used in graph.node.iter_mut().flat_map(|node| &mut node.input).filter(|used| *used == input) {
        used.clone_from(&last);
    }
    graph.node.splice(0..0, (0..length).map(link));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_there_and_different() {
        let all = attacks();
        assert!(all.len() > 50, "{}", all.len());
        let digests: std::collections::BTreeSet<_> =
            all.iter().map(|a| shared::Digest::of(&a.model)).collect();
        assert_eq!(digests.len(), all.len(), "a device remembers digests, so each must have its own");
    }
}
