//! The server's own certificate: made at start, renewed at start when it runs out soon or lacks a name.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc, time::Duration};

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::{Deserialize, Serialize};
use shared::Timestamp;

use super::{Authority, PkiError, failed, leaf, random_serial};
use crate::data_dir::{DataDir, read_secret, write_atomically, write_secret};

/// Life of the server's certificate.
const LIFE: Duration = Duration::from_secs(397 * 86_400);

/// With less than this left, the next start makes a new one.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// Key and certificate of the server.
pub struct ServerCertificate {
    /// The certificate and the CA that signed it, as PEM.
    pub chain_pem: String,
    key: PrivateKeyDer<'static>,
}

/// What a certificate was made for; kept beside it, so that nothing has to be read back out of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    ca: String,
    names: BTreeSet<String>,
    not_after: Timestamp,
}

impl ServerCertificate {
    /// Reads the certificate of `data_dir`; makes one when there is none, it runs out soon, or `names` changed.
    ///
    /// # Errors
    /// When files cannot be read or written, or a name cannot stand in a certificate.
    pub fn open(
        data_dir: &DataDir,
        authority: &Authority,
        names: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let facts_file = data_dir.join("server.json");
        if !is_current(&facts_file, authority, names, now) {
            create(data_dir, authority, names, now)?;
        }
        read(data_dir)
    }

    /// Certificate and key in the form TLS takes.
    ///
    /// # Errors
    /// When the stored certificate cannot be read.
    pub fn certified(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let chain = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| PkiError::Unreadable("server.pem".into()))?;
        Ok((chain, self.key.clone_key()))
    }
}

/// TLS of the HTTPS API: no client certificates, HTTP/1.1 and HTTP/2.
///
/// # Errors
/// When key and certificate do not fit.
pub fn tls_config(certificate: &ServerCertificate) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let (chain, key) = certificate.certified()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS of the broker: every client must show a certificate of the fleet's CA.
///
/// # Errors
/// When key and certificate do not fit.
pub fn mutual_tls_config(
    certificate: &ServerCertificate,
    authority: &Authority,
) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let unreadable = || PkiError::Unreadable("ca.pem".into());
    let ca = CertificateDer::from_pem_slice(authority.pem().as_bytes()).map_err(|_| unreadable())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|_| unreadable())?;
    let (chain, key) = certificate.certified()?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

fn is_current(file: &Path, authority: &Authority, names: &BTreeSet<String>, now: Timestamp) -> bool {
    let facts = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Facts>(&bytes).ok());
    facts.is_some_and(|facts| {
        facts.ca == authority.fingerprint().to_string()
            && facts.names == *names
            && now + RENEW_BEFORE < facts.not_after
    })
}

fn create(
    data_dir: &DataDir,
    authority: &Authority,
    names: &BTreeSet<String>,
    now: Timestamp,
) -> Result<(), PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed("make the server's key"))?;
    let mut params = leaf("Muster server", ExtendedKeyUsagePurpose::ServerAuth, now, LIFE);
    params.subject_alt_names = names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
    params.serial_number = Some(random_serial()?);
    let certificate =
        params.signed_by(&key, &authority.issuer).map_err(failed("sign the server's certificate"))?;
    let facts =
        Facts { ca: authority.fingerprint().to_string(), names: names.clone(), not_after: now + LIFE };
    let facts = serde_json::to_vec_pretty(&facts).expect("texts and numbers are JSON");
    write_secret(&data_dir.join("server.key"), key.serialize_pem().as_bytes())?;
    let chain = format!("{}{}", certificate.pem(), authority.pem());
    write_atomically(&data_dir.join("server.pem"), chain.as_bytes())?;
    // Last, because only these facts make the next start believe key and certificate.
    write_atomically(&data_dir.join("server.json"), &facts)?;
    Ok(())
}

fn alternative_name(name: &str) -> Result<SanType, PkiError> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => name.try_into().map(SanType::DnsName).map_err(failed("put a name into the certificate")),
    }
}

fn read(data_dir: &DataDir) -> Result<ServerCertificate, PkiError> {
    let unreadable = |name: &str| PkiError::Unreadable(data_dir.join(name).display().to_string());
    let key = read_secret(&data_dir.join("server.key"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| unreadable("server.key"))?;
    let chain_pem =
        std::fs::read_to_string(data_dir.join("server.pem")).map_err(|_| unreadable("server.pem"))?;
    Ok(ServerCertificate { chain_pem, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const DEVICE_LIFE: Duration = Duration::from_secs(3_600);

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_certificate_is_kept_until_it_runs_out_soon_or_lacks_a_name() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        let authority = Authority::open(&data_dir, DEVICE_LIFE, NOW).unwrap();
        let open = |wanted: &[&str], now| {
            ServerCertificate::open(&data_dir, &authority, &names(wanted), now).unwrap().chain_pem
        };
        let first = open(&["localhost", "127.0.0.1"], NOW);
        assert_eq!(first, open(&["localhost", "127.0.0.1"], NOW + Duration::from_secs(300 * 86_400)));
        let renewed = open(&["localhost", "127.0.0.1"], NOW + Duration::from_secs(370 * 86_400));
        assert_ne!(first, renewed);
        assert_ne!(renewed, open(&["localhost"], NOW + Duration::from_secs(371 * 86_400)));
    }

    #[test]
    fn key_and_certificate_fit_for_tls() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&root.path().join("data")).unwrap();
        let authority = Authority::open(&data_dir, DEVICE_LIFE, NOW).unwrap();
        let certificate =
            ServerCertificate::open(&data_dir, &authority, &names(&["localhost"]), NOW).unwrap();
        tls_config(&certificate).unwrap();
        mutual_tls_config(&certificate, &authority).unwrap();
    }
}
