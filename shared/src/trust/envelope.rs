//! The envelope `{"signed": …, "signatures": […]}` and what it takes to open it.

use std::{collections::BTreeSet, marker::PhantomData, ops::Deref};

use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;

use super::{CanonicalError, KeyId, KeySet, Signer, canonical_json};
use crate::id::Digest;

/// A document carries at most this many signatures: more keys than any role has, few enough to check at once.
pub const MAX_SIGNATURES: usize = 32;

/// Why something signed is not believed.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The bytes are not an envelope, or the document inside is not what was expected.
    #[error("the signed document cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// The document cannot be brought into the form that is signed.
    #[error("the signed document has no canonical form")]
    Canonical(#[from] CanonicalError),
    /// A listed key is not a usable Ed25519 key.
    #[error("key {0} is not a usable Ed25519 key")]
    UnusableKey(KeyId),
    /// A signature does not fit the document.
    #[error("the signature of key {0} does not fit the document")]
    BadSignature(KeyId),
    /// Too few listed keys have signed.
    #[error("{valid} of {threshold} needed signatures are valid")]
    BelowThreshold {
        /// Distinct listed keys whose signature fits.
        valid: u32,
        /// How many are needed.
        threshold: u32,
    },
    /// A document carries more signatures than [`MAX_SIGNATURES`].
    #[error("{0} signatures, at most {MAX_SIGNATURES} are read")]
    TooManySignatures(usize),
    /// Bytes do not have the digest that a verified document names.
    #[error("the bytes have digest {found}, the signed document names {expected}")]
    WrongDigest {
        /// What was signed.
        expected: Digest,
        /// What came.
        found: Digest,
    },
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key signed.
    pub keyid: KeyId,
    /// The signature, 64 bytes as hexadecimal digits.
    pub sig: String,
}

impl Signature {
    pub(super) fn new(keyid: KeyId, bytes: [u8; 64]) -> Self {
        let (mut first, mut second) = ([0; 32], [0; 32]);
        first.copy_from_slice(&bytes[..32]);
        second.copy_from_slice(&bytes[32..]);
        let sig = format!("{}{}", Digest::from_bytes(first), Digest::from_bytes(second));
        Self { keyid, sig }
    }

    fn bytes(&self) -> Option<[u8; 64]> {
        let (first, second) = self.sig.split_at_checked(64)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(first.parse::<Digest>().ok()?.as_bytes());
        bytes[32..].copy_from_slice(second.parse::<Digest>().ok()?.as_bytes());
        Some(bytes)
    }
}

/// The envelope as it is written. The document stays a JSON value, because signatures cover what was sent and
/// not what this program understood of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The document.
    pub signed: Value,
    /// Who vouches for it.
    pub signatures: Vec<Signature>,
}

/// A document of type `T` that somebody claims to have signed. Nothing in it may be used before
/// [`Signed::verify`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signed<T> {
    envelope: Envelope,
    #[serde(skip)]
    document: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Signed<T> {
    /// Signs `document` with every one of `signers`.
    ///
    /// # Errors
    /// When the document has no canonical form.
    pub fn sign(document: &T, signers: &[&Signer]) -> Result<Self, CanonicalError> {
        let signatures = signers.iter().map(|signer| signer.sign(document)).collect::<Result<_, _>>()?;
        let signed = serde_json::to_value(document)?;
        Ok(Self { envelope: Envelope { signed, signatures }, document: PhantomData })
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// When the bytes are not an envelope or carry too many signatures.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(TrustError::Malformed)?;
        match envelope.signatures.len() {
            n if n > MAX_SIGNATURES => Err(TrustError::TooManySignatures(n)),
            _ => Ok(Self { envelope, document: PhantomData }),
        }
    }

    /// The envelope as JSON bytes.
    ///
    /// # Panics
    /// Never: an envelope is a JSON value and text.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(&self.envelope).expect("an envelope is a JSON value and text")
    }

    /// Opens the envelope if at least `role.threshold` distinct keys of `role` have signed.
    ///
    /// Signatures of keys that are not listed are ignored; a listed key whose signature does not fit is not
    /// counted. Each key counts once, however often it signed.
    ///
    /// # Errors
    /// When too few listed keys have signed, or the document is not a `T`.
    pub fn verify(self, role: &KeySet) -> Result<Verified<T>, TrustError> {
        if self.envelope.signatures.len() > MAX_SIGNATURES {
            return Err(TrustError::TooManySignatures(self.envelope.signatures.len()));
        }
        let message = canonical_json(&self.envelope.signed)?;
        let valid: BTreeSet<KeyId> = self
            .envelope
            .signatures
            .iter()
            .filter_map(|signature| Some((role.keys.get(&signature.keyid)?, signature.bytes()?)))
            .filter(|(key, bytes)| key.verify(&message, bytes).is_ok())
            // The id is computed from the key, so that one key listed under two ids counts once.
            .map(|(key, _)| key.id())
            .collect();
        let valid = u32::try_from(valid.len()).unwrap_or(u32::MAX);
        let threshold = role.threshold.max(1);
        if valid < threshold {
            return Err(TrustError::BelowThreshold { valid, threshold });
        }
        let document = serde_json::from_value(self.envelope.signed).map_err(TrustError::Malformed)?;
        Ok(Verified(document))
    }
}

/// A value whose origin was checked. There is no other way to make one than checking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// A part of a verified value is verified as well.
    #[must_use]
    pub fn project<U>(&self, part: impl FnOnce(&T) -> U) -> Verified<U> {
        Verified(part(&self.0))
    }

    /// Gives the value up.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned> Verified<T> {
    /// A document that is not signed itself, but whose digest a verified document names.
    ///
    /// # Errors
    /// When the digest is another one, or the bytes are not a `T`.
    pub fn by_digest(bytes: &[u8], digest: &Verified<Digest>) -> Result<Self, TrustError> {
        let found = Digest::of(bytes);
        if found != digest.0 {
            return Err(TrustError::WrongDigest { expected: digest.0, found });
        }
        serde_json::from_slice(bytes).map(Self).map_err(TrustError::Malformed)
    }
}

/// A verified value may be written down like any other. There is no way back: what is read was not checked.
impl<T: Serialize> Serialize for Verified<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn signers() -> Vec<Signer> {
        (0..3).map(|i| Signer::from_seed(&[i; 32])).collect()
    }

    fn two_of(signers: &[Signer]) -> KeySet {
        KeySet { keys: signers.iter().map(|s| (s.id().clone(), s.public().clone())).collect(), threshold: 2 }
    }

    #[test]
    fn two_distinct_keys_open_a_two_key_envelope() {
        let keys = signers();
        let signed = Signed::sign(&json!({"a": 1}), &[&keys[0], &keys[1]]).unwrap();
        let opened = Signed::<Value>::from_slice(&signed.to_vec()).unwrap().verify(&two_of(&keys)).unwrap();
        assert_eq!(*opened, json!({"a": 1}));
    }

    #[test]
    fn one_key_signing_twice_counts_once() {
        let keys = signers();
        let signed = Signed::sign(&json!({"a": 1}), &[&keys[0], &keys[0]]).unwrap();
        let refused = signed.verify(&two_of(&keys)).unwrap_err();
        assert!(matches!(refused, TrustError::BelowThreshold { valid: 1, threshold: 2 }));
    }

    #[test]
    fn one_key_listed_under_two_ids_counts_once() {
        let key = Signer::from_seed(&[7; 32]);
        let mut role = KeySet::single(key.public().clone());
        role.keys.insert("alias".into(), key.public().clone());
        role.threshold = 2;
        let mut signed = Signed::sign(&json!({"a": 1}), &[&key, &key]).unwrap();
        signed.envelope.signatures[1].keyid = "alias".into();
        assert!(signed.verify(&role).is_err());
    }

    #[test]
    fn a_changed_document_is_refused() {
        let keys = signers();
        let mut signed = Signed::sign(&json!({"a": 1}), &[&keys[0], &keys[1]]).unwrap();
        signed.envelope.signed = json!({"a": 2});
        assert!(signed.verify(&two_of(&keys)).is_err());
    }

    #[test]
    fn a_threshold_of_zero_still_needs_a_signature() {
        let keys = signers();
        let mut role = two_of(&keys);
        role.threshold = 0;
        assert!(Signed::sign(&json!({}), &[]).unwrap().verify(&role).is_err());
    }

    #[test]
    fn bytes_under_another_digest_are_refused() {
        let key = Signer::from_seed(&[1; 32]);
        let role = KeySet::single(key.public().clone());
        let named = Signed::sign(&Digest::of(b"{}"), &[&key]).unwrap().verify(&role).unwrap();
        assert!(Verified::<Value>::by_digest(b"{}", &named).is_ok());
        assert!(matches!(Verified::<Value>::by_digest(b"[]", &named), Err(TrustError::WrongDigest { .. })));
    }
}
