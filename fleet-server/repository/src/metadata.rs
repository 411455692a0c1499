//! The documents of each role, and how long they live.
//!
//! A document is signed again at half its life. So a device whose clock is off by a day still finds every role
//! fresh, and a server that was down over a weekend comes back before anything expired.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use shared::{
    DeviceId, Digest, Generation, Timestamp,
    challenger::{Challenger, ChallengersDocument, ChallengersKind},
    message::{Assignment, DirectorDocument, DirectorKind, Limits, LimitsDocument, LimitsKind},
    trust::{DIRECTOR_MEMBER, KeySet, Listing, SIGNED_AT_MEMBER, SPEC_VERSION, Signed, Signer},
};

use crate::keys::{Keys, Role};

const DAY: Duration = Duration::from_secs(86_400);

/// Two years: long enough for keys that people hold, short enough that a lost root does not count for ever.
pub const ROOT_LIFETIME: Duration = DAY.saturating_mul(730);

/// Ninety days: a withdrawn release is forgotten by every device within a season, even by one that is cut off.
pub const TARGETS_LIFETIME: Duration = DAY.saturating_mul(90);

/// Thirty days: between targets and timestamp.
pub const SNAPSHOT_LIFETIME: Duration = DAY.saturating_mul(30);

/// Three days: how long somebody between server and device can hold back news without being noticed.
pub const TIMESTAMP_LIFETIME: Duration = DAY.saturating_mul(3);

/// Seven days: how long a device may begin what it was told to run. What it runs already, it goes on running.
pub const DIRECTOR_LIFETIME: Duration = DAY.saturating_mul(7);

/// A signed file and the facts that other files say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct File {
    pub(crate) version: u64,
    pub(crate) text: String,
}

impl File {
    /// `{"version", "length", "hashes"}`, as snapshot and timestamp list it.
    fn described(&self) -> Value {
        let sha256 = Digest::of(self.text.as_bytes()).to_string();
        json!({"version": self.version, "length": self.text.len(), "hashes": {"sha256": sha256}})
    }
}

/// One target: a manifest's length, digest and listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct Target {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    pub(crate) listing: Listing,
}

/// Root metadata that gives each role its key of `keys`, signed by those of `signers`.
pub(crate) fn root(version: u64, keys: &Keys, signers: &[&Signer], now: Timestamp) -> File {
    let tuf = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];
    let listed: Map<_, _> =
        tuf.iter().map(|&role| (keys.signer(role).id().clone(), json!(keys.signer(role).public()))).collect();
    let roles: Map<_, _> = tuf
        .iter()
        .map(|&role| (role.name().into(), json!({"keyids": [keys.signer(role).id()], "threshold": 1})))
        .collect();
    let director = KeySet::single(keys.signer(Role::Director).public().clone());
    let members = json!({
        "consistent_snapshot": true,
        "keys": listed,
        "roles": roles,
        DIRECTOR_MEMBER: director,
    });
    seal(Role::Root, version, now, ROOT_LIFETIME, members, signers)
}

/// Targets metadata that lists `releases`.
pub(crate) fn targets(
    version: u64,
    releases: &BTreeMap<String, Target>,
    keys: &Keys,
    now: Timestamp,
) -> File {
    let listed: Map<_, _> = releases
        .iter()
        .map(|(path, target)| {
            let hashes = json!({"sha256": target.digest});
            (path.clone(), json!({"length": target.size_bytes, "hashes": hashes, "custom": target.listing}))
        })
        .collect();
    let signers = [keys.signer(Role::Targets)];
    seal(Role::Targets, version, now, TARGETS_LIFETIME, json!({"targets": listed}), &signers)
}

/// Snapshot metadata that names one version of the targets.
pub(crate) fn snapshot(version: u64, targets: &File, keys: &Keys, now: Timestamp) -> File {
    let members = json!({"meta": {"targets.json": targets.described()}});
    seal(Role::Snapshot, version, now, SNAPSHOT_LIFETIME, members, &[keys.signer(Role::Snapshot)])
}

/// Timestamp metadata that names one snapshot and says when that was.
pub(crate) fn timestamp(version: u64, snapshot: &File, keys: &Keys, now: Timestamp) -> File {
    let members = json!({
        "meta": {"snapshot.json": snapshot.described()},
        SIGNED_AT_MEMBER: now.as_millis(),
    });
    seal(Role::Timestamp, version, now, TIMESTAMP_LIFETIME, members, &[keys.signer(Role::Timestamp)])
}

/// Tells `device` what to run. Each model may appear once.
///
/// # Panics
/// Never: a director document holds text and integers, which always have a canonical form.
#[must_use]
pub fn director(
    keys: &Keys,
    device: DeviceId,
    generation: Generation,
    assignments: Vec<Assignment>,
    now: Timestamp,
) -> Signed<DirectorDocument> {
    let document = DirectorDocument {
        kind: DirectorKind::Director,
        spec_version: SPEC_VERSION.into(),
        device,
        generation,
        expires_at: now + DIRECTOR_LIFETIME,
        assignments,
        maintenance: None,
        quarantine: None,
    };
    sign(&document, &[keys.signer(Role::Director)])
}

/// Tells `device` which challengers to run. Each model may appear once.
///
/// # Panics
/// Never: a document of challengers holds text and integers, which always have a canonical form.
#[must_use]
pub fn challengers(
    keys: &Keys,
    device: DeviceId,
    revision: u64,
    challengers: Vec<Challenger>,
    now: Timestamp,
) -> Signed<ChallengersDocument> {
    let expires_at = now + DIRECTOR_LIFETIME;
    let kind = ChallengersKind::Challengers;
    let document = ChallengersDocument { kind, device, revision, expires_at, challengers };
    sign(&document, &[keys.signer(Role::Director)])
}

/// Tells `device` what it may spend.
///
/// # Panics
/// Never: a limits document holds text and integers, which always have a canonical form.
#[must_use]
pub fn limits(keys: &Keys, device: DeviceId, limits: Limits) -> Signed<LimitsDocument> {
    let document = LimitsDocument { kind: LimitsKind::Limits, device, limits };
    sign(&document, &[keys.signer(Role::Director)])
}

fn seal(
    role: Role,
    version: u64,
    now: Timestamp,
    lifetime: Duration,
    members: Value,
    signers: &[&Signer],
) -> File {
    let mut document = json!({
        "_type": role.name(),
        "spec_version": SPEC_VERSION,
        "version": version,
        "expires": date(now + lifetime),
    });
    if let (Some(document), Value::Object(members)) = (document.as_object_mut(), members) {
        document.extend(members);
    }
    let bytes = sign(&document, signers).to_vec();
    File { version, text: String::from_utf8(bytes).expect("JSON is UTF-8") }
}

fn sign<T: Serialize + DeserializeOwned>(document: &T, signers: &[&Signer]) -> Signed<T> {
    Signed::sign(document, signers).expect("metadata holds text and integers, which have a canonical form")
}

/// A moment as TUF writes it, `2026-01-31T00:00:00Z`; the latest that a calendar knows if it lies beyond.
fn date(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_millis() / 1_000).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
