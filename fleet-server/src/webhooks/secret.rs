//! The secret that a webhook's receiver knows its deliveries by, and the signature that is made with it.
//!
//! As Standard Webhooks 1.0 has it: the signature is an HMAC-SHA256 over id, time and body, in base64 behind the version `v1`; the
//! secret is written in base64 behind `whsec_`. The time is signed, so that a delivery that somebody recorded is worth nothing after
//! the few minutes for which receivers accept it.
//!
//! The secret is derived from the server's key for tokens and a random salt, and stored nowhere: a copy of the database signs
//! nothing, as it opens nothing (see [`crate::auth`]).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::Timestamp;
use zeroize::Zeroizing;

use crate::auth::TokenKey;

/// Starts the text of a secret.
const PREFIX: &str = "whsec_";

/// Of which version the signature is.
const VERSION: &str = "v1";

/// What signs deliveries.
pub struct WebhookSecret(Zeroizing<[u8; 32]>);

/// What stands in the headers of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: u64,
    /// `webhook-signature`.
    pub signature: String,
}

impl WebhookSecret {
    /// The secret of the webhook `id` that was made with `salt`.
    #[must_use]
    pub fn derive(key: &TokenKey, id: &str, salt: &str) -> Self {
        Self(key.derive("webhook", &[id, salt]))
    }

    /// As its receiver is told it, once.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(*self.0)))
    }

    /// Signs a delivery that is sent at `now`.
    #[must_use]
    pub fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> Signature {
        let timestamp = now.as_millis() / 1_000;
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes keys of every length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let code = mac.finalize().into_bytes();
        Signature { timestamp, signature: format!("{VERSION},{}", BASE64.encode(code)) }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_reference_libraries() {
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let (id, timestamp, body) =
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        let expected = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(BASE64.encode(mac.finalize().into_bytes()), expected);
        let mut padded = [0; 32];
        padded[..key.len()].copy_from_slice(&key);
        // HMAC fills a key up with zeros, so a longer key that ends with them is the same.
        let secret = WebhookSecret(Zeroizing::new(padded));
        let signed = secret.sign(id, Timestamp(timestamp * 1_000 + 999), body.as_bytes());
        assert_eq!((signed.timestamp, signed.signature), (timestamp, format!("v1,{expected}")));
    }

    #[test]
    fn every_webhook_has_a_secret_of_its_own_that_a_restarted_server_knows() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = crate::data_dir::DataDir::open(&folder.path().join("data")).unwrap();
        let key = TokenKey::open(&data_dir, false).unwrap();
        let text =
            |key: &TokenKey, id: &str, salt: &str| WebhookSecret::derive(key, id, salt).text().to_string();
        let secret = text(&key, "a", "1");
        assert!(secret.starts_with("whsec_") && BASE64.decode(&secret[6..]).unwrap().len() == 32);
        assert_ne!(secret, text(&key, "a", "2"));
        assert_ne!(secret, text(&key, "b", "1"));
        assert_ne!(
            text(&key, "a1", ""),
            text(&key, "a", "1"),
            "where one part ends is part of what is derived from"
        );
        assert_eq!(secret, text(&TokenKey::open(&data_dir, true).unwrap(), "a", "1"));
        assert_eq!(format!("{:?}", WebhookSecret::derive(&key, "a", "1")), "WebhookSecret");
    }
}
