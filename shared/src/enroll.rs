//! Enrolment: how a device that knows nothing but one string becomes a member of the fleet.
//!
//! The string holds the server's address, the fingerprint of its CA and a secret. First contact is therefore
//! pinned: the device believes exactly the server that the operator meant. It makes its own keys and sends a
//! certificate signing request and the public key of its reports; private keys never leave it.

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    device::{Inventory, Labels},
    id::{DeviceId, Digest},
    time::Timestamp,
    trust::{Envelope, PublicKey},
};

/// Starts every enrolment string, so that people and scanners recognise a leaked one.
const PREFIX: &str = "muster_enroll_";

/// Longest enrolment string that is read.
pub const MAX_TOKEN_LEN: usize = 1_024;

/// Path of the enrolment resource below the server's address.
pub const ENROLL_PATH: &str = "/api/v1/enroll";

/// How far the clock of a device that enrols may be from the server's: more than any network takes, and less than any
/// wrong time zone.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Path of the resource that renews certificates, below the server's address.
pub const RENEW_PATH: &str = "/api/v1/enroll/renew";

/// What an operator hands to a device.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollToken {
    /// Address of the server's HTTP API, for example `https://fleet.example:8443`.
    pub url: String,
    /// SHA-256 of the DER form of the CA certificate.
    pub ca: Digest,
    /// 256 random bits, as text.
    pub secret: String,
}

/// Why a text is not an enrolment string.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "this is not an enrolment token: expected the whole line that `muster enroll token create` printed, starting with {PREFIX}"
)]
pub struct InvalidToken;

impl FromStr for EnrollToken {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let body = text
            .trim()
            .strip_prefix(PREFIX)
            .filter(|body| body.len() <= MAX_TOKEN_LEN)
            .ok_or(InvalidToken)?;
        let json = BASE64.decode(body).map_err(|_| InvalidToken)?;
        serde_json::from_slice(&json).map_err(|_| InvalidToken)
    }
}

impl fmt::Display for EnrollToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", BASE64.encode(json))
    }
}

impl fmt::Debug for EnrollToken {
    /// The secret stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollToken").field("url", &self.url).field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// `POST` to [`ENROLL_PATH`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The secret of the token.
    pub secret: String,
    /// The name the device wants; the server makes one up when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Certificate signing request (PKCS #10, RFC 2986) with a P-256 key, as PEM.
    pub csr_pem: String,
    /// The Ed25519 key that will sign the device's reports.
    pub report_key: PublicKey,
    /// What the device is.
    pub inventory: Inventory,
    /// When it asks, by its own clock, which may be off by at most [`MAX_CLOCK_SKEW`]. Absent for a device that has no
    /// clock to speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// The answer: everything the device needs from now on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// The device's name, which is also the common name of its certificate.
    pub device: DeviceId,
    /// Certificate of the device, as PEM.
    pub certificate_pem: String,
    /// Certificate of the fleet's CA, as PEM; its fingerprint is the one in the token.
    pub ca_pem: String,
    /// Where the MQTT broker listens, as `host:port`.
    pub mqtt: String,
    /// Root metadata of the image repository, to be pinned.
    pub root: Envelope,
    /// Labels that the token presets.
    pub labels: Labels,
}

/// `POST` to [`RENEW_PATH`], inside a [`Signed`](crate::trust::Signed) that the device's report key made: the
/// certificate may have expired, that key does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The device.
    pub device: DeviceId,
    /// When it asks, by its own clock.
    pub at: Timestamp,
    /// Certificate signing request (PKCS #10, RFC 2986) with a new P-256 key, as PEM.
    pub csr_pem: String,
}

/// The answer to a [`RenewRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewResponse {
    /// The new certificate, as PEM. The one before is let in until this one was used.
    pub certificate_pem: String,
    /// Where the MQTT broker listens by now, as `host:port`.
    pub mqtt: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_survives_copying() {
        let token =
            EnrollToken { url: "https://localhost:8443".into(), ca: Digest::of(b"ca"), secret: "s".into() };
        let text = format!("  {token}\n");
        assert_eq!(text.parse::<EnrollToken>(), Ok(token));
    }

    #[test]
    fn half_a_token_is_refused() {
        let token =
            EnrollToken { url: "https://localhost:8443".into(), ca: Digest::of(b"ca"), secret: "s".into() };
        let text = token.to_string();
        assert_eq!(text[..text.len() - 3].parse::<EnrollToken>(), Err(InvalidToken));
    }

    #[test]
    fn a_secret_is_not_printed_by_debug() {
        let token = EnrollToken { url: "u".into(), ca: Digest::of(b"ca"), secret: "hidden".into() };
        assert!(!format!("{token:?}").contains("hidden"));
    }
}
