//! Made-up releases: manifests as a server would publish them, without the bytes of any model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use fleet_core::ReleaseNeeds;
use shared::{
    DeviceId, Digest, ReleaseId, Timestamp,
    artifact::{Artifact, Encoding, Packed},
    manifest::{
        Budgets, DataType, Golden, Lineage, MANIFEST_FORMAT, Manifest, ProbationPolicy, Runtime, TensorSpec,
        Tolerance,
    },
    message::Assignment,
    trust::{KeySet, Signed, Signer, Verified},
};

use crate::{nature::Nature, story::ReleaseStory};

/// Bytes of a block.
const BLOCK_BYTES: u32 = 65_536;

/// Every release that a story knows.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    releases: BTreeMap<ReleaseId, Published>,
}

/// One release.
#[derive(Debug, Clone)]
pub struct Published {
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest as it travels.
    pub bytes: Vec<u8>,
    /// The digest of these bytes.
    pub digest: Digest,
    /// How it behaves.
    pub nature: Nature,
    /// How it behaves on single devices.
    pub except: BTreeMap<DeviceId, Nature>,
}

impl Catalog {
    /// The releases of a story.
    #[must_use]
    pub fn new(releases: &[ReleaseStory]) -> Self {
        let published = |story: &ReleaseStory| (story.release.clone(), Published::new(story));
        Self { releases: releases.iter().map(published).collect() }
    }

    /// A release, if it was published.
    #[must_use]
    pub fn get(&self, release: &ReleaseId) -> Option<&Published> {
        self.releases.get(release)
    }

    /// The manifest file of this name, as it travels.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.releases
            .iter()
            .find(|(release, _)| file_name(release) == name)
            .map(|(_, it)| it.bytes.as_slice())
    }

    /// How a release behaves on a device; one that nobody published is good.
    #[must_use]
    pub fn nature(&self, release: &ReleaseId, device: &DeviceId) -> Nature {
        self.releases.get(release).map_or(Nature::Good, |it| it.nature_on(device))
    }

    /// True when the artifact of this packed digest is published.
    #[must_use]
    pub fn has_artifact(&self, packed: Digest) -> bool {
        self.packed(packed).is_some()
    }

    /// How an artifact travels.
    #[must_use]
    pub fn packed(&self, packed: Digest) -> Option<&Packed> {
        let artifacts = self.releases.values().flat_map(|it| it.manifest.artifacts());
        artifacts.map(|(_, artifact)| &artifact.packed).find(|it| it.digest == packed)
    }
}

impl Published {
    fn new(story: &ReleaseStory) -> Self {
        let manifest = manifest(story);
        let bytes = serde_json::to_vec(&manifest).expect("a manifest has a JSON form");
        let digest = Digest::of(&bytes);
        Self { manifest, bytes, digest, nature: story.nature, except: story.except.clone() }
    }

    /// How it behaves there.
    #[must_use]
    pub fn nature_on(&self, device: &DeviceId) -> Nature {
        self.except.get(device).copied().unwrap_or(self.nature)
    }

    /// What planning must know of it.
    #[must_use]
    pub fn needs(&self) -> ReleaseNeeds {
        ReleaseNeeds::of(&self.manifest)
    }

    /// What a desired state says of it.
    #[must_use]
    pub fn assignment(&self, retry: bool) -> Assignment {
        Assignment {
            release: self.manifest.release.clone(),
            manifest_digest: self.digest,
            manifest_size_bytes: self.bytes.len() as u64,
            retry,
            pinned: false,
        }
    }
}

/// The name under which a manifest is asked for.
#[must_use]
pub fn file_name(release: &ReleaseId) -> String {
    format!("{}/{}.json", release.model, release.version)
}

/// Makes a value count as verified, as the server of a simulation vouches for what it says. Signatures are the business
/// of other tests.
///
/// # Panics
/// Never: what is signed here is a number.
#[must_use]
pub fn vouched<T>(value: T) -> Verified<T> {
    static SEAL: OnceLock<Verified<u32>> = OnceLock::new();
    let seal = SEAL.get_or_init(|| {
        let signer = Signer::from_seed(&[1; 32]);
        let signed = Signed::sign(&0_u32, &[&signer]).expect("a number has a canonical form");
        signed.verify(&KeySet::single(signer.public().clone())).expect("its own key verifies it")
    });
    let value = std::cell::Cell::new(Some(value));
    seal.project(|_| value.take().expect("a projection runs once"))
}

fn manifest(story: &ReleaseStory) -> Manifest {
    let tensor = |name: &str| TensorSpec { name: name.into(), datatype: DataType::Fp32, shape: vec![] };
    let name = &story.release;
    let probation = ProbationPolicy {
        duration_secs: story.probation_secs,
        min_inferences: story.min_inferences,
        ..ProbationPolicy::default()
    };
    Manifest {
        format: MANIFEST_FORMAT,
        release: name.clone(),
        published_at: Timestamp(1),
        runtime: Runtime { format: "onnx".into(), opsets: BTreeMap::new(), operators: BTreeSet::new() },
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        model: artifact(&format!("model of {name}"), story.blocks.max(1), story.size_mib),
        golden: Golden {
            artifact: artifact(&format!("golden of {name}"), 1, 0),
            cases: 1,
            tolerance: Tolerance::default(),
        },
        reference: None,
        drift: None,
        budgets: Budgets::default(),
        probation,
        lineage: Lineage::default(),
    }
}

fn artifact(name: &str, blocks: u32, size_mib: u64) -> Artifact {
    let packed_bytes = u64::from(blocks) * u64::from(BLOCK_BYTES);
    let packed = Packed {
        encoding: Encoding::Zstd,
        digest: Digest::of(format!("packed {name}").as_bytes()),
        size_bytes: packed_bytes,
        block_bytes: BLOCK_BYTES,
        blocks: (0..blocks).map(|block| Digest::of(format!("{name} {block}").as_bytes())).collect(),
    };
    let size_bytes = packed_bytes.max(size_mib * 1_024 * 1_024);
    Artifact { digest: Digest::of(name.as_bytes()), size_bytes, packed }
}
