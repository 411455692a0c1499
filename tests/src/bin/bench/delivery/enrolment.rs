//! Devices join the way agents do: own keys, a signing request, one request to the API.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use shared::{
    DeviceId,
    device::Inventory,
    enroll::{ENROLL_PATH, EnrollRequest, EnrollResponse, EnrollToken},
    trust::Signer,
};
use system_tests::http::Target;

use super::server::Server;

/// A member of the fleet.
pub struct Identity {
    /// Its name.
    pub device: DeviceId,
    /// Where the broker listens.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// Its certificate and the CA it trusts.
    pub tls: Arc<ClientConfig>,
}

/// Joins `count` devices with one token.
pub fn enrol(server: &Server, count: usize) -> anyhow::Result<Vec<Identity>> {
    let token: EnrollToken = server.token(count)?.parse()?;
    let api = server.https()?;
    (1..=count).map(|number| join(&api, &token, &format!("bench-{number}"))).collect()
}

fn join(api: &Target, token: &EnrollToken, name: &str) -> anyhow::Result<Identity> {
    let (device, key) = (DeviceId::new(name)?, KeyPair::generate()?);
    let request = EnrollRequest {
        at: None,
        secret: token.secret.clone(),
        device: Some(device),
        csr_pem: signing_request(name, &key)?,
        report_key: report_key(name)?,
        inventory: Inventory::default(),
    };
    let answer = api.post_json(ENROLL_PATH, &serde_json::to_value(&request)?)?;
    ensure!(answer.status == 201, "{name} was not let in: {answer:?}");
    let response: EnrollResponse = serde_json::from_slice(&answer.body)?;
    let (host, port) = response.mqtt.rsplit_once(':').context("the broker has a port")?;
    let tls = Arc::new(tls_config(&response, &key)?);
    Ok(Identity { device: response.device, host: host.to_owned(), port: port.parse()?, tls })
}

fn signing_request(name: &str, key: &KeyPair) -> anyhow::Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params.serialize_request(key)?.pem()?)
}

/// No device here sends a report, so this key need not be secret, only another one for each.
fn report_key(name: &str) -> anyhow::Result<shared::trust::PublicKey> {
    let mut seed = [0; 32];
    let Some(start) = seed.get_mut(..name.len()) else { bail!("{name} is longer than a seed") };
    start.copy_from_slice(name.as_bytes());
    Ok(Signer::from_seed(&seed).public().clone())
}

fn tls_config(response: &EnrollResponse, key: &KeyPair) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(response.ca_pem.as_bytes())?)?;
    let chain = vec![CertificateDer::from_pem_slice(response.certificate_pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_client_auth_cert(chain, key)?)
}
