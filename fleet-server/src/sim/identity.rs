//! How a virtual device joins the fleet and shows who it is: as an agent does, with keys of its own, over the same
//! requests. Only the files are missing: keys live in memory and end with the run.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
};
use shared::{
    DeviceId, Digest,
    device::Inventory,
    enroll::{ENROLL_PATH, EnrollRequest, EnrollResponse, EnrollToken},
    trust::{DIRECTOR_MEMBER, Envelope, KeySet, Signer},
};

use crate::api::problem::Problem;

/// Where devices are let in.
pub(super) struct Door {
    http: reqwest::Client,
    token: EnrollToken,
}

/// A member of the fleet.
pub(super) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    /// Signs reports.
    pub(super) signer: Signer,
}

/// What every device of a fleet is told when it joins.
pub(super) struct Fleet {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: ServerName<'static>,
    /// Whose word counts for what a device shall run.
    pub(super) director: KeySet,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Door {
    /// The door that `token` opens. `ca` is the fleet's CA as PEM, which must be the one that the token names.
    pub(super) fn new(token: &str, ca: &str) -> anyhow::Result<Self> {
        let token: EnrollToken = token.parse()?;
        let certificate = CertificateDer::from_pem_slice(ca.as_bytes()).context("the CA is damaged")?;
        ensure!(
            Digest::of(&certificate) == token.ca,
            "the enrolment token names another CA than the context"
        );
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build()?;
        Ok(Self { http, token })
    }

    /// Lets one device in.
    pub(super) async fn join(
        &self,
        device: &DeviceId,
        inventory: Inventory,
    ) -> anyhow::Result<(Identity, EnrollResponse)> {
        let (key, signer) = (KeyPair::generate()?, new_signer()?);
        let request = EnrollRequest {
            secret: self.token.secret.clone(),
            device: Some(device.clone()),
            csr_pem: signing_request(device, &key)?,
            report_key: signer.public().clone(),
            inventory,
            // A wrong clock is a matter of the story, not of the door.
            at: None,
        };
        let url = format!("{}{ENROLL_PATH}", self.token.url.trim_end_matches('/'));
        let answer = self.http.post(url).json(&request).send().await?;
        if !answer.status().is_success() {
            let problem: Problem =
                answer.json().await.context("the server refused in no words of its own")?;
            anyhow::bail!("{device} was not let in: {}", problem.detail);
        }
        let response: EnrollResponse = answer.json().await?;
        ensure!(response.device == *device, "{device} was given the name {}", response.device);
        let certificate = CertificateDer::from_pem_slice(response.certificate_pem.as_bytes())?;
        Ok((Identity { certificate, key: key.serialize_der().into(), signer }, response))
    }
}

impl Fleet {
    /// The fleet as `response` tells of it.
    pub(super) fn of(response: &EnrollResponse) -> anyhow::Result<Self> {
        let (host, port) = response.mqtt.rsplit_once(':').context("the broker's address has no port")?;
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().context("the broker's address has no port")?,
            name: ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?,
            director: director(&response.root)?,
            roots: roots(&response.ca_pem)?,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        })
    }

    /// TLS of one connection of a device. Nothing is kept for a next one: what thousands of devices remember would be
    /// most of their memory.
    pub(super) fn tls(&self, identity: &Identity) -> anyhow::Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key().into())?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn roots(ca: &str) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).context("the CA is damaged")?)?;
    Ok(Arc::new(roots))
}

/// The director's keys, which the root metadata names.
fn director(root: &Envelope) -> anyhow::Result<KeySet> {
    let keys = root.signed.get(DIRECTOR_MEMBER).context("the root metadata names no director")?;
    serde_json::from_value(keys.clone()).context("the director's keys in the root metadata cannot be read")
}

fn signing_request(device: &DeviceId, key: &KeyPair) -> anyhow::Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, device.as_str());
    Ok(params.serialize_request(key)?.pem()?)
}

fn new_signer() -> anyhow::Result<Signer> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness for a key: {error}"))?;
    Ok(Signer::from_seed(&seed))
}
