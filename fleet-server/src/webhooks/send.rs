//! Posts one delivery.
//!
//! Whoever receives has a bounded time, and only the status of the answer counts: its body is read a little, so that the connection can
//! be used again, and thrown away. Redirects are not followed: what is signed for one address is none of another's.

use std::{
    error::Error as _,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{
    Client, ClientBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
    redirect::Policy,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use shared::Timestamp;
use thiserror::Error;

use super::{
    Envelope, WebhookSecret,
    address::is_here,
    envelope::{self},
};

/// A receiver that does not take a connection within this is not there.
const CONNECT: Duration = Duration::from_secs(5);

/// A receiver answers within this, or the delivery failed. It is to note what came, and to work afterwards.
const ANSWER: Duration = Duration::from_secs(15);

/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 16 * 1_024;

/// Longest description of a failure.
const MAX_DETAIL: usize = 300;

/// Certificates of one file, at most: a CA and those that it was before.
const MAX_CERTIFICATES: usize = 16;

/// Why a delivery did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In which way.
    pub kind: FailureKind,
    /// For people.
    pub detail: String,
    /// How long the receiver wants to be left alone, if it said so.
    pub retry_after: Option<Duration>,
}

/// In which way a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: nobody listens, or who does cannot be trusted.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// An answer that is no success.
    Refused,
    /// The receiver wants no deliveries any more (410).
    Gone,
}

/// Certificates that no connection can be checked with.
#[derive(Debug, Error)]
pub enum BadCertificate {
    /// No PEM, or nothing in it.
    #[error("the CA is no certificate in PEM form: it begins with -----BEGIN CERTIFICATE-----")]
    NoPem,
    /// Too many.
    #[error(
        "the CA file holds more than {MAX_CERTIFICATES} certificates; give the one that signed the receiver's"
    )]
    TooMany,
    /// One that cannot be a CA.
    #[error("a certificate of the CA file cannot be used: {0}")]
    Unusable(String),
    /// The client cannot be made, as on a system without any CA.
    #[error("no client can be made; has this system CAs, as the package ca-certificates brings them?")]
    Client(#[from] reqwest::Error),
}

impl FailureKind {
    /// As it is counted.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }
}

/// Whether a delivery goes through the proxy that the environment names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proxy {
    OfEnvironment,
    /// This machine is reached without one.
    Never,
}

/// Posts to receivers that prove who they are by the system's CAs, or by one of the operator's.
#[derive(Debug, Clone)]
pub struct Sender(Client);

impl Sender {
    /// A sender to `url` that believes the CA in `ca_pem` and no other, or those of the system.
    ///
    /// # Errors
    /// When there is no usable certificate in `ca_pem`, or on this system.
    pub fn new(url: &str, ca_pem: Option<&str>) -> Result<Self, BadCertificate> {
        let proxy = if is_here(url) { Proxy::Never } else { Proxy::OfEnvironment };
        match ca_pem {
            Some(pem) => Self::believing(roots(pem)?, proxy),
            // Nobody there proves anything, and a system without CAs may post there.
            None if url.starts_with("http:") => Self::believing(RootCertStore::empty(), proxy),
            None => Self::believing_the_system(proxy),
        }
    }

    /// Made once for all that are elsewhere, and once for all that are here: finding the CAs of the system takes a while. What failed is tried
    /// again, since somebody may install them.
    fn believing_the_system(proxy: Proxy) -> Result<Self, BadCertificate> {
        static ELSEWHERE: OnceLock<Sender> = OnceLock::new();
        static HERE: OnceLock<Sender> = OnceLock::new();
        let sender = match proxy {
            Proxy::OfEnvironment => &ELSEWHERE,
            Proxy::Never => &HERE,
        };
        if let Some(made) = sender.get() {
            return Ok(made.clone());
        }
        // The client finds the CAs by itself, and then asks the process for its cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = Self(builder(proxy).build()?);
        Ok(sender.get_or_init(|| made).clone())
    }

    fn believing(roots: RootCertStore, proxy: Proxy) -> Result<Self, BadCertificate> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(builder(proxy).tls_backend_preconfigured(tls).build()?))
    }

    /// Posts a delivery at `now`. Success is any status from 200 to 299, which is returned.
    ///
    /// # Errors
    /// Why it did not arrive.
    pub async fn post(
        &self,
        url: &str,
        secret: &WebhookSecret,
        envelope: &Envelope,
        now: Timestamp,
    ) -> Result<u16, Failure> {
        let signed = secret.sign(&envelope.id, now, &envelope.body);
        let request = self
            .0
            .post(url)
            .header(CONTENT_TYPE, envelope::CONTENT_TYPE)
            .header(USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &envelope.id)
            .header("webhook-timestamp", signed.timestamp)
            .header("webhook-signature", signed.signature)
            .body(envelope.body.clone());
        let response = request.send().await.map_err(|error| Failure::of(&error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        drain(response).await;
        if status.is_success() { Ok(status.as_u16()) } else { Err(refused(status, retry_after)) }
    }
}

impl Failure {
    /// Nothing could be posted from here.
    #[must_use]
    pub fn of_ours(error: &BadCertificate) -> Self {
        let detail = error.to_string().chars().take(MAX_DETAIL).collect();
        Self { kind: FailureKind::Unreachable, detail, retry_after: None }
    }

    fn of(error: &reqwest::Error) -> Self {
        let kind = if error.is_timeout() { FailureKind::TimedOut } else { FailureKind::Unreachable };
        // The innermost cause says what went wrong; the outermost repeats the address, which may hold a key.
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let detail = match kind {
            FailureKind::TimedOut => format!("no answer within {} s", ANSWER.as_secs()),
            _ if error.source().is_none() => "no connection".to_owned(),
            _ => format!("no connection: {cause}"),
        };
        Self { kind, detail: detail.chars().take(MAX_DETAIL).collect(), retry_after: None }
    }
}

fn refused(status: StatusCode, retry_after: Option<Duration>) -> Failure {
    let kind = if status == StatusCode::GONE { FailureKind::Gone } else { FailureKind::Refused };
    let hint = if status.is_redirection() { "; redirects are not followed" } else { "" };
    Failure { kind, detail: format!("the receiver answered {status}{hint}"), retry_after }
}

/// In seconds; a date would be compared with another clock.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// An answer that goes on is cut off, and its connection with it.
async fn drain(mut response: Response) {
    let mut read = 0;
    while read < MAX_ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

fn builder(proxy: Proxy) -> ClientBuilder {
    let builder = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT).timeout(ANSWER);
    match proxy {
        Proxy::OfEnvironment => builder,
        Proxy::Never => builder.no_proxy(),
    }
}

fn roots(pem: &str) -> Result<RootCertStore, BadCertificate> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        if number == MAX_CERTIFICATES {
            return Err(BadCertificate::TooMany);
        }
        roots.add(certificate.map_err(|_| BadCertificate::NoPem)?).map_err(unusable)?;
    }
    if roots.is_empty() { Err(BadCertificate::NoPem) } else { Ok(roots) }
}

fn unusable(error: rustls::Error) -> BadCertificate {
    BadCertificate::Unusable(error.to_string())
}

#[cfg(test)]
mod tests;
