//! What the writer promises: versions only grow, releases never change, and every file is signed by the key
//! that the root names.

#![allow(clippy::unwrap_used)] // helpers of tests may, like the tests

use std::time::Duration;

use muster_repository::{Keys, Repository, RepositoryError, Role, TIMESTAMP_LIFETIME, director};
use serde_json::{Value, json};
use shared::{
    Digest, Generation, Timestamp,
    trust::{DIRECTOR_MEMBER, KeySet, Signed},
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_release_is_listed_with_the_length_and_digest_of_its_manifest() {
    let (keys, mut repository) = new();
    let manifest = manifest("digits@1", 7);
    let named = repository.add_release(&keys, &manifest, NOW).unwrap();
    assert_eq!(named.manifest_digest, Digest::of(&manifest));

    let target = &signed(&repository, "2.targets.json")["targets"]["digits/1.json"];
    assert_eq!(target["length"], json!(manifest.len()));
    assert_eq!(target["hashes"]["sha256"], json!(Digest::of(&manifest)));
    assert_eq!(target["custom"]["release_counter"], json!(1));
}

#[test]
fn each_file_names_the_next_with_its_digest() {
    let (keys, mut repository) = new();
    repository.add_release(&keys, &manifest("digits@1", 7), NOW).unwrap();
    let files = repository.files();
    let snapshot = &signed(&repository, "timestamp.json")["meta"]["snapshot.json"];
    assert_eq!(snapshot["version"], json!(2));
    assert_eq!(snapshot["hashes"]["sha256"], json!(Digest::of(&files["2.snapshot.json"])));
    let targets = &signed(&repository, "2.snapshot.json")["meta"]["targets.json"];
    assert_eq!(targets["hashes"]["sha256"], json!(Digest::of(&files["2.targets.json"])));
}

#[test]
fn a_published_release_never_changes_not_even_after_it_was_withdrawn() {
    let (keys, mut repository) = new();
    let first = manifest("digits@1", 7);
    repository.add_release(&keys, &first, NOW).unwrap();
    let before = repository.clone();
    repository.add_release(&keys, &first, NOW).unwrap();
    assert_eq!(repository, before);

    let changed = manifest("digits@1", 8);
    let refused = |repository: &mut Repository| repository.add_release(&keys, &changed, NOW).unwrap_err();
    assert!(matches!(refused(&mut repository), RepositoryError::Published { .. }));
    repository.withdraw(&keys, &"digits@1".parse().unwrap(), NOW).unwrap();
    assert_eq!(repository.listings().count(), 0);
    assert!(matches!(refused(&mut repository), RepositoryError::Published { .. }));
    repository.add_release(&keys, &first, NOW).unwrap();
    assert_eq!(repository.listings().next().unwrap().release_counter, 2);
}

#[test]
fn what_has_lived_half_its_life_is_signed_again_and_nothing_else() {
    let (keys, mut repository) = new();
    assert!(!repository.refresh(&keys, NOW + DAY).unwrap());
    let due = repository.next_refresh_at();
    assert_eq!(due, NOW + TIMESTAMP_LIFETIME / 2);
    assert!(repository.refresh(&keys, due).unwrap());
    assert_eq!(signed(&repository, "timestamp.json")["version"], json!(2));
    assert!(!repository.files().contains_key("2.snapshot.json"));
    assert!(repository.next_refresh_at() > due);

    assert!(repository.refresh(&keys, NOW + DAY * 400).unwrap());
    let names: Vec<_> = repository.files().into_keys().collect();
    let all = ["1.root.json", "1.snapshot.json", "1.targets.json", "2.root.json", "2.snapshot.json"];
    assert_eq!(names, [&all[..], &["2.targets.json", "timestamp.json"]].concat());
}

#[test]
fn a_clock_that_was_ahead_is_repaired_by_the_next_refresh() {
    let (keys, mut repository) = new();
    assert!(repository.refresh(&keys, NOW + DAY * 300).unwrap());
    assert!(repository.refresh(&keys, NOW).unwrap());
    assert_eq!(signed(&repository, "timestamp.json")["x-muster-signed-at"], json!(NOW.as_millis()));
}

#[test]
fn old_versions_stay_for_a_while_and_roots_for_ever() {
    let (keys, mut repository) = new();
    for version in 1..=10 {
        repository.add_release(&keys, &manifest(&format!("digits@{version}"), 7), NOW).unwrap();
    }
    let files = repository.files();
    assert!(files.contains_key("8.targets.json") && !files.contains_key("7.targets.json"));

    let mut old = keys;
    for seed in 10..13 {
        let new = Keys::from_seeds(&[[seed; 32]; 5]);
        repository.rotate(&old, &new, NOW).unwrap();
        old = new;
    }
    assert!((1..=4).all(|version| repository.files().contains_key(&format!("{version}.root.json"))));
}

#[test]
fn a_new_root_is_signed_by_the_old_key_and_the_new_one() {
    let (old, mut repository) = new();
    let new = Keys::from_seeds(&[[20; 32], [21; 32], [22; 32], [23; 32], [24; 32]]);
    repository.rotate(&old, &new, NOW).unwrap();
    let bytes = repository.files()["2.root.json"].clone();
    let by = |keys: &Keys| {
        let role = KeySet::single(keys.signer(Role::Root).public().clone());
        Signed::<Value>::from_slice(&bytes).unwrap().verify(&role).is_ok()
    };
    assert!(by(&old) && by(&new));
    let refused = repository.refresh(&old, NOW).unwrap_err();
    assert!(matches!(refused, RepositoryError::ForeignKey(Role::Root)));
}

#[test]
fn a_director_document_opens_with_the_keys_that_the_root_names() {
    let (keys, repository) = new();
    let role: KeySet =
        serde_json::from_value(signed(&repository, "1.root.json")[DIRECTOR_MEMBER].clone()).unwrap();
    let document = director(&keys, "d1".parse().unwrap(), Generation(3), vec![], NOW);
    let opened = document.verify(&role).unwrap();
    assert_eq!((opened.generation, opened.expires_at), (Generation(3), NOW + DAY * 7));
}

#[test]
fn the_state_survives_a_restart() {
    let (keys, mut repository) = new();
    repository.add_release(&keys, &manifest("digits@1", 7), NOW).unwrap();
    let text = serde_json::to_string(&repository).unwrap();
    let back: Repository = serde_json::from_str(&text).unwrap();
    assert_eq!(back, repository);
}

#[test]
fn an_unusable_manifest_is_not_listed() {
    let (keys, mut repository) = new();
    let refused = repository.add_release(&keys, b"{}", NOW).unwrap_err();
    assert!(matches!(refused, RepositoryError::Unreadable(_)));
    let mut value: Value = serde_json::from_slice(&manifest("digits@1", 7)).unwrap();
    value["golden"]["cases"] = json!(0);
    let refused = repository.add_release(&keys, &serde_json::to_vec(&value).unwrap(), NOW).unwrap_err();
    assert!(matches!(refused, RepositoryError::Invalid(..)));
}

fn new() -> (Keys, Repository) {
    let keys = Keys::from_seeds(&[[1; 32], [2; 32], [3; 32], [4; 32], [5; 32]]);
    let repository = Repository::create(&keys, NOW);
    (keys, repository)
}

fn signed(repository: &Repository, name: &str) -> Value {
    let file: Value = serde_json::from_slice(&repository.files()[name]).unwrap();
    file["signed"].clone()
}

fn manifest(release: &str, salt: u8) -> Vec<u8> {
    let artifact = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        json!({"digest": digest, "size_bytes": bytes.len(), "packed": {
            "encoding": "stored", "digest": digest, "size_bytes": bytes.len(), "block_bytes": 65536,
            "blocks": [digest]}})
    };
    let manifest = json!({
        "format": 1, "release": release, "published_at": NOW,
        "runtime": {"format": "onnx", "opsets": {"ai.onnx": 17}, "operators": ["ai.onnx.Gemm"]},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["N", 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["N", 2]}],
        "model": artifact(&[salt; 9]),
        "golden": {"artifact": artifact(b"golden"), "cases": 1,
                   "tolerance": {"absolute": 1e-4, "relative": 1e-3}},
        "budgets": shared::manifest::Budgets::default(),
        "probation": shared::manifest::ProbationPolicy::default(),
        "lineage": {},
    });
    serde_json::to_vec(&manifest).unwrap()
}
