//! The versions below which this device never goes again, kept apart from the metadata itself.
//!
//! The metadata store protects against old metadata only while it is whole. The agent keeps these numbers in its
//! ledger as well: whatever is verified later must not lie below them.
//!
//! There is one way down. Somebody with stolen keys may raise a version as far as numbers go, to lock the honest
//! server out (fast-forward). It recovers by a new root with new keys; so the floors of timestamp, snapshot and
//! targets count only under the keys under which they were seen, and the generation under the director's.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    Digest, Generation, Timestamp,
    trust::{DIRECTOR_MEMBER, KeySet, SIGNED_AT_MEMBER, canonical_json},
};
use sigstore_tuf::{Root, TrustedMetadataSet};

use crate::error::Untrusted;

/// The newest versions that were verified on this device. The default is that of a device just enrolled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floors {
    /// Version of the root.
    pub root: u64,
    /// Version of the timestamp.
    pub timestamp: u64,
    /// Version of the snapshot.
    pub snapshot: u64,
    /// Version of the targets.
    pub targets: u64,
    /// Generation of the director document.
    pub generation: Generation,
    /// A moment that has certainly passed: no clock that says less is believed.
    pub time: Timestamp,
    /// Under which keys timestamp, snapshot and targets were seen.
    image_keys: Option<Digest>,
    /// Under which keys the generation was seen.
    director_keys: Option<Digest>,
}

/// What the trusted metadata says now.
pub(crate) struct Seen {
    root: u64,
    timestamp: u64,
    snapshot: u64,
    targets: u64,
    image_keys: Digest,
    director_keys: Digest,
    pub(crate) signed_at: Option<Timestamp>,
    pub(crate) director: KeySet,
}

impl Seen {
    /// Reads it from a set that was just refreshed.
    pub(crate) fn of(trusted: &TrustedMetadataSet) -> Result<Self, Untrusted> {
        let timestamp = trusted.timestamp();
        let member = trusted.root().extra.get(DIRECTOR_MEMBER).ok_or(Untrusted::NoDirector)?;
        let director = serde_json::from_value(member.clone()).map_err(|_| Untrusted::NoDirector)?;
        Ok(Self {
            root: trusted.root().version,
            timestamp: timestamp.map_or(0, |timestamp| timestamp.version),
            snapshot: trusted.snapshot().map_or(0, |snapshot| snapshot.version),
            targets: trusted.targets_role("targets").map_or(0, |targets| targets.version),
            image_keys: image_keys(trusted.root())?,
            director_keys: fingerprint(member)?,
            signed_at: timestamp
                .and_then(|timestamp| timestamp.extra.get(SIGNED_AT_MEMBER)?.as_u64())
                .map(Timestamp),
            director,
        })
    }
}

impl Floors {
    /// The floors after `seen` was verified at `now`.
    ///
    /// The time moves to when the newest timestamp was signed, and never beyond `now`: a server whose clock is
    /// ahead, or a stolen key, cannot push the time of a device into the future.
    pub(crate) fn raised(&self, seen: &Seen, now: Timestamp) -> Result<Self, Untrusted> {
        at_least("root", self.root, seen.root)?;
        if self.image_keys == Some(seen.image_keys) {
            at_least("timestamp", self.timestamp, seen.timestamp)?;
            at_least("snapshot", self.snapshot, seen.snapshot)?;
            at_least("targets", self.targets, seen.targets)?;
        }
        let same_director = self.director_keys.is_none_or(|keys| keys == seen.director_keys);
        Ok(Self {
            root: seen.root,
            timestamp: seen.timestamp,
            snapshot: seen.snapshot,
            targets: seen.targets,
            generation: if same_director { self.generation } else { Generation::default() },
            time: self.time.max(seen.signed_at.unwrap_or_default().min(now)),
            image_keys: Some(seen.image_keys),
            director_keys: Some(seen.director_keys),
        })
    }
}

fn at_least(file: &'static str, floor: u64, found: u64) -> Result<(), Untrusted> {
    if found < floor { Err(Untrusted::Rollback { file, floor, found }) } else { Ok(()) }
}

/// The keys and thresholds of timestamp, snapshot and targets, as one digest.
fn image_keys(root: &Root) -> Result<Digest, Untrusted> {
    let mut roles = Vec::new();
    for name in ["timestamp", "snapshot", "targets"] {
        if let Some(role) = root.role(name) {
            let mut keys: Vec<_> = role.keyids.iter().map(|id| json!([id, root.keys.get(id)])).collect();
            keys.sort_by_key(Value::to_string);
            roles.push(json!([name, role.threshold, keys]));
        }
    }
    fingerprint(&Value::Array(roles))
}

fn fingerprint(value: &Value) -> Result<Digest, Untrusted> {
    let bytes = canonical_json(value).map_err(|error| Untrusted::Metadata(Box::new(error)))?;
    Ok(Digest::of(&bytes))
}
