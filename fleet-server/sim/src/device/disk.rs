//! What survives a power cut: the ledger, manifests, artifacts and the blocks of partial ones.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{Agent, Installed, Ledger, Record};
use shared::{Digest, Generation, block::BlockMap, manifest::Manifest};

use crate::catalog::Published;

#[derive(Debug)]
pub(super) struct Disk {
    ledger: Ledger,
    revision: u64,
    pub(super) manifests: BTreeMap<Digest, Manifest>,
    pub(super) published: BTreeSet<Digest>,
    /// Blocks that are here, by the packed digest.
    pub(super) blocks: BTreeMap<Digest, BlockMap>,
}

impl Disk {
    /// An empty disk, or one of a device that keeps a release since its first desired state.
    pub(super) fn new(runs: Option<&Published>) -> Self {
        let mut disk = Self {
            ledger: Ledger::default(),
            revision: u64::MAX,
            manifests: BTreeMap::new(),
            published: BTreeSet::new(),
            blocks: BTreeMap::new(),
        };
        if let Some(published) = runs {
            disk.install(published);
        }
        disk
    }

    fn install(&mut self, published: &Published) {
        let manifest = &published.manifest;
        let installed = Installed {
            release: manifest.release.clone(),
            manifest: published.digest,
            model: manifest.model.digest,
            golden: manifest.golden.artifact.digest,
        };
        let record = Record { committed: Some(installed), ..Record::default() };
        self.ledger.generation = Generation(1);
        self.ledger.models.insert(manifest.release.model.clone(), record);
        self.manifests.insert(published.digest, manifest.clone());
        self.published.extend(manifest.artifacts().map(|(_, artifact)| artifact.digest));
    }

    /// Makes the ledger durable if it has changed.
    pub(super) fn save(&mut self, agent: &Agent) {
        if self.revision != agent.ledger_revision() {
            self.ledger = agent.ledger().clone();
            self.revision = agent.ledger_revision();
        }
    }

    /// What a start reads.
    pub(super) fn read(&self) -> (Ledger, Vec<(Digest, Manifest)>) {
        let held = |digest| Some((digest, self.manifests.get(&digest)?.clone()));
        (self.ledger.clone(), self.ledger.manifests().filter_map(held).collect())
    }

    /// The ledger as it comes back from its file.
    pub(super) fn read_again(&mut self) {
        let written = serde_json::to_vec(&self.ledger).expect("a ledger has a JSON form");
        self.ledger = serde_json::from_slice(&written).expect("what was written can be read");
        self.revision = u64::MAX;
    }

    pub(super) fn collect_garbage(&mut self, keep: &BTreeSet<Digest>) {
        self.published.retain(|digest| keep.contains(digest));
        self.blocks.retain(|digest, _| keep.contains(digest));
        self.manifests.retain(|digest, _| keep.contains(digest));
    }
}
