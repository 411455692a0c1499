//! Made-up models, and documents that count as verified.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{Agent, Ledger, Settings};
use shared::{
    BootId, DeviceId, Digest, Generation, ModelName, Timestamp,
    artifact::{Artifact, Encoding, Packed},
    manifest::{
        Budgets, DataType, Golden, Lineage, MANIFEST_FORMAT, Manifest, ProbationPolicy, Runtime, TensorSpec,
        Tolerance,
    },
    message::{Assignment, DirectorDocument, DirectorKind},
    trust::{KeySet, Signed, Signer, Verified},
};

pub fn model() -> ModelName {
    ModelName::new("digits").unwrap()
}

pub fn device_id() -> DeviceId {
    DeviceId::new("d1").unwrap()
}

pub fn agent(ledger: Ledger, manifests: Vec<(Digest, Manifest)>, boot: u32, now: Timestamp) -> Agent {
    let boot = BootId::new(format!("boot{boot}")).unwrap();
    Agent::new(device_id(), boot, ledger, manifests, Settings { jitter_seed: 7, ..Settings::default() }, now)
}

pub fn verified<T>(value: T) -> Verified<T> {
    let signer = Signer::from_seed(&[1; 32]);
    let seal = Signed::sign(&0_u32, &[&signer]).unwrap();
    let value = std::cell::Cell::new(Some(value));
    let seal = seal.verify(&KeySet::single(signer.public().clone())).unwrap();
    seal.project(|_| value.take().unwrap())
}

pub fn director(generation: Generation, assignments: Vec<Assignment>) -> DirectorDocument {
    DirectorDocument {
        kind: DirectorKind::Director,
        spec_version: "1.0.31".into(),
        device: device_id(),
        generation,
        expires_at: Timestamp(u64::MAX),
        assignments,
        maintenance: None,
        quarantine: None,
    }
}

pub fn digest_of(manifest: &Manifest) -> Digest {
    Digest::of(&serde_json::to_vec(manifest).unwrap())
}

pub fn assignment(manifest: &Manifest, retry: bool) -> Assignment {
    let manifest_digest = digest_of(manifest);
    Assignment {
        release: manifest.release.clone(),
        manifest_digest,
        manifest_size_bytes: 1,
        retry,
        pinned: false,
    }
}

pub fn manifest(release: &str) -> Manifest {
    let tensor = |name: &str| TensorSpec { name: name.into(), datatype: DataType::Fp32, shape: vec![] };
    Manifest {
        format: MANIFEST_FORMAT,
        release: release.parse().unwrap(),
        published_at: Timestamp(1),
        runtime: Runtime { format: "onnx".into(), opsets: BTreeMap::new(), operators: BTreeSet::new() },
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        model: artifact(&format!("model of {release}"), 20),
        golden: Golden {
            artifact: artifact(&format!("golden of {release}"), 1),
            cases: 1,
            tolerance: Tolerance::default(),
        },
        reference: None,
        drift: None,
        budgets: Budgets::default(),
        probation: ProbationPolicy::default(),
        lineage: Lineage::default(),
    }
}

/// Made-up bytes of `blocks` blocks.
pub fn artifact(name: &str, blocks: u32) -> Artifact {
    let size_bytes = u64::from(blocks) * 65_536;
    let table = (0..blocks).map(|i| Digest::of(format!("{name} {i}").as_bytes())).collect();
    let packed = Packed {
        encoding: Encoding::Zstd,
        digest: Digest::of(format!("packed {name}").as_bytes()),
        size_bytes,
        block_bytes: 65_536,
        blocks: table,
    };
    Artifact { digest: Digest::of(name.as_bytes()), size_bytes, packed }
}
