//! Signatures, and the type that says a value was checked.
//!
//! Signed documents have the envelope and the canonical JSON of The Update Framework 1.0 (TUF): signatures cover
//! the canonical form of the member `signed`, a signature counts only if its key is listed, and a threshold
//! counts distinct keys. [`Signed`] is what came over the wire; [`Verified`] can only be made by checking it.

mod canonical;
mod envelope;
mod key;
mod listing;

pub use canonical::{CanonicalError, canonical_json};
pub use envelope::{Envelope, MAX_SIGNATURES, Signature, Signed, TrustError, Verified};
pub use key::{KeyId, KeySet, PublicKey, Signer, UnusablePem};
pub use listing::{DIRECTOR_MEMBER, Listing, SIGNED_AT_MEMBER, SPEC_VERSION, target_path};
