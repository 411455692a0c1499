//! A receiver of webhooks that keeps what it gets and answers as it is told.

use std::{
    convert::Infallible,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use axum_server::tls_rustls::RustlsConfig;
use futures_util::stream;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tokio::task::JoinHandle;

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(60);

/// How the receiver answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// With a redirect.
    Redirect(String),
    /// With a success whose body does not end.
    Endless,
    /// Not at all.
    Never,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Delivery {
    headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Delivery {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug)]
struct Desk {
    answer: Mutex<Answer>,
    seen: Mutex<Vec<Delivery>>,
}

/// A receiver on a free port.
pub struct Receiver {
    desk: Arc<Desk>,
    url: String,
    ca: Option<String>,
    serving: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Receiver {
    pub async fn start() -> Self {
        let (listener, desk) = (listener(), desk());
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = router(desk.clone());
        let server = axum_server::from_tcp(listener).unwrap();
        let serving = tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        Self { desk, url, ca: None, serving }
    }

    /// With a certificate of a CA that nobody knows.
    pub async fn start_tls() -> Self {
        let (listener, desk) = (listener(), desk());
        let url = format!("https://localhost:{}/hook", listener.local_addr().unwrap().port());
        let (ca, certificate, key) = certificate();
        let tls = tls(&certificate, &key);
        let router = router(desk.clone());
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        let serving = tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        Self { desk, url, ca: Some(ca), serving }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its CA, as PEM.
    pub fn ca(&self) -> &str {
        self.ca.as_deref().unwrap()
    }

    /// How it answers from now on.
    pub fn answers(&self, answer: Answer) {
        *self.desk.answer.lock().unwrap() = answer;
    }

    /// Everything that came.
    pub fn seen(&self) -> Vec<Delivery> {
        self.desk.seen.lock().unwrap().clone()
    }

    /// What came before is not counted.
    pub fn forget(&self) {
        self.desk.seen.lock().unwrap().clear();
    }

    /// Waits for so many.
    pub async fn until(&self, count: usize) -> Vec<Delivery> {
        until(&format!("{count} deliveries came"), async || self.seen().len() >= count).await;
        self.seen()
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn desk() -> Arc<Desk> {
    Arc::new(Desk { answer: Mutex::new(Answer::Status(200)), seen: Mutex::new(vec![]) })
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new().fallback(receive).with_state(desk)
}

async fn receive(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    desk.seen.lock().unwrap().push(Delivery { headers, body: body.to_vec() });
    let answer = desk.answer.lock().unwrap().clone();
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response(),
        Answer::Endless => {
            let more = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1_024])));
            Body::from_stream(more).into_response()
        }
        Answer::Never => std::future::pending().await,
    }
}

/// A CA, a certificate for this machine that it signed, and the key of that; as PEM.
pub fn certificate() -> (String, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issuer = Issuer::from_params(&params, &ca_key);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    (ca.pem(), certificate.pem(), key.serialize_pem())
}

fn tls(certificate: &str, key: &str) -> RustlsConfig {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    RustlsConfig::from_config(Arc::new(config))
}
