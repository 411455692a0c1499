//! A certificate authority, a broker with a sink that remembers, and devices with real links.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report of a test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use muster::broker::{
    Admission, BoxError, Broker, BrokerLimits, EmbeddedBroker, Peer, Sink, SinkError, Verdict,
};
use muster_link::{Backoff, Event, Link, LinkOptions, Qos};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use shared::DeviceId;
use shared::topic::{Down, Topic, Up};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for what must happen.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it happens before the deadline")
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// A certificate authority for one test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    pub fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone()).build().unwrap();
        let (chain, key) = self.issue("server");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }

    pub fn client(&self, name: &str) -> Arc<ClientConfig> {
        let (chain, key) = self.issue(name);
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

/// What the sink heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Message(DeviceId, Up, Bytes),
    Connected(DeviceId),
    Subscribed(DeviceId, Vec<Down>),
    Disconnected(DeviceId),
}

/// Remembers everything; keeps a message only when it has a permit to, and fails when told so.
pub struct Memory {
    heard: mpsc::UnboundedSender<Heard>,
    pub permits: Semaphore,
    pub fails: AtomicBool,
}

impl Memory {
    fn hear(&self, heard: Heard) {
        // A test that does not listen does not care.
        let _ = self.heard.send(heard);
    }
}

impl Sink for Memory {
    fn on_message<'a>(
        &'a self,
        device: &'a DeviceId,
        up: Up,
        payload: Bytes,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.hear(Heard::Message(device.clone(), up, payload));
            self.permits.acquire().await.unwrap().forget();
            if self.fails.load(Ordering::SeqCst) { Err(SinkError("the disk is full".into())) } else { Ok(()) }
        })
    }

    fn on_connect<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, ()> {
        Box::pin(async { self.hear(Heard::Connected(device.clone())) })
    }

    fn on_subscribe<'a>(&'a self, device: &'a DeviceId, down: Vec<Down>) -> BoxFuture<'a, ()> {
        Box::pin(async { self.hear(Heard::Subscribed(device.clone(), down)) })
    }

    fn on_disconnect<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, ()> {
        Box::pin(async { self.hear(Heard::Disconnected(device.clone())) })
    }
}

/// Admits everyone but those named.
#[derive(Default)]
pub struct Door {
    pub banned: Mutex<Vec<DeviceId>>,
}

impl Admission for Door {
    fn admit<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Verdict, BoxError>> {
        let banned = self.banned.lock().unwrap().contains(&peer.device);
        Box::pin(std::future::ready(Ok(if banned { Verdict::Refused } else { Verdict::Admitted })))
    }
}

/// A running broker with everything around it.
pub struct World {
    pub authority: Authority,
    pub broker: EmbeddedBroker,
    pub sink: Arc<Memory>,
    pub door: Arc<Door>,
    pub heard: mpsc::UnboundedReceiver<Heard>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(BrokerLimits::default()).await
    }

    pub async fn with(limits: BrokerLimits) -> Self {
        let authority = Authority::new();
        let (sender, heard) = mpsc::unbounded_channel();
        let permits = Semaphore::new(Semaphore::MAX_PERMITS / 2);
        let sink = Arc::new(Memory { heard: sender, permits, fails: AtomicBool::new(false) });
        let door = Arc::new(Door::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker =
            EmbeddedBroker::start(listener, authority.server(), limits, sink.clone(), door.clone()).unwrap();
        Self { authority, broker, sink, door, heard }
    }

    /// Stops the broker and starts another one on the same port.
    pub async fn restart(&mut self) {
        let address = self.broker.address();
        soon(self.broker.stop()).await;
        let listener = TcpListener::bind(address).await.unwrap();
        self.broker = EmbeddedBroker::start(
            listener,
            self.authority.server(),
            BrokerLimits::default(),
            self.sink.clone(),
            self.door.clone(),
        )
        .unwrap();
    }

    /// Options of a well-behaved device.
    pub fn options(&self, name: &str) -> LinkOptions {
        let config = self.authority.client(name);
        let tls = Arc::new(move || Ok(config.clone()));
        let port = self.broker.address().port();
        let server_name = ServerName::try_from("localhost").unwrap();
        let mut options = LinkOptions::new("127.0.0.1", port, server_name, name, tls);
        options.backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(200) };
        options.subscriptions = Down::ALL.map(|down| (down_topic(name, down), Qos::AtLeastOnce)).to_vec();
        options
    }

    /// A connected, subscribed device.
    pub async fn device(&self, name: &str) -> Device {
        let mut device = Device::start(self.options(name));
        device.expect(Event::Connected).await;
        device
    }

    /// The next thing heard that `pick` takes.
    pub async fn hear<T>(&mut self, pick: impl Fn(Heard) -> Option<T>) -> T {
        soon(async {
            loop {
                let heard = self.heard.recv().await.expect("the sink lives");
                if let Some(picked) = pick(heard) {
                    return picked;
                }
            }
        })
        .await
    }

    pub async fn hear_message(&mut self) -> (DeviceId, Up, Bytes) {
        self.hear(|heard| match heard {
            Heard::Message(device, up, payload) => Some((device, up, payload)),
            _ => None,
        })
        .await
    }

    pub async fn hear_exactly(&mut self, expected: Heard) {
        self.hear(|heard| (heard == expected).then_some(())).await;
    }
}

/// A device's link with its events.
pub struct Device {
    pub link: Link,
    pub events: mpsc::Receiver<Event>,
    pub cancel: CancellationToken,
}

impl Device {
    pub fn start(options: LinkOptions) -> Self {
        let cancel = CancellationToken::new();
        let (link, events) = Link::start(options, cancel.clone());
        Self { link, events, cancel }
    }

    pub async fn next(&mut self) -> Event {
        soon(self.events.recv()).await.expect("the link lives")
    }

    pub async fn expect(&mut self, expected: Event) {
        assert_eq!(self.next().await, expected);
    }

    /// Skips events until `expected`.
    pub async fn until(&mut self, expected: &Event) {
        while self.next().await != *expected {}
    }
}

pub fn up_topic(name: &str, up: Up) -> String {
    Topic::up(device(name), up).to_string()
}

pub fn down_topic(name: &str, down: Down) -> String {
    Topic::down(device(name), down).to_string()
}
