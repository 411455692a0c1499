//! A fleet server in memory, a link that an attacker can bend, and a store that can break.
#![allow(clippy::unwrap_used, dead_code)] // helpers of tests; not every test file uses each

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use muster_repository::{Keys, Repository, Role, director};
use muster_trust::{
    Floors, MetadataSource, MetadataStore, SourceError, VerifiedDesired, Verifier, VerifyError,
};
use serde_json::{Value, json};
use shared::{
    DeviceId, Digest, Generation, Timestamp,
    message::{Assignment, DirectorDocument},
    trust::{Signed, Signer},
};

pub const NOW: Timestamp = Timestamp(1_800_000_000_000);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub fn keys(seed: u8) -> Keys {
    Keys::from_seeds(&seeds(seed))
}

pub fn seeds(seed: u8) -> [[u8; 32]; 5] {
    [[seed; 32], [seed + 1; 32], [seed + 2; 32], [seed + 3; 32], [seed + 4; 32]]
}

pub fn device() -> DeviceId {
    "d1".parse().unwrap()
}

/// The honest server: keys, repository and manifests.
pub struct Server {
    pub keys: Keys,
    pub repository: Repository,
    pub manifests: BTreeMap<String, Vec<u8>>,
    pub now: Timestamp,
}

impl Server {
    pub fn new() -> Self {
        Self::with_keys(keys(1))
    }

    pub fn with_keys(keys: Keys) -> Self {
        let repository = Repository::create(&keys, NOW);
        Self { keys, repository, manifests: BTreeMap::new(), now: NOW }
    }

    pub fn publish(&mut self, release: &str, salt: u8) -> Assignment {
        let bytes = manifest(release, salt);
        let path = format!("{}.json", release.replace('@', "/"));
        self.manifests.insert(path, bytes.clone());
        self.repository.add_release(&self.keys, &bytes, self.now).unwrap()
    }

    pub fn rotate(&mut self, new: Keys) {
        self.repository.rotate(&self.keys, &new, self.now).unwrap();
        self.keys = new;
    }

    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.repository.files();
        files.extend(self.manifests.clone());
        files
    }

    pub fn direct<'a>(
        &self,
        generation: u64,
        assignments: impl IntoIterator<Item = &'a Assignment>,
    ) -> Signed<DirectorDocument> {
        let assignments = assignments.into_iter().cloned().collect();
        director(&self.keys, device(), Generation(generation), assignments, self.now)
    }
}

/// A link whose files the test decides.
#[derive(Clone, Default)]
pub struct Link {
    pub files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    pub asked: Arc<Mutex<Vec<String>>>,
    pub cut: Arc<Mutex<bool>>,
    /// Files whose name has this in it do not come.
    pub fails_at: Arc<Mutex<Option<String>>>,
}

impl Link {
    pub fn serve(&self, files: BTreeMap<String, Vec<u8>>) {
        *self.files.lock().unwrap() = files;
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(name.into(), bytes);
    }

    /// Changes a file's document and signs it with `signers`.
    pub fn forge(&self, name: &str, signers: &[&Signer], edit: impl FnOnce(&mut Value)) {
        let mut files = self.files.lock().unwrap();
        let mut envelope: Value = serde_json::from_slice(&files[name]).unwrap();
        edit(&mut envelope["signed"]);
        let forged = Signed::sign(&envelope["signed"], signers).unwrap().to_vec();
        files.insert(name.into(), forged);
    }

    pub fn fail_at(&self, part: &str) {
        *self.fails_at.lock().unwrap() = Some(part.into());
    }

    pub fn cut(&self, cut: bool) {
        *self.cut.lock().unwrap() = cut;
    }
}

impl MetadataSource for Link {
    async fn fetch(&self, name: &str, _max_bytes: u64) -> Result<Option<Vec<u8>>, SourceError> {
        self.asked.lock().unwrap().push(name.into());
        let fails = self.fails_at.lock().unwrap().as_ref().is_some_and(|part| name.contains(part));
        if fails || *self.cut.lock().unwrap() {
            return Err(SourceError::Network { name: name.into(), cause: "cable cut".into() });
        }
        Ok(self.files.lock().unwrap().get(name).cloned())
    }
}

/// A store in memory that outlives a verifier and fails on demand.
#[derive(Clone, Default)]
pub struct Disk {
    pub files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    pub broken: Arc<Mutex<bool>>,
}

impl Disk {
    pub fn wipe(&self) {
        self.files.lock().unwrap().clear();
    }

    pub fn set_broken(&self, broken: bool) {
        *self.broken.lock().unwrap() = broken;
    }

    fn check(&self) -> io::Result<()> {
        if *self.broken.lock().unwrap() { Err(io::Error::other("bad sector")) } else { Ok(()) }
    }
}

impl MetadataStore for Disk {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.check()?;
        Ok(self.files.lock().unwrap().get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        self.files.lock().unwrap().insert(name.into(), bytes.to_vec());
        Ok(())
    }
}

/// A device with its link and its disk.
pub struct Device {
    pub link: Link,
    pub disk: Disk,
    pub verifier: Verifier<Link>,
}

impl Device {
    /// Enrolled with the newest root of `server`, and linked to it.
    pub fn enrolled(server: &Server) -> Self {
        let (link, disk) = (Link::default(), Disk::default());
        link.serve(server.files());
        let root = server.repository.trusted_root();
        let verifier =
            Verifier::new(device(), link.clone(), disk.clone(), Floors::default(), Some(&root)).unwrap();
        Self { link, disk, verifier }
    }

    /// The same device after a restart, with the floors of its ledger.
    pub fn restarted(self) -> Self {
        let floors = self.verifier.floors().clone();
        let verifier = Verifier::new(device(), self.link.clone(), self.disk.clone(), floors, None).unwrap();
        Self { verifier, ..self }
    }

    pub async fn verify(
        &mut self,
        document: Signed<DirectorDocument>,
        now: Timestamp,
    ) -> Result<VerifiedDesired, VerifyError> {
        self.verifier.verify_desired(document, now).await
    }
}

pub fn signer(keys: &Keys, role: Role) -> &Signer {
    keys.signer(role)
}

/// The error with everything behind it, as a person would read it.
pub fn chain(error: &VerifyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub fn manifest(release: &str, salt: u8) -> Vec<u8> {
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
