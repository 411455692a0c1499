//! From a signed desired state to manifests that may be installed, in this order: bring the image metadata up to
//! date, hold it against the floors, open the director document with the keys of the newest root, then compare
//! release by release.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use shared::{
    DeviceId, Digest, Generation, ModelName, ReleaseId, Timestamp,
    challenger::{Challenger, ChallengersDocument, MAX_CHALLENGERS},
    manifest::{MAX_MANIFEST_BYTES, Manifest},
    message::{Assignment, DirectorDocument, LimitsDocument},
    trust::{KeySet, Listing, Signed, TrustError, Verified, target_path},
};
use sigstore_tuf::{TargetFile, Updater, UpdaterConfig};

use crate::{
    crypto::install_crypto,
    error::{Refusal, Retryable, StoreError, Untrusted, VerifyError, classify, of_source},
    floors::{Floors, Seen},
    source::{self, MetadataSource, fetch_bounded},
    store::{self, Latch, MetadataStore},
};

/// Releases that one device runs. Each may bring a manifest of 4 MiB into memory.
pub const MAX_ASSIGNMENTS: usize = 32;

/// How far the clock of a device may be behind the server's: a wrong time zone passes, a clock that was never
/// set does not, because to it nothing would ever look expired.
pub const MAX_CLOCK_LAG: Duration = Duration::from_secs(86_400);

/// Roots walked in one refresh: a device may sleep for many years, and the next refresh goes on where this ended.
const MAX_ROOT_ROTATIONS: u32 = 1_024;

/// A root of a few dozen keys, RSA ones included.
const MAX_ROOT_BYTES: u64 = 256 * 1_024;

/// A timestamp names one file.
const MAX_TIMESTAMP_BYTES: u64 = 16 * 1_024;

/// A snapshot names one file for each delegation.
const MAX_SNAPSHOT_BYTES: u64 = 1_024 * 1_024;

/// Some five thousand releases and more.
const MAX_TARGETS_BYTES: u64 = 5 * 1_024 * 1_024;

/// Delegations looked at for one release.
const MAX_DELEGATIONS: u32 = 32;

/// A desired state that the director signed for this device.
#[derive(Debug)]
pub struct VerifiedDesired {
    /// The director document.
    pub director: Verified<DirectorDocument>,
    /// Releases that both sides name identically, with their manifests.
    pub manifests: Vec<(Assignment, Verified<Manifest>)>,
    /// Releases that are not installed, and why.
    pub refused: Vec<(Assignment, Refusal)>,
    /// The new floors; they belong in the ledger before anything is activated.
    pub floors: Floors,
}

/// Challengers that the director signed for this device.
#[derive(Debug)]
pub struct VerifiedChallengers {
    /// The director's word.
    pub document: Verified<ChallengersDocument>,
    /// Challengers that both sides name identically, with their manifests.
    pub manifests: Vec<(Challenger, Verified<Manifest>)>,
    /// Challengers that are not run, and why.
    pub refused: Vec<(Challenger, Refusal)>,
}

/// What the newest verified image metadata says of a release, however old that metadata is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is listed with this manifest.
    Listed,
    /// It is not: the device must not go back to it.
    Withdrawn,
    /// No metadata was verified since the start of the agent, or it leaves the answer to a delegation.
    Unknown,
}

/// Verifies desired states. It keeps what it has learnt, so one verifier serves as long as the agent runs.
pub struct Verifier<S> {
    device: DeviceId,
    source: Arc<S>,
    updater: Updater,
    latch: Latch,
    floors: Floors,
    /// Manifests of the newest desired state, by digest.
    manifests: BTreeMap<Digest, Verified<Manifest>>,
}

impl<S: MetadataSource + 'static> Verifier<S> {
    /// A verifier that starts from the root in `store`, or from `enrolled_root` when the device was just
    /// enrolled: that one replaces what the store holds, and a device that is enrolled with another server begins
    /// with default floors.
    ///
    /// # Errors
    /// When there is no usable root, or the store fails.
    pub fn new<M: MetadataStore + 'static>(
        device: DeviceId,
        source: S,
        store: M,
        floors: Floors,
        enrolled_root: Option<&[u8]>,
    ) -> Result<Self, VerifyError> {
        install_crypto();
        let root = match enrolled_root {
            Some(root) => root.to_vec(),
            None => stored_root(&store)?,
        };
        let (source, latch) = (Arc::new(source), Latch::default());
        let updater = Updater::new(source::Adapter(Arc::clone(&source)), &root)
            .map_err(|error| Untrusted::TrustedRoot(Box::new(error)))?
            .with_config(limits())
            .with_store(store::Adapter { store, latch: latch.clone() });
        latch.check()?;
        Ok(Self { device, source, updater, latch, floors, manifests: BTreeMap::new() })
    }

    /// The floors as they are now; after an error, too, they may be higher than before.
    #[must_use]
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// Verifies a desired state at `now`, the trusted time: the latest of the system's clock, the time of the
    /// build and the floor.
    ///
    /// # Errors
    /// When nothing of it may be installed; the class of the error tells whether asking again can help.
    pub async fn verify_desired(
        &mut self,
        signed: Signed<DirectorDocument>,
        now: Timestamp,
    ) -> Result<VerifiedDesired, VerifyError> {
        let keys = self.update(now).await?;
        let now = now.max(self.floors.time);
        let director = self.open(signed, &keys, now)?;
        let (mut manifests, mut refused) = (Vec::new(), Vec::new());
        for (i, assignment) in director.assignments.iter().enumerate() {
            let digest = director.project(|document| document.assignments[i].manifest_digest);
            match self.judge(assignment, &digest, now).await {
                Ok(manifest) => manifests.push((assignment.clone(), manifest)),
                Err(Stop::Release(refusal)) => refused.push((assignment.clone(), refusal)),
                Err(Stop::All(error)) => return Err(error),
            }
        }
        self.manifests =
            manifests.iter().map(|(a, manifest)| (a.manifest_digest, manifest.clone())).collect();
        self.floors.generation = director.generation;
        Ok(VerifiedDesired { director, manifests, refused, floors: self.floors.clone() })
    }

    /// Verifies a document of challengers at `now`, by the rules of a desired state: a challenger is a release that is
    /// brought onto the device and run. Older revisions are for the caller to refuse, who knows the newest.
    ///
    /// # Errors
    /// As [`Verifier::verify_desired`].
    pub async fn verify_challengers(
        &mut self,
        signed: Signed<ChallengersDocument>,
        now: Timestamp,
    ) -> Result<VerifiedChallengers, VerifyError> {
        let keys = self.update(now).await?;
        let now = now.max(self.floors.time);
        let document = signed.verify(&keys).map_err(Untrusted::Director)?;
        self.check_challengers(&document, now)?;
        let (mut manifests, mut refused) = (Vec::new(), Vec::new());
        for (i, challenger) in document.challengers.iter().enumerate() {
            let digest = document.project(|document| document.challengers[i].manifest_digest);
            match self.judge(&as_assignment(challenger), &digest, now).await {
                Ok(manifest) => manifests.push((challenger.clone(), manifest)),
                Err(Stop::Release(refusal)) => refused.push((challenger.clone(), refusal)),
                Err(Stop::All(error @ VerifyError::Store(_))) => return Err(error),
                // What the document ends, it ends by its signature: one challenger that cannot be had is no reason
                // to let another run on.
                Err(Stop::All(error)) => refused.push((challenger.clone(), unavailable(challenger, &error))),
            }
        }
        Ok(VerifiedChallengers { document, manifests, refused })
    }

    fn check_challengers(&self, document: &ChallengersDocument, now: Timestamp) -> Result<(), VerifyError> {
        if document.device != self.device {
            let found = document.device.clone();
            return Err(Untrusted::WrongDevice { expected: self.device.clone(), found }.into());
        }
        if document.challengers.len() > MAX_CHALLENGERS {
            return Err(Untrusted::TooManyAssignments(document.challengers.len()).into());
        }
        check_models(document.challengers.iter().map(|challenger| &challenger.release.model))?;
        if document.expires_at < now {
            let (role, expires_at) = ("challengers".into(), document.expires_at);
            return Err(Retryable::Expired { role, expires_at, device_time: now }.into());
        }
        Ok(())
    }

    /// Opens a limits document with the director's keys of the newest root that is here; nothing is fetched.
    ///
    /// # Errors
    /// When it is not signed by them, or is for another device.
    pub fn verify_limits(
        &self,
        signed: Signed<LimitsDocument>,
    ) -> Result<Verified<LimitsDocument>, VerifyError> {
        let keys = Seen::of(self.updater.trusted())?.director;
        let document = signed.verify(&keys).map_err(Untrusted::Director)?;
        if document.device != self.device {
            let found = document.device.clone();
            return Err(Untrusted::WrongDevice { expected: self.device.clone(), found }.into());
        }
        Ok(document)
    }

    /// Brings the image metadata up to date.
    ///
    /// # Errors
    /// As [`Verifier::verify_desired`].
    pub async fn refresh(&mut self, now: Timestamp) -> Result<(), VerifyError> {
        self.update(now).await.map(|_| ())
    }

    /// Whether a device that goes back may go back to `release`. Freshness does not matter here: going back must
    /// work without a network.
    #[must_use]
    pub fn standing(&self, release: &ReleaseId, manifest_digest: &Digest) -> Standing {
        let Some(targets) = self.updater.trusted().targets_role("targets") else {
            return Standing::Unknown;
        };
        match targets.target(&target_path(release)) {
            Some(target) if digest_of(target) == Some(*manifest_digest) => Standing::Listed,
            None if targets.delegations.is_some() => Standing::Unknown,
            Some(_) | None => Standing::Withdrawn,
        }
    }

    /// The director's keys by the newest root.
    async fn update(&mut self, now: Timestamp) -> Result<KeySet, VerifyError> {
        self.latch.check()?;
        let now = now.max(self.floors.time);
        let refreshed = self.updater.refresh(instant(now)).await;
        self.latch.check()?;
        refreshed.map_err(|error| classify(error, now))?;
        let seen = Seen::of(self.updater.trusted())?;
        check_clock(seen.signed_at, now)?;
        self.floors = self.floors.raised(&seen, now)?;
        Ok(seen.director)
    }

    fn open(
        &self,
        signed: Signed<DirectorDocument>,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<Verified<DirectorDocument>, VerifyError> {
        let document = signed.verify(keys).map_err(Untrusted::Director)?;
        self.check_addressee(&document)?;
        check_assignments(&document.assignments)?;
        if document.expires_at < now {
            let (role, expires_at) = ("director".into(), document.expires_at);
            return Err(Retryable::Expired { role, expires_at, device_time: now }.into());
        }
        Ok(document)
    }

    fn check_addressee(&self, document: &DirectorDocument) -> Result<(), Untrusted> {
        let Generation(floor) = self.floors.generation;
        if document.spec_version.split('.').next() != Some("1") {
            return Err(Untrusted::DirectorVersion(document.spec_version.chars().take(16).collect()));
        }
        if document.device != self.device {
            let found = document.device.clone();
            return Err(Untrusted::WrongDevice { expected: self.device.clone(), found });
        }
        if document.generation < Generation(floor) {
            return Err(Untrusted::OldGeneration { floor: Generation(floor), found: document.generation });
        }
        Ok(())
    }

    /// One release: listed identically, then its manifest.
    async fn judge(
        &mut self,
        assignment: &Assignment,
        digest: &Verified<Digest>,
        now: Timestamp,
    ) -> Result<Verified<Manifest>, Stop> {
        let listing = self.listing(assignment, now).await?;
        let manifest = match self.manifests.get(&assignment.manifest_digest) {
            Some(manifest) => manifest.clone(),
            None => self.manifest(assignment, digest).await?,
        };
        check_manifest(&manifest, assignment, &listing)?;
        Ok(manifest)
    }

    async fn listing(&mut self, assignment: &Assignment, now: Timestamp) -> Result<Listing, Stop> {
        let path = target_path(&assignment.release);
        let found = self.updater.get_target_info(&path, instant(now)).await;
        self.latch.check()?;
        let target = found.map_err(|error| classify(error, now))?;
        match target {
            Some(target) => Ok(compare(&target, assignment, path)?),
            None => Err(Refusal::NotListed { path }.into()),
        }
    }

    async fn manifest(
        &self,
        assignment: &Assignment,
        digest: &Verified<Digest>,
    ) -> Result<Verified<Manifest>, Stop> {
        let (path, size_bytes) = (target_path(&assignment.release), assignment.manifest_size_bytes);
        if size_bytes > MAX_MANIFEST_BYTES {
            let detail = format!("a manifest of {size_bytes} bytes; at most {MAX_MANIFEST_BYTES} are read");
            return Err(Refusal::BadManifest { detail }.into());
        }
        match fetch_bounded(&*self.source, &path, size_bytes).await.map_err(of_source)? {
            None => Err(Refusal::Unavailable { path, detail: "the source has no such file".into() }.into()),
            Some(bytes) => Verified::by_digest(&bytes, digest).map_err(|error| unusable(path, &error).into()),
        }
    }
}

impl<S> fmt::Debug for Verifier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("device", &self.device).field("floors", &self.floors).finish()
    }
}

/// What ends the look at a release: its own fault, or one that all share.
enum Stop {
    Release(Refusal),
    All(VerifyError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Release(refusal)
    }
}

impl From<VerifyError> for Stop {
    fn from(error: VerifyError) -> Self {
        Self::All(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::All(error.into())
    }
}

fn stored_root<M: MetadataStore>(store: &M) -> Result<Vec<u8>, VerifyError> {
    let file = "root.json";
    let held = store.load(file).map_err(|cause| StoreError { file: file.into(), cause: Arc::new(cause) })?;
    Ok(held.ok_or(Untrusted::NoTrustedRoot)?)
}

fn limits() -> UpdaterConfig {
    let mut limits = UpdaterConfig::default();
    limits.root_max_length = MAX_ROOT_BYTES;
    limits.timestamp_max_length = MAX_TIMESTAMP_BYTES;
    limits.snapshot_max_length = MAX_SNAPSHOT_BYTES;
    limits.targets_max_length = MAX_TARGETS_BYTES;
    limits.target_max_length = MAX_MANIFEST_BYTES;
    limits.max_root_rotations = MAX_ROOT_ROTATIONS;
    limits.max_delegations = MAX_DELEGATIONS;
    limits
}

/// A moment as the metadata library wants it; what lies beyond every calendar is the end of the calendar.
fn instant(at: Timestamp) -> jiff::Timestamp {
    let moment = i64::try_from(at.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.unwrap_or(jiff::Timestamp::MAX)
}

fn check_clock(signed_at: Option<Timestamp>, now: Timestamp) -> Result<(), Retryable> {
    match signed_at {
        Some(signed_at) if signed_at > now + MAX_CLOCK_LAG => {
            Err(Retryable::ClockBehind { signed_at, device_time: now })
        }
        Some(_) | None => Ok(()),
    }
}

fn check_assignments(assignments: &[Assignment]) -> Result<(), Untrusted> {
    if assignments.len() > MAX_ASSIGNMENTS {
        return Err(Untrusted::TooManyAssignments(assignments.len()));
    }
    check_models(assignments.iter().map(|assignment| &assignment.release.model))
}

fn check_models<'a>(mut named: impl Iterator<Item = &'a ModelName>) -> Result<(), Untrusted> {
    let mut models = BTreeSet::new();
    match named.find(|model| !models.insert(*model)) {
        Some(twice) => Err(Untrusted::AmbiguousModel(twice.clone())),
        None => Ok(()),
    }
}

/// What must hold of a release that shall run is the same whether anyone hears its answers.
fn unavailable(challenger: &Challenger, error: &VerifyError) -> Refusal {
    Refusal::Unavailable { path: target_path(&challenger.release), detail: error.to_string() }
}

fn as_assignment(challenger: &Challenger) -> Assignment {
    Assignment {
        release: challenger.release.clone(),
        manifest_digest: challenger.manifest_digest,
        manifest_size_bytes: challenger.manifest_size_bytes,
        retry: false,
        pinned: false,
    }
}

/// The listing, if it says what the director says.
fn compare(target: &TargetFile, assignment: &Assignment, path: String) -> Result<Listing, Refusal> {
    let named = (assignment.manifest_digest, assignment.manifest_size_bytes);
    if digest_of(target) != Some(named.0) || target.length != named.1 {
        let listed = target.hashes.get("sha256").map_or("no SHA-256 digest", String::as_str);
        let (listed, listed_bytes) = (listed.chars().take(64).collect(), target.length);
        return Err(Refusal::Differs { path, named: named.0, named_bytes: named.1, listed, listed_bytes });
    }
    let custom = target.custom.clone().unwrap_or_default();
    let listing: Listing = match serde_json::from_value(custom) {
        Ok(listing) => listing,
        Err(error) => return Err(Refusal::BadListing { path, detail: error.to_string() }),
    };
    if listing.model != assignment.release.model || listing.version != assignment.release.version {
        let detail = format!("it describes {}@{}", listing.model, listing.version);
        return Err(Refusal::BadListing { path, detail });
    }
    Ok(listing)
}

fn digest_of(target: &TargetFile) -> Option<Digest> {
    target.hashes.get("sha256")?.parse().ok()
}

fn check_manifest(manifest: &Manifest, assignment: &Assignment, listing: &Listing) -> Result<(), Refusal> {
    let bad = |detail| Err(Refusal::BadManifest { detail });
    // What is watched for drift is looked at when it is loaded: it may be left out, and the model runs.
    if let Err(error) = manifest.check_model() {
        return bad(error.to_string());
    }
    if manifest.release != assignment.release {
        return bad(format!("it describes {}, not {}", manifest.release, assignment.release));
    }
    let model = &manifest.model;
    if (model.digest, model.size_bytes) != (listing.model_digest, listing.model_size_bytes) {
        return bad("its model is not the one that the image repository lists".into());
    }
    Ok(())
}

fn unusable(path: String, error: &TrustError) -> Refusal {
    match error {
        TrustError::WrongDigest { .. } => Refusal::Unavailable { path, detail: error.to_string() },
        TrustError::Malformed(cause) => Refusal::BadManifest { detail: format!("{error}: {cause}") },
        other => Refusal::BadManifest { detail: other.to_string() },
    }
}
