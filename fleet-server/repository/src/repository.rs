//! The repository's state: which releases are listed, and the newest signed files.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    Digest, ReleaseId, Timestamp,
    manifest::{InvalidManifest, MAX_MANIFEST_BYTES, Manifest},
    message::Assignment,
    trust::{KeyId, Listing, target_path},
};
use thiserror::Error;

use crate::{
    keys::{Keys, Role},
    metadata::{self, File, ROOT_LIFETIME, SNAPSHOT_LIFETIME, TARGETS_LIFETIME, TIMESTAMP_LIFETIME, Target},
};

/// Releases listed at once. A listing takes about 500 bytes, and a device reads at most 5 MB of targets.
pub const MAX_RELEASES: usize = 5_000;

/// Versions of targets and snapshot that stay available, so that a device that has just read the timestamp
/// still finds what it names while a release is published.
const KEPT_VERSIONS: usize = 4;

/// Why the repository did not change.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// The file is larger than a device reads.
    #[error("a manifest of {0} bytes; at most {MAX_MANIFEST_BYTES} are allowed")]
    TooLarge(u64),
    /// The file is no manifest.
    #[error("the manifest cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The manifest contradicts itself.
    #[error("the manifest of {0} is not usable")]
    Invalid(ReleaseId, #[source] InvalidManifest),
    /// A release never changes.
    #[error("{release} was published with manifest {listed}; a changed manifest needs a new version")]
    Published {
        /// Which release.
        release: ReleaseId,
        /// The digest of its manifest.
        listed: Digest,
    },
    /// There is no room in the targets metadata.
    #[error("{MAX_RELEASES} releases are listed; withdraw some before adding more")]
    Full,
    /// The release is not listed.
    #[error("{0} is not listed")]
    NotListed(ReleaseId),
    /// The keys are not those of the current root: devices would refuse what they sign.
    #[error("the private key of the role {0} is not the one that the root metadata names")]
    ForeignKey(Role),
}

/// The state of the image repository. Keep it durably before its files are served: a version that devices have
/// seen must never be signed again with other contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Key of each role, by the newest root.
    key_ids: BTreeMap<Role, KeyId>,
    /// Listed releases by path.
    releases: BTreeMap<String, Target>,
    /// Digests of releases that were taken off the list, by path: their names are spent.
    withdrawn: BTreeMap<String, Digest>,
    /// Number of the newest release.
    release_counter: u64,

    /// Every root, because a device may have slept through any number of them.
    roots: Line,
    targets: Line,
    snapshot: Line,
    timestamp: Line,
}

/// The signed files of one role, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    signed_at: Timestamp,
    kept: Vec<File>,
}

impl Repository {
    /// A repository without releases.
    #[must_use]
    pub fn create(keys: &Keys, now: Timestamp) -> Self {
        let mut repository = Self {
            key_ids: keys.ids(),
            releases: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            release_counter: 0,
            roots: Line::default(),
            targets: Line::default(),
            snapshot: Line::default(),
            timestamp: Line::default(),
        };
        repository.sign_root(keys, keys, now);
        repository.sign_targets(keys, now);
        repository
    }

    /// Lists a release by its manifest file and says how a director document names it. Listing the same file
    /// again changes nothing.
    ///
    /// # Errors
    /// When the manifest is unusable, its release is listed with another one, or the list is full.
    pub fn add_release(
        &mut self,
        keys: &Keys,
        manifest: &[u8],
        now: Timestamp,
    ) -> Result<Assignment, RepositoryError> {
        self.check_keys(keys)?;
        let (release, mut target) = inspect(manifest)?;
        let path = target_path(&release);
        let assignment = assignment(&release, &target);
        match self.digest_of(&path) {
            Some(listed) if listed != target.digest => {
                return Err(RepositoryError::Published { release, listed });
            }
            Some(_) if self.releases.contains_key(&path) => return Ok(assignment),
            _ if self.releases.len() >= MAX_RELEASES => return Err(RepositoryError::Full),
            _ => {}
        }
        self.release_counter += 1;
        target.listing.release_counter = self.release_counter;
        self.withdrawn.remove(&path);
        self.releases.insert(path, target);
        self.sign_targets(keys, now);
        Ok(assignment)
    }

    /// Takes a release off the list: no device installs it any more, whatever a director document says.
    ///
    /// # Errors
    /// When it is not listed.
    pub fn withdraw(
        &mut self,
        keys: &Keys,
        release: &ReleaseId,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        self.check_keys(keys)?;
        let path = target_path(release);
        let target =
            self.releases.remove(&path).ok_or_else(|| RepositoryError::NotListed(release.clone()))?;
        self.withdrawn.insert(path, target.digest);
        self.sign_targets(keys, now);
        Ok(())
    }

    /// Signs again what has lived half its life, and says whether anything was due.
    ///
    /// # Errors
    /// When the keys are not those of the current root.
    pub fn refresh(&mut self, keys: &Keys, now: Timestamp) -> Result<bool, RepositoryError> {
        self.check_keys(keys)?;
        let root_due = self.roots.is_due(ROOT_LIFETIME, now);
        if root_due {
            self.sign_root(keys, keys, now);
        }
        if self.targets.is_due(TARGETS_LIFETIME, now) {
            self.sign_targets(keys, now);
        } else if self.snapshot.is_due(SNAPSHOT_LIFETIME, now) {
            self.sign_snapshot(keys, now);
        } else if self.timestamp.is_due(TIMESTAMP_LIFETIME, now) {
            self.sign_timestamp(keys, now);
        } else {
            return Ok(root_due);
        }
        Ok(true)
    }

    /// When [`Repository::refresh`] has something to do next.
    #[must_use]
    pub fn next_refresh_at(&self) -> Timestamp {
        let roots = self.roots.due_at(ROOT_LIFETIME);
        let targets = self.targets.due_at(TARGETS_LIFETIME);
        let snapshot = self.snapshot.due_at(SNAPSHOT_LIFETIME);
        roots.min(targets).min(snapshot).min(self.timestamp.due_at(TIMESTAMP_LIFETIME))
    }

    /// Replaces the keys: the next root names `new` and is signed by the old root key and the new one.
    ///
    /// # Errors
    /// When `old` are not the keys of the current root.
    pub fn rotate(&mut self, old: &Keys, new: &Keys, now: Timestamp) -> Result<(), RepositoryError> {
        self.check_keys(old)?;
        self.key_ids = new.ids();
        self.sign_root(old, new, now);
        self.sign_targets(new, now);
        Ok(())
    }

    /// Every metadata file that a device may ask for, by name. The caller serves the manifests.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let versioned = [("root", &self.roots), ("targets", &self.targets), ("snapshot", &self.snapshot)];
        let mut files = BTreeMap::new();
        for (role, line) in versioned {
            let named =
                |file: &File| (format!("{}.{role}.json", file.version), file.text.clone().into_bytes());
            files.extend(line.kept.iter().map(named));
        }
        files.extend(
            self.timestamp.kept.last().map(|f| ("timestamp.json".into(), f.text.clone().into_bytes())),
        );
        files
    }

    /// The root metadata that a device gets when it is enrolled.
    #[must_use]
    pub fn trusted_root(&self) -> Vec<u8> {
        self.roots.newest().text.clone().into_bytes()
    }

    /// What a director document says to name a listed release.
    #[must_use]
    pub fn assignment(&self, release: &ReleaseId) -> Option<Assignment> {
        Some(assignment(release, self.releases.get(&target_path(release))?))
    }

    /// What is listed, in the order of the paths.
    pub fn listings(&self) -> impl Iterator<Item = &Listing> {
        self.releases.values().map(|target| &target.listing)
    }

    /// The manifest that ever had this path.
    fn digest_of(&self, path: &str) -> Option<Digest> {
        let listed = self.releases.get(path).map(|target| target.digest);
        listed.or_else(|| self.withdrawn.get(path).copied())
    }

    fn check_keys(&self, keys: &Keys) -> Result<(), RepositoryError> {
        let foreign = |role: &Role| self.key_ids.get(role) != Some(keys.signer(*role).id());
        Role::ALL.into_iter().find(foreign).map_or(Ok(()), |role| Err(RepositoryError::ForeignKey(role)))
    }

    fn sign_root(&mut self, old: &Keys, new: &Keys, now: Timestamp) {
        let mut signers = vec![new.signer(Role::Root)];
        if old.signer(Role::Root).id() != new.signer(Role::Root).id() {
            signers.insert(0, old.signer(Role::Root));
        }
        let file = metadata::root(self.roots.next_version(), new, &signers, now);
        self.roots.push(file, usize::MAX, now);
    }

    fn sign_targets(&mut self, keys: &Keys, now: Timestamp) {
        let file = metadata::targets(self.targets.next_version(), &self.releases, keys, now);
        self.targets.push(file, KEPT_VERSIONS, now);
        self.sign_snapshot(keys, now);
    }

    fn sign_snapshot(&mut self, keys: &Keys, now: Timestamp) {
        let file = metadata::snapshot(self.snapshot.next_version(), self.targets.newest(), keys, now);
        self.snapshot.push(file, KEPT_VERSIONS, now);
        self.sign_timestamp(keys, now);
    }

    fn sign_timestamp(&mut self, keys: &Keys, now: Timestamp) {
        let file = metadata::timestamp(self.timestamp.next_version(), self.snapshot.newest(), keys, now);
        self.timestamp.push(file, 1, now);
    }
}

impl Line {
    fn newest(&self) -> &File {
        self.kept.last().expect("creation signs every role before anything else is possible")
    }

    fn next_version(&self) -> u64 {
        self.kept.last().map_or(1, |file| file.version + 1)
    }

    fn push(&mut self, file: File, keep: usize, now: Timestamp) {
        self.kept.push(file);
        self.kept.drain(..self.kept.len().saturating_sub(keep));
        self.signed_at = now;
    }

    fn due_at(&self, lifetime: Duration) -> Timestamp {
        self.signed_at + lifetime / 2
    }

    /// Also due when it was signed later than now: the clock had been ahead, and devices wait for that moment.
    fn is_due(&self, lifetime: Duration, now: Timestamp) -> bool {
        now >= self.due_at(lifetime) || now < self.signed_at
    }
}

fn inspect(bytes: &[u8]) -> Result<(ReleaseId, Target), RepositoryError> {
    let size_bytes = bytes.len() as u64;
    if size_bytes > MAX_MANIFEST_BYTES {
        return Err(RepositoryError::TooLarge(size_bytes));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(RepositoryError::Unreadable)?;
    let release = manifest.release.clone();
    manifest.check().map_err(|error| RepositoryError::Invalid(release.clone(), error))?;
    let listing = Listing {
        model: release.model.clone(),
        version: release.version,
        release_counter: 0,
        model_digest: manifest.model.digest,
        model_size_bytes: manifest.model.size_bytes,
    };
    Ok((release, Target { digest: Digest::of(bytes), size_bytes, listing }))
}

fn assignment(release: &ReleaseId, target: &Target) -> Assignment {
    Assignment {
        release: release.clone(),
        manifest_digest: target.digest,
        manifest_size_bytes: target.size_bytes,
        retry: false,
        pinned: false,
    }
}
