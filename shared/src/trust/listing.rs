//! What the image repository says of a release, and the members that we add to TUF metadata.
//!
//! TUF leaves room for members of an application's own: they are signed like the rest, and readers that do not
//! know them pass over them.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ModelName, ReleaseId, Version};

/// Member of the root metadata: the [`KeySet`](super::KeySet) that signs director documents.
pub const DIRECTOR_MEMBER: &str = "x-muster-director";

/// Member of the timestamp metadata: when it was signed, in milliseconds since 1970. With it a device whose
/// clock is behind can tell, which an expiry alone does not show.
pub const SIGNED_AT_MEMBER: &str = "x-muster-signed-at";

/// The version of the TUF specification that our metadata follows.
pub const SPEC_VERSION: &str = "1.0.31";

/// Custom member of a target: what can be known of a release without its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The line of versions.
    pub model: ModelName,
    /// Which of them.
    pub version: Version,
    /// Number of the release in the repository: later releases have higher numbers, over all models.
    pub release_counter: u64,
    /// Digest of the model, unpacked.
    pub model_digest: Digest,
    /// Length of the model, unpacked.
    pub model_size_bytes: u64,
}

/// Path under which a release is listed and its manifest fetched.
///
/// ```
/// assert_eq!(shared::trust::target_path(&"digits@2".parse().unwrap()), "digits/2.json");
/// ```
#[must_use]
pub fn target_path(release: &ReleaseId) -> String {
    format!("{}/{}.json", release.model, release.version)
}
