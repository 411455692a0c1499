//! The device's judgement of what it is told: from a director document to manifests that may be installed.
//!
//! Two parties must name a release identically: the image repository (The Update Framework 1.0, keys that need
//! not be on any server) and the director (a key of the fleet server). [`Verifier::verify_desired`] brings the
//! metadata up to date, checks both and hands out [`Verified`](shared::trust::Verified) values; there is no
//! other way to get one.
//!
//! The rules of the metadata itself are those of the `sigstore-tuf` crate, which passes the official conformance
//! suite. Around it stand four things that it leaves to its user: strict Ed25519 ([`install_crypto`]), bounds on
//! every transfer, a store whose errors count ([`MetadataStore`]), and version floors that are kept a second
//! time ([`Floors`]), so that a lost store does not reopen the way back.
//!
//! Nothing here reads a clock, and the network is the caller's: see [`MetadataSource`].

mod crypto;
mod disk;
mod error;
mod floors;
mod source;
mod store;
mod verifier;

pub use crypto::install_crypto;
pub use disk::DiskStore;
pub use error::{Refusal, Retryable, StoreError, Untrusted, VerifyError};
pub use floors::Floors;
pub use source::{MetadataSource, SourceError};
pub use store::MetadataStore;
pub use verifier::{
    MAX_ASSIGNMENTS, MAX_CLOCK_LAG, Standing, VerifiedChallengers, VerifiedDesired, Verifier,
};
