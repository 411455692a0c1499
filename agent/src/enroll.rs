//! `muster-agent enroll TOKEN`: from one string to a member of the fleet.

use agent_store::disk;
use anyhow::{Context, bail};
use shared::{
    DeviceId, Digest, Timestamp,
    enroll::{ENROLL_PATH, EnrollRequest, EnrollResponse, EnrollToken},
};

use crate::{
    api,
    clock::{self, Clock},
    config::Config,
    health,
    identity::{Identity, NewKeys},
    tls,
};

/// What the server makes of the clock of a device that enrols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockCheck {
    /// It must agree with the server's.
    Enforced,
    /// The device has none that keeps time; it lives with what signed metadata tells it.
    Waived,
}

/// Enrols this device and returns the name it got.
///
/// # Errors
/// When the token is not one, the device is enrolled already, the server is not the one that the token names,
/// or it refuses, also because of a wrong clock. Nothing is written then, and the token is not used.
pub async fn enroll(
    config: &Config,
    token: &str,
    device: Option<DeviceId>,
    clock_check: ClockCheck,
) -> anyhow::Result<DeviceId> {
    let token: EnrollToken = token.parse()?;
    if Identity::exists(&config.data_dir)? {
        bail!(
            "{} already holds an identity; remove it to enrol this device again",
            config.data_dir.display()
        );
    }
    disk::private_dir(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let keys = NewKeys::generate()?;
    let request = EnrollRequest {
        secret: token.secret.clone(),
        csr_pem: signing_request(&keys.tls, device.as_ref())?,
        device,
        report_key: keys.report.public().clone(),
        inventory: health::inventory(&config.data_dir, None),
        at: match clock_check {
            ClockCheck::Enforced => Some(clock::system_now()),
            ClockCheck::Waived => None,
        },
    };
    let tls = tls::pinned_config(token.ca, Clock::start(Timestamp(0)))?;
    let response: EnrollResponse = api::post(tls, &token.url, ENROLL_PATH, &request).await?;
    check_ca(&token, &response)?;
    Identity::create(&config.data_dir, &keys, &token.url, &response)?;
    Ok(response.device)
}

/// The server puts the name into the certificate; what the request says of it is a wish.
pub(crate) fn signing_request(key: &rcgen::KeyPair, device: Option<&DeviceId>) -> anyhow::Result<String> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = device.map_or("unnamed", DeviceId::as_str);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let request = params.serialize_request(key).context("cannot make a signing request")?;
    request.pem().context("cannot write the signing request")
}

fn check_ca(token: &EnrollToken, response: &EnrollResponse) -> anyhow::Result<()> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let ca = CertificateDer::from_pem_slice(response.ca_pem.as_bytes())
        .context("the server's CA certificate is damaged")?;
    if Digest::of(&ca) != token.ca {
        bail!("the server sent another CA than the one that the token names");
    }
    Ok(())
}
