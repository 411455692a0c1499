//! Ed25519 keys (RFC 8032) in the form in which TUF metadata lists them.

use std::{collections::BTreeMap, fmt};

use ed25519_dalek::{
    SigningKey, VerifyingKey,
    ed25519::signature::Signer as _,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, spki::der::pem::LineEnding},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{CanonicalError, canonical_json, envelope::TrustError};
use crate::id::Digest;

/// Name of a key: the digest of its canonical JSON, as TUF recommends.
pub type KeyId = String;

/// A public key as TUF lists it: `{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"<hex>"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyValue {
    public: String,
}

impl PublicKey {
    /// The listed form of a verifying key.
    #[must_use]
    pub fn new(key: &VerifyingKey) -> Self {
        // A public key has the length of a digest, so a digest's spelling serves for it.
        let public = Digest::from_bytes(key.to_bytes()).to_string();
        Self { keytype: "ed25519".into(), scheme: "ed25519".into(), keyval: KeyValue { public } }
    }

    /// The digest of the key's canonical JSON.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let bytes = canonical_json(self).expect("a key is text only, which always has a canonical form");
        Digest::of(&bytes).to_string()
    }

    /// Checks one signature, strictly: small-order keys and non-canonical encodings are refused.
    ///
    /// # Errors
    /// When the key is not a usable Ed25519 key or the signature does not fit.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), TrustError> {
        let bytes: Digest = self.keyval.public.parse().map_err(|_| TrustError::UnusableKey(self.id()))?;
        if self.keytype != "ed25519" || self.scheme != "ed25519" {
            return Err(TrustError::UnusableKey(self.id()));
        }
        let key =
            VerifyingKey::from_bytes(bytes.as_bytes()).map_err(|_| TrustError::UnusableKey(self.id()))?;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.verify_strict(message, &signature).map_err(|_| TrustError::BadSignature(self.id()))
    }
}

/// The keys that may sign a role, and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// Every key by its id.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// How many distinct keys must have signed; at least one.
    pub threshold: u32,
}

impl KeySet {
    /// A role that one key signs alone.
    #[must_use]
    pub fn single(key: PublicKey) -> Self {
        Self { keys: BTreeMap::from([(key.id(), key)]), threshold: 1 }
    }
}

/// A text is not an Ed25519 private key. What it was instead is not told, because it may be a secret.
#[derive(Debug, Error)]
#[error("the text is not an Ed25519 private key in PKCS#8 PEM form")]
pub struct UnusablePem;

/// A private key together with the id under which its public half is listed.
pub struct Signer {
    key: SigningKey,
    public: PublicKey,
    id: KeyId,
}

impl Signer {
    /// A signer from 32 secret bytes that came from a random source.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let public = PublicKey::new(&key.verifying_key());
        let id = public.id();
        Self { key, public, id }
    }

    /// A signer from a PKCS#8 private key in PEM.
    ///
    /// # Errors
    /// When the text is not an Ed25519 private key in that form.
    pub fn from_pem(pem: &str) -> Result<Self, UnusablePem> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| UnusablePem)?;
        Ok(Self::from_seed(&Zeroizing::new(key.to_bytes())))
    }

    /// The private key as PKCS#8 in PEM; the text is wiped when it is dropped.
    ///
    /// # Panics
    /// Never: every Ed25519 key has this form.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.key.to_pkcs8_pem(LineEnding::LF).expect("every Ed25519 key has a PKCS#8 form")
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The id of the public half.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Signs the canonical JSON of `document`.
    ///
    /// # Errors
    /// When `document` has no canonical form.
    pub fn sign<T: Serialize>(&self, document: &T) -> Result<super::Signature, CanonicalError> {
        let signature = self.key.sign(&canonical_json(document)?);
        Ok(super::Signature::new(self.id.clone(), signature.to_bytes()))
    }
}

impl fmt::Debug for Signer {
    /// The secret stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_survives_its_pem_form_and_stays_out_of_logs() {
        let signer = Signer::from_seed(&[9; 32]);
        let pem = signer.to_pem();
        assert_eq!(Signer::from_pem(&pem).unwrap().id(), signer.id());
        assert!(Signer::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
        assert!(!format!("{signer:?}").contains("0909"));
    }
}
