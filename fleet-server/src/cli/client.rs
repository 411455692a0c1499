//! Talks to the API, believing only the fleet's own CA.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode, multipart::Form};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Exit, Failure, failure::is_away};
use crate::api::problem::Problem;

/// A server that does not answer within this is not there.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest request: a publication with its gate.
const REQUEST: Duration = Duration::from_secs(600);

/// A client of one server.
pub struct Client {
    http: reqwest::Client,
    server: String,
    token: String,
}

impl Client {
    /// A client for `context`.
    ///
    /// # Errors
    /// When the CA of the context is not a certificate.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&context.ca)?)
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .build()
            .map_err(|error| Failure::new(Exit::Failed, super::chain(&error)))?;
        let server = context.server.trim_end_matches('/').to_owned();
        Ok(Self { http, server, token: context.token.clone() })
    }

    /// Reads something.
    ///
    /// # Errors
    /// As the server says, or when it cannot be reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Failure> {
        self.send(self.request(Method::GET, path).query(query)).await
    }

    /// Reads something that is not JSON.
    ///
    /// # Errors
    /// As the server says, or when it cannot be reached.
    pub async fn get_bytes(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<u8>, Failure> {
        let response = self.answer(self.request(Method::GET, path).query(query)).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(bytes.to_vec())
    }

    /// Sends something.
    ///
    /// # Errors
    /// As the server says, or when it cannot be reached.
    pub async fn send_json<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.send(self.request(method, path).json(body)).await
    }

    /// Sends files.
    ///
    /// # Errors
    /// As the server says, or when it cannot be reached.
    pub async fn send_form<T: DeserializeOwned>(&self, path: &str, form: Form) -> Result<T, Failure> {
        self.send(self.request(Method::POST, path).multipart(form)).await
    }

    /// Does something that has no answer.
    ///
    /// # Errors
    /// As the server says, or when it cannot be reached.
    pub async fn act(&self, method: Method, path: &str) -> Result<(), Failure> {
        self.answer(self.request(method, path)).await.map(|_| ())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1{path}", self.server)).bearer_auth(&self.token)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = self.answer(request).await?;
        // One that ends in the middle is not misunderstood: the server went away.
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::new(Exit::Failed, format!("the server's answer is not understood: {error}"))
                .hint("use a command line of the server's version")
        })
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(refused(status, &response.bytes().await.unwrap_or_default())),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() && !error.is_connect() {
            return Failure::new(Exit::TimedOut, format!("{} did not answer in time", self.server));
        }
        let message = format!("cannot reach {}: {}", self.server, super::chain(error));
        let failure = Failure::new(Exit::Unreachable, message)
            .hint("is the server running, and does the context name its address and its CA?");
        Failure { passes: true, ..failure }
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.into(),
        Err(_) => {
            let failure = Failure::new(Exit::Failed, format!("the server answered {status}"));
            Failure { passes: is_away(status.as_u16()), ..failure }
        }
    }
}

fn tls(ca: &str) -> Result<rustls::ClientConfig, Failure> {
    let wrong = || Failure::usage("the CA of the context is not a certificate");
    let certificate = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|_| wrong())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).map_err(|_| wrong())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
