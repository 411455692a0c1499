//! Identifiers: every kind is its own type, checked when it is made.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Longest name of a device or model: it becomes one level of an MQTT topic and one folder name.
pub const MAX_NAME_LEN: usize = 64;

/// Why a text is not an identifier.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidId {
    /// A name is empty, too long, or holds a character outside `A–Z a–z 0–9 _ -`.
    #[error("'{text}' is not a {kind}: use 1 to {MAX_NAME_LEN} characters out of A-Z a-z 0-9 _ -")]
    Name {
        /// What was expected.
        kind: &'static str,
        /// What was given, cut to a printable length.
        text: String,
    },
    /// A digest is not 64 hexadecimal digits.
    #[error("'{0}' is not a SHA-256 digest: expected 64 lower-case hexadecimal digits")]
    Digest(String),
    /// A release is not `name@version`.
    #[error("'{0}' is not a release: expected NAME@VERSION with a version from 1 up, for example digits@2")]
    Release(String),
}

fn check_name(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    let fits = (1..=MAX_NAME_LEN).contains(&text.len());
    if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Ok(());
    }
    Err(InvalidId::Name { kind, text: text.chars().take(MAX_NAME_LEN).collect() })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Checks that `text` is a ", $kind, ".")]
            ///
            /// # Errors
            /// When it is empty, longer than [`MAX_NAME_LEN`] or holds other characters than `A–Z a–z 0–9 _ -`.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check_name($kind, &text)?;
                Ok(Self(text))
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A device: the common name of its certificate and one level of its topics.
    DeviceId, "device id"
);
name_type!(
    /// A named line of model versions.
    ModelName, "model name"
);
name_type!(
    /// One rollout.
    RolloutId, "rollout id"
);
name_type!(
    /// Two releases that are compared.
    ExperimentId, "experiment name"
);
name_type!(
    /// A named selector over devices.
    GroupName, "group name"
);
name_type!(
    /// A counter or gauge that an application reports.
    MetricName, "metric name"
);
name_type!(
    /// One run of an agent process on a device; a restart makes a new one.
    BootId, "boot id"
);

/// The number of a model version: 1, 2, 3, … in the order of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Version(u32);

impl Version {
    /// The first version of a model.
    pub const FIRST: Self = Self(1);

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The version as a number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Version {
    type Error = InvalidId;
    fn try_from(number: u32) -> Result<Self, InvalidId> {
        if number == 0 { Err(InvalidId::Release(number.to_string())) } else { Ok(Self(number)) }
    }
}

impl From<Version> for u32 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A published model version, written `name@version`.
///
/// ```
/// let release: shared::ReleaseId = "digits@2".parse().unwrap();
/// assert_eq!((release.model.as_str(), release.version.get()), ("digits", 2));
/// assert_eq!(release.to_string(), "digits@2");
/// assert!("digits@0".parse::<shared::ReleaseId>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId {
    /// The line of versions.
    pub model: ModelName,
    /// Which of them.
    pub version: Version,
}

impl ReleaseId {
    /// The release `model@version`.
    #[must_use]
    pub fn new(model: ModelName, version: Version) -> Self {
        Self { model, version }
    }
}

impl FromStr for ReleaseId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::Release(text.chars().take(2 * MAX_NAME_LEN).collect());
        let (model, version) = text.split_once('@').ok_or_else(wrong)?;
        let model = ModelName::new(model).map_err(|_| wrong())?;
        let number: u32 = version.parse().map_err(|_| wrong())?;
        let version = Version::try_from(number).map_err(|_| wrong())?;
        Ok(Self { model, version })
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ReleaseId> for String {
    fn from(release: ReleaseId) -> Self {
        release.to_string()
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model, self.version)
    }
}

/// Monotonic number of a device's desired state. A lower generation never changes a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of some bytes (FIPS 180-4), written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest computed elsewhere, for example over a stream.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight bytes: enough to tell the artifacts of one device apart in a block frame.
    #[must_use]
    pub fn short(&self) -> [u8; 8] {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        short
    }
}

impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::Digest(text.chars().take(MAX_NAME_LEN).collect());
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = hex_value(pair[0]).ok_or_else(wrong)?;
            let low = hex_value(pair[1]).ok_or_else(wrong)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

/// Only the lower-case form is accepted, so one digest has one spelling.
fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_could_leave_its_topic_is_refused() {
        for bad in ["", "a/b", "+", "#", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(DeviceId::new(bad).is_err(), "{bad}");
        }
        assert!(DeviceId::new("berlin-01_A").is_ok());
    }

    #[test]
    fn a_digest_has_one_spelling() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!("ab".parse::<Digest>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives_a_round_trip(text in "\\PC{0,80}") {
            if let Ok(release) = text.parse::<ReleaseId>() {
                prop_assert_eq!(release.to_string().parse::<ReleaseId>().unwrap(), release);
            }
        }
    }
}
