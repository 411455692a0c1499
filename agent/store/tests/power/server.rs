//! The other side: models whose bytes exist, and desired states that count as verified.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    DeviceId, Digest, Generation, ReleaseId, Timestamp,
    artifact::{Artifact, Encoding, Packed},
    manifest::{
        Budgets, DataType, Golden, Lineage, MANIFEST_FORMAT, Manifest, ProbationPolicy, Runtime, TensorSpec,
        Tolerance,
    },
    message::{Assignment, DirectorDocument, DirectorKind},
    trust::{KeySet, Signed, Signer, Verified},
};

/// Small blocks: an artifact of some kilobytes has several.
const BLOCK: usize = 1_024;

/// How a version behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    Good,
    FailsTrial,
    FailsToLoad,
    KillsRunner,
    FailsInferences,
}

/// A release with all its bytes.
pub struct Release {
    pub manifest: Manifest,
    pub json: Vec<u8>,
    pub digest: Digest,
    pub nature: Nature,
}

/// What was published, and what the device shall run.
pub struct Server {
    pub releases: BTreeMap<ReleaseId, Release>,
    /// Packed bytes by packed digest.
    pub packed: BTreeMap<Digest, Vec<u8>>,
    pub generation: Generation,
    pub desired: Vec<ReleaseId>,
}

pub const MODELS: [&str; 3] = ["digits", "faces", "noise"];
pub const VERSIONS: u32 = 4;

pub fn device_id() -> DeviceId {
    DeviceId::new("d1").unwrap()
}

impl Server {
    pub fn new(nature: impl Fn(&str, u32) -> Nature) -> Self {
        let none = Generation::default();
        let mut server = Self {
            releases: BTreeMap::new(),
            packed: BTreeMap::new(),
            generation: none,
            desired: Vec::new(),
        };
        for model in MODELS {
            for version in 1..=VERSIONS {
                server.publish(model, version, nature(model, version));
            }
        }
        server
    }

    fn publish(&mut self, model: &str, version: u32, nature: Nature) {
        let release: ReleaseId = format!("{model}@{version}").parse().unwrap();
        let encoding = if version.is_multiple_of(2) { Encoding::Stored } else { Encoding::Zstd };
        let main = self.artifact(&format!("{model} {version}"), 2_500, encoding);
        // Versions of a model share their golden vectors, so the store often has them.
        let golden = self.artifact(&format!("golden of {model}"), 300, Encoding::Stored);
        let manifest = manifest(release.clone(), main, golden);
        let json = serde_json::to_vec(&manifest).unwrap();
        let digest = Digest::of(&json);
        self.releases.insert(release, Release { manifest, json, digest, nature });
    }

    fn artifact(&mut self, name: &str, size: usize, encoding: Encoding) -> Artifact {
        let bytes = noise(name, size);
        let packed = match encoding {
            Encoding::Stored => bytes.clone(),
            Encoding::Zstd => zstd::encode_all(bytes.as_slice(), 1).unwrap(),
        };
        let description = Packed {
            encoding,
            digest: Digest::of(&packed),
            size_bytes: packed.len() as u64,
            block_bytes: BLOCK as u32,
            blocks: packed.chunks(BLOCK).map(Digest::of).collect(),
        };
        self.packed.insert(description.digest, packed);
        Artifact { digest: Digest::of(&bytes), size_bytes: bytes.len() as u64, packed: description }
    }

    pub fn block(&self, packed: Digest, index: u32) -> &[u8] {
        self.packed[&packed].chunks(BLOCK).nth(index as usize).unwrap()
    }

    /// Another desired state.
    pub fn desire(&mut self, releases: Vec<ReleaseId>) {
        self.generation = self.generation.next();
        self.desired = releases;
    }

    pub fn director(&self) -> DirectorDocument {
        DirectorDocument {
            kind: DirectorKind::Director,
            spec_version: "1.0.31".into(),
            device: device_id(),
            generation: self.generation,
            expires_at: Timestamp(u64::MAX),
            maintenance: None,
            quarantine: None,
            assignments: self.desired.iter().map(|release| self.assignment(release)).collect(),
        }
    }

    pub fn assignment(&self, release: &ReleaseId) -> Assignment {
        let Release { json, digest, .. } = &self.releases[release];
        let (release, manifest_digest) = (release.clone(), *digest);
        let manifest_size_bytes = json.len() as u64;
        Assignment { release, manifest_digest, manifest_size_bytes, retry: false, pinned: false }
    }

    /// True when this is the digest of something that was published.
    pub fn signed(&self, digest: &Digest) -> bool {
        self.releases.values().any(|release| {
            let manifest = &release.manifest;
            [release.digest, manifest.model.digest, manifest.golden.artifact.digest].contains(digest)
        })
    }
}

pub fn verified<T>(value: T) -> Verified<T> {
    let signer = Signer::from_seed(&[1; 32]);
    let seal = Signed::sign(&0_u32, &[&signer]).unwrap();
    let value = std::cell::Cell::new(Some(value));
    let seal = seal.verify(&KeySet::single(signer.public().clone())).unwrap();
    seal.project(|_| value.take().unwrap())
}

/// Bytes that do not compress, so that there are several blocks.
fn noise(name: &str, size: usize) -> Vec<u8> {
    let chunks = (0..).flat_map(|index: u32| *Digest::of(format!("{name} {index}").as_bytes()).as_bytes());
    chunks.take(size).collect()
}

fn manifest(release: ReleaseId, model: Artifact, golden: Artifact) -> Manifest {
    let tensor = |name: &str| TensorSpec { name: name.into(), datatype: DataType::Fp32, shape: vec![] };
    Manifest {
        format: MANIFEST_FORMAT,
        release,
        published_at: Timestamp(1),
        runtime: Runtime { format: "onnx".into(), opsets: BTreeMap::new(), operators: BTreeSet::new() },
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        model,
        golden: Golden { artifact: golden, cases: 1, tolerance: Tolerance::default() },
        reference: None,
        drift: None,
        budgets: Budgets::default(),
        probation: ProbationPolicy::default(),
        lineage: Lineage::default(),
    }
}
