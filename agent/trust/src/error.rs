//! Why a desired state, or one release of it, is not installed.
//!
//! The class of a [`VerifyError`] tells whether asking again can help; the text tells a person what to do.

use std::{error::Error, io, sync::Arc};

use shared::{
    DeviceId, Digest, Generation, ModelName, Timestamp,
    report::{DeploymentEvent, FailReason, RejectReason},
    trust::TrustError,
};
use thiserror::Error;

use crate::{MAX_ASSIGNMENTS, source::SourceError};

/// Why a desired state is not verified as a whole. What runs goes on running in every case.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// Nothing was wrong, something was missing; the same document may pass later.
    #[error(transparent)]
    Retryable(#[from] Retryable),
    /// What came is refused; the same bytes are refused again.
    #[error(transparent)]
    Final(#[from] Untrusted),
    /// The device cannot keep what it verified. Nothing may be activated until a new verifier was made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What can be otherwise next time.
#[derive(Debug, Error)]
pub enum Retryable {
    /// The source did not answer.
    #[error("the signed metadata cannot be fetched")]
    Network(#[source] SourceError),
    /// The source lacks a file that it should have.
    #[error("the source is incomplete: {0}")]
    Missing(String),
    /// Metadata is too old, or this device's clock is ahead.
    #[error(
        "the signed {role} metadata expired at {}, and the clock of this device says {}: set the clock if it is \
         wrong; otherwise the server has not renewed its metadata", date(.expires_at), date(.device_time)
    )]
    Expired {
        /// Which role.
        role: String,
        /// When it expired.
        expires_at: Timestamp,
        /// The trusted time of the device.
        device_time: Timestamp,
    },
    /// This device's clock is behind, so nothing would ever look expired to it.
    #[error(
        "the metadata was signed at {}, and the clock of this device says {}: set the clock; if it is right, the \
         clock of the server is wrong", date(.signed_at), date(.device_time)
    )]
    ClockBehind {
        /// When the server signed.
        signed_at: Timestamp,
        /// The trusted time of the device.
        device_time: Timestamp,
    },
}

/// What does not hold.
#[derive(Debug, Error)]
pub enum Untrusted {
    /// The device was never enrolled, or its root was lost.
    #[error("this device has no trusted root: enrol it")]
    NoTrustedRoot,
    /// The stored or enrolled root is not usable.
    #[error("the trusted root cannot be used: enrol this device again")]
    TrustedRoot(#[source] Box<dyn Error + Send + Sync>),
    /// A rule of the metadata is broken: signature, threshold, version, digest, format.
    #[error("the signed metadata is refused")]
    Metadata(#[source] Box<dyn Error + Send + Sync>),
    /// The source sends more than it may.
    #[error("the source of the metadata is refused")]
    Source(#[source] SourceError),
    /// Metadata is older than what this device has acted on before.
    #[error("the {file} metadata has version {found}; this device has seen version {floor}")]
    Rollback {
        /// Which file.
        file: &'static str,
        /// The version that must not be gone below.
        floor: u64,
        /// The version that came.
        found: u64,
    },
    /// The root does not say who directs.
    #[error("the root metadata names no usable director keys")]
    NoDirector,
    /// The document is not signed by the director.
    #[error("the director document is refused")]
    Director(#[source] TrustError),
    /// The document follows a specification that this software does not know.
    #[error("the director document follows version {0} of the specification; this software knows 1.x")]
    DirectorVersion(String),
    /// The document is for somebody else.
    #[error("the director document is for device {found}; this is {expected}")]
    WrongDevice {
        /// This device.
        expected: DeviceId,
        /// The one that is named.
        found: DeviceId,
    },
    /// The document is older than one that was verified before.
    #[error("the director document has generation {found}; this device has seen {floor}")]
    OldGeneration {
        /// The newest one verified.
        floor: Generation,
        /// The one that came.
        found: Generation,
    },
    /// The document is larger than any honest one.
    #[error("the director document names {0} releases; at most {MAX_ASSIGNMENTS} are read")]
    TooManyAssignments(usize),
    /// The document contradicts itself.
    #[error("the director document names model {0} twice")]
    AmbiguousModel(ModelName),
}

/// The store failed.
#[derive(Debug, Clone, Error)]
#[error("cannot keep or read the trusted metadata file {file}")]
pub struct StoreError {
    /// Which file.
    pub file: String,
    /// What the system said.
    #[source]
    pub cause: Arc<io::Error>,
}

/// Why one release of a verified director document is not installed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The image repository does not list it. Its newest metadata may still be on the way.
    #[error("the image repository does not list {path}")]
    NotListed {
        /// Where it would be.
        path: String,
    },
    /// The image repository lists something else under this name.
    #[error(
        "for {path} the director names digest {named} ({named_bytes} bytes), the image repository lists {listed} \
         ({listed_bytes} bytes)"
    )]
    Differs {
        /// Where it is listed.
        path: String,
        /// The director's digest.
        named: Digest,
        /// The director's length.
        named_bytes: u64,
        /// The digest of the image repository, as it is written there.
        listed: String,
        /// The length of the image repository.
        listed_bytes: u64,
    },
    /// What the image repository says of the release contradicts its name or its manifest.
    #[error("the listing of {path} contradicts itself: {detail}")]
    BadListing {
        /// Where it is listed.
        path: String,
        /// How.
        detail: String,
    },
    /// The manifest did not come, or other bytes came.
    #[error("the manifest {path} is not available: {detail}")]
    Unavailable {
        /// Where it would be.
        path: String,
        /// What came instead.
        detail: String,
    },
    /// The manifest is the signed one and still unusable.
    #[error("{detail}")]
    BadManifest {
        /// What is wrong.
        detail: String,
    },
}

impl Refusal {
    /// What the device reports: rejected where only another release can help, failed where another attempt may.
    #[must_use]
    pub fn event(&self) -> DeploymentEvent {
        let detail = self.to_string();
        match self {
            Self::NotListed { .. } | Self::Unavailable { .. } => {
                DeploymentEvent::Failed(FailReason::Network { detail })
            }
            Self::Differs { .. } | Self::BadListing { .. } => {
                DeploymentEvent::Rejected(RejectReason::Untrusted { detail })
            }
            Self::BadManifest { .. } => DeploymentEvent::Rejected(RejectReason::BadManifest { detail }),
        }
    }
}

/// Sorts the errors of the metadata library.
pub(crate) fn classify(error: sigstore_tuf::Error, device_time: Timestamp) -> VerifyError {
    match error {
        sigstore_tuf::Error::Expired { role, expires } => {
            let expires_at = Timestamp(u64::try_from(expires.as_millisecond()).unwrap_or(0));
            Retryable::Expired { role, expires_at, device_time }.into()
        }
        sigstore_tuf::Error::Transport { message, source: None } => Retryable::Missing(message).into(),
        sigstore_tuf::Error::Transport { message, source: Some(source) } => match source.downcast() {
            Ok(source) => of_source(*source),
            Err(_) => Retryable::Missing(message).into(),
        },
        other => Untrusted::Metadata(Box::new(other)).into(),
    }
}

pub(crate) fn of_source(error: SourceError) -> VerifyError {
    match error {
        SourceError::Network { .. } => Retryable::Network(error).into(),
        SourceError::TooLong { .. } => Untrusted::Source(error).into(),
    }
}

fn date(at: &Timestamp) -> String {
    let moment = i64::try_from(at.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| at.to_string(), |moment| moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
