//! The algorithms that signed metadata may use: Ed25519 for our own, ECDSA and RSA-PSS for roots made elsewhere.

use std::sync::Once;

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha2::Digest as _;
use sigstore_crypto::{CryptoProvider, Error, HashContext, SigningScheme, install_default_provider};
use sigstore_types::HashAlgorithm;

/// Tells the metadata library which algorithms to use, once for the whole process. Everything that verifies
/// calls it; calling it again does nothing.
pub fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // It fails only where this process has installed another provider on purpose before.
        let _ = install_default_provider(&Provider);
    });
}

#[derive(Debug)]
struct Provider;

impl CryptoProvider for Provider {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>, Error> {
        match algorithm {
            HashAlgorithm::Sha2256 => Ok(Box::new(Hash(sha2::Sha256::new()))),
            HashAlgorithm::Sha2384 => Ok(Box::new(Hash(sha2::Sha384::new()))),
            HashAlgorithm::Sha2512 => Ok(Box::new(Hash(sha2::Sha512::new()))),
            other => Err(Error::UnsupportedAlgorithm(format!("{other:?}"))),
        }
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        match scheme {
            SigningScheme::Ed25519 => verify_ed25519(key, data, signature),
            SigningScheme::EcdsaP256Sha256 => {
                verify_with_ring(&signature::ECDSA_P256_SHA256_ASN1, key, data, signature)
            }
            SigningScheme::EcdsaP384Sha384 => {
                verify_with_ring(&signature::ECDSA_P384_SHA384_ASN1, key, data, signature)
            }
            SigningScheme::RsaPssSha256 => {
                verify_with_ring(&signature::RSA_PSS_2048_8192_SHA256, key, data, signature)
            }
            SigningScheme::RsaPssSha384 => {
                verify_with_ring(&signature::RSA_PSS_2048_8192_SHA384, key, data, signature)
            }
            SigningScheme::RsaPssSha512 => {
                verify_with_ring(&signature::RSA_PSS_2048_8192_SHA512, key, data, signature)
            }
            other => Err(Error::UnsupportedAlgorithm(other.name().into())),
        }
    }

    /// Signatures over digests are for artifacts of other systems; metadata never has them.
    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        _key: &[u8],
        _digest: &[u8],
        _signature: &[u8],
    ) -> Result<(), Error> {
        Err(Error::UnsupportedAlgorithm(format!("{} over a digest", scheme.name())))
    }
}

/// Strict: small-order keys and non-canonical encodings are refused.
fn verify_ed25519(key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), Error> {
    let key: &[u8; 32] = key.try_into().map_err(|_| Error::InvalidKey("not 32 bytes".into()))?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(key)
        .map_err(|_| Error::InvalidKey("not an Ed25519 point".into()))?;
    let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| mismatch())?;
    key.verify_strict(data, &signature).map_err(|_| mismatch())
}

fn verify_with_ring(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    data: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    UnparsedPublicKey::new(algorithm, key).verify(data, signature).map_err(|_| mismatch())
}

fn mismatch() -> Error {
    Error::Verification("the signature does not fit".into())
}

struct Hash<D>(D);

impl<D: sha2::Digest + Send> HashContext for Hash<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::{rand::SystemRandom, signature::KeyPair as _};

    #[test]
    fn ecdsa_signatures_of_roots_made_elsewhere_are_read() {
        let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let random = SystemRandom::new();
        let document = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let signed = pair.sign(&random, b"root").unwrap();
        let check = |data: &[u8]| {
            Provider.verify_raw(
                SigningScheme::EcdsaP256Sha256,
                pair.public_key().as_ref(),
                data,
                signed.as_ref(),
            )
        };
        assert!(check(b"root").is_ok());
        assert!(check(b"toor").is_err());
    }

    #[test]
    fn a_small_order_key_signs_nothing() {
        // The identity point: under lax rules, R = identity and s = 0 fit every message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(Provider.verify_raw(SigningScheme::Ed25519, &identity, b"any", &forged).is_err());
    }

    #[test]
    fn weaker_schemes_are_not_read() {
        let refused = Provider.verify_raw(SigningScheme::RsaPkcs1Sha256, &[], b"", &[]);
        assert!(matches!(refused, Err(Error::UnsupportedAlgorithm(_))));
        let hash = |algorithm| Provider.hash(algorithm).unwrap().finalize().len();
        assert_eq!(hash(HashAlgorithm::Sha2256) + hash(HashAlgorithm::Sha2512), 96);
    }
}
