//! `muster-agent enroll TOKEN`: from one string to a member of the fleet.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use shared::{
    DeviceId, Digest, Timestamp,
    enroll::{ENROLL_PATH, EnrollRequest, EnrollResponse, EnrollToken},
};

use crate::{
    clock::Clock,
    config::Config,
    disk, health,
    identity::{Identity, NewKeys},
    tls,
};

/// The whole exchange takes one round trip; a server that needs longer is not there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What of a problem report (RFC 9457) is worth telling.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
    hint: Option<String>,
}

/// Enrols this device and returns the name it got.
///
/// # Errors
/// When the token is not one, the device is enrolled already, the server is not the one that the token names,
/// or it refuses. Nothing is written then.
pub async fn enroll(config: &Config, token: &str, device: Option<DeviceId>) -> anyhow::Result<DeviceId> {
    let token: EnrollToken = token.parse()?;
    if Identity::exists(&config.data_dir) {
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
        csr_pem: signing_request(&keys, device.as_ref())?,
        device,
        report_key: keys.report.public().clone(),
        inventory: health::inventory(&config.data_dir),
    };
    let response = ask(&token, &request).await?;
    check_ca(&token, &response)?;
    Identity::create(&config.data_dir, &keys, &response)?;
    Ok(response.device)
}

/// The server puts the name into the certificate; what the request says of it is a wish.
fn signing_request(keys: &NewKeys, device: Option<&DeviceId>) -> anyhow::Result<String> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = device.map_or("unnamed", DeviceId::as_str);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let request = params.serialize_request(&keys.tls).context("cannot make a signing request")?;
    request.pem().context("cannot write the signing request")
}

async fn ask(token: &EnrollToken, request: &EnrollRequest) -> anyhow::Result<EnrollResponse> {
    let tls = tls::pinned_config(token.ca, Clock::start(Timestamp(0)))?;
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(TIMEOUT).no_proxy().build()?;
    let url = format!("{}{ENROLL_PATH}", token.url);
    let answer = client
        .post(&url)
        .json(request)
        .send()
        .await
        .map_err(|error| unreachable_server(&token.url, error))?;
    if answer.status().is_success() {
        return answer.json().await.context("the server's answer is not an enrolment");
    }
    let status = answer.status();
    let problem: Problem = answer.json().await.unwrap_or(Problem { detail: None, title: None, hint: None });
    let what = problem.detail.or(problem.title).unwrap_or_else(|| status.to_string());
    Err(match problem.hint {
        Some(hint) => anyhow!("the server refused: {what}; {hint}"),
        None => anyhow!("the server refused: {what}"),
    })
}

/// A wrong clock shows first here, as a certificate that seems to lie in the past or the future.
fn unreachable_server(url: &str, error: reqwest::Error) -> anyhow::Error {
    let now = jiff::Timestamp::now();
    let text = format!("{:#}", anyhow!(error));
    let hint = if text.contains("NotValidYet")
        || text.contains("Expired")
        || text.contains("expired")
        || text.contains("not valid yet")
    {
        format!("; this device's clock says {now}: is it right?")
    } else {
        String::new()
    };
    anyhow!("cannot reach the server at {url}: {text}{hint}")
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
