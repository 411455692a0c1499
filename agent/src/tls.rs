//! TLS of the agent: one configuration for the link, one for renewals, one for the first contact.

use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use shared::Digest;

use crate::clock::{Clock, TlsClock};

/// The configuration of the next connection; a renewal puts another one in its place.
pub type CurrentTls = Arc<ArcSwap<ClientConfig>>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration of the link: trusts the fleet's CA alone and shows the device's certificate.
///
/// # Errors
/// When the CA, the key or the certificate is damaged.
pub fn link_config(ca_pem: &str, tls_pem: &str, clock: Clock) -> anyhow::Result<ClientConfig> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(tls_pem.as_bytes())
        .collect::<Result<_, _>>()
        .context("the certificate in identity/tls.pem is damaged")?;
    let key = PrivateKeyDer::from_pem_slice(tls_pem.as_bytes())
        .context("the key in identity/tls.pem is damaged")?;
    ClientConfig::builder_with_details(provider(), Arc::new(TlsClock(clock)))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(fleet_roots(ca_pem)?)
        .with_client_auth_cert(chain, key)
        .context("certificate and key of the identity do not belong together")
}

/// The configuration of a renewal: trusts the fleet's CA alone and shows no certificate, for it may have expired.
///
/// # Errors
/// When the CA is damaged.
pub fn renewal_config(ca_pem: &str, clock: Clock) -> anyhow::Result<ClientConfig> {
    Ok(ClientConfig::builder_with_details(provider(), Arc::new(TlsClock(clock)))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(fleet_roots(ca_pem)?)
        .with_no_client_auth())
}

fn fleet_roots(ca_pem: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).context("identity/ca.pem is damaged")?;
    roots.add(ca).context("identity/ca.pem is not a CA certificate")?;
    Ok(roots)
}

/// The configuration of the first contact: trusts the CA whose fingerprint the token carries, and no other.
///
/// # Errors
/// When the TLS library refuses its own defaults.
pub fn pinned_config(ca: Digest, clock: Clock) -> anyhow::Result<ClientConfig> {
    let verifier = PinnedCa { ca, provider: provider() };
    Ok(ClientConfig::builder_with_details(provider(), Arc::new(TlsClock(clock)))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Accepts a server whose chain holds the pinned CA and is valid under it. Everything but the choice of the
/// root is left to the usual verification: names, times, signatures, usages.
#[derive(Debug)]
struct PinnedCa {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|certificate| Digest::of(certificate) == self.ca);
        let pinned = pinned.ok_or_else(|| {
            rustls::Error::General("the server does not show the CA that the token names; is the address right, or is somebody between?".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
