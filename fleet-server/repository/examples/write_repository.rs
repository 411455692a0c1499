//! Writes a repository into a folder, for readers that are not ours.
//!
//! `write_repository FOLDER` makes `FOLDER/metadata` and `FOLDER/targets` with two releases and one key
//! rotation, dated by the clock of this computer, and prints the path of every listed release. Manifests lie
//! where a consistent snapshot has them: `<model>/<digest>.<version>.json`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // an example that checks and prints

use std::{fs, path::Path, time::SystemTime};

use muster_repository::{Keys, Repository};
use serde_json::{Value, json};
use shared::{
    Digest, Timestamp,
    manifest::{Budgets, ProbationPolicy},
};

fn main() {
    let folder = std::env::args().nth(1).expect("the folder to write to");
    let folder = Path::new(&folder);
    let now = now();
    let old = Keys::from_seeds(&[[1; 32], [2; 32], [3; 32], [4; 32], [5; 32]]);
    let new = Keys::from_seeds(&[[11; 32], [12; 32], [13; 32], [14; 32], [15; 32]]);

    let mut repository = Repository::create(&old, now);
    publish(&mut repository, &old, folder, 1, now);
    repository.rotate(&old, &new, now).unwrap();
    publish(&mut repository, &new, folder, 2, now);
    for (name, bytes) in repository.files() {
        write(&folder.join("metadata").join(name), &bytes);
    }
    for listing in repository.listings() {
        println!("{}/{}.json", listing.model, listing.version);
    }
}

fn publish(repository: &mut Repository, keys: &Keys, folder: &Path, version: u32, now: Timestamp) {
    let manifest = serde_json::to_vec(&manifest(&format!("digits@{version}"), now)).unwrap();
    let digest = repository.add_release(keys, &manifest, now).unwrap().manifest_digest;
    write(&folder.join(format!("targets/digits/{digest}.{version}.json")), &manifest);
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn manifest(release: &str, now: Timestamp) -> Value {
    json!({
        "format": 1, "release": release, "published_at": now,
        "runtime": {"format": "onnx", "opsets": {"ai.onnx": 17}, "operators": ["ai.onnx.Gemm"]},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["N", 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["N", 2]}],
        "model": artifact(release.as_bytes()),
        "golden": {"artifact": artifact(b"golden"), "cases": 1,
                   "tolerance": {"absolute": 1e-4, "relative": 1e-3}},
        "budgets": Budgets::default(), "probation": ProbationPolicy::default(), "lineage": {},
    })
}

fn artifact(bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    json!({"digest": digest, "size_bytes": bytes.len(), "packed": {
        "encoding": "stored", "digest": digest, "size_bytes": bytes.len(), "block_bytes": 65536,
        "blocks": [digest]}})
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}
