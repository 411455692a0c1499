//! The link of an agent without the agent: it says what a test wants said, as often as the test wants, and comes back
//! within milliseconds instead of minutes.
//!
//! It takes the identity of a [`Device`] that was enrolled and is not run.

use std::{fs, sync::Arc, time::Duration};

use muster_link::{Backoff, Deadlines, Event, Link, LinkBytes, LinkOptions, Qos};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use shared::{
    DeviceId,
    message::{Acknowledgement, StateMessage, Stream},
    report::Report,
    telemetry::Telemetry,
    topic::{Down, Topic, Up},
    trust::{Signed, Signer},
};
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{device::Device, wait::PATIENCE};

/// How long an attempt may take, and how soon the next one follows.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(40) };

/// Short, so that a connection that hangs costs little.
const DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(2),
    handshake: Duration::from_millis(1_500),
    subscribe: Duration::from_millis(1_500),
    stall: Duration::from_secs(2),
    goodbye: Duration::from_millis(500),
};

/// The least that the client takes; silence is noticed after two of these and the stall.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Who a device is, as it was enrolled.
pub struct Identity {
    /// Its name.
    pub id: DeviceId,
    /// What signs its reports.
    pub signer: Signer,
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
}

/// A connected device that does nothing by itself.
pub struct BareDevice {
    id: DeviceId,
    signer: Signer,
    link: Link,
    events: mpsc::Receiver<Event>,
    /// Dropped last.
    runtime: Runtime,
}

impl BareDevice {
    /// The link of `device`, which was enrolled.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        let identity = Identity::of(device);
        let runtime = Runtime::new().expect("threads are plenty");
        let guard = runtime.enter();
        let (link, events) = identity.connect(&[Down::Acknowledgement]);
        drop(guard);
        let Identity { id, signer, .. } = identity;
        Self { id, signer, link, events, runtime }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// Bytes over all its connections.
    #[must_use]
    pub fn bytes(&self) -> LinkBytes {
        self.link.bytes()
    }

    /// Leaves a window of figures to be sent; waits only for room.
    pub fn say_telemetry(&self, telemetry: &Telemetry) {
        self.say(Up::Telemetry, serde_json::to_vec(telemetry).expect("JSON"));
    }

    /// Leaves a report, signed, to be sent.
    pub fn say_report(&self, report: &Report) {
        let signed = Signed::sign(report, &[&self.signer]).expect("a report can be signed");
        self.say(Up::State, serde_json::to_vec(&StateMessage::Report(signed)).expect("JSON"));
    }

    fn say(&self, up: Up, payload: Vec<u8>) {
        let topic = Topic::up(self.id.clone(), up).to_string();
        let left = self.link.publish(topic, Qos::AtLeastOnce, payload.into());
        self.runtime.block_on(left).expect("the link takes messages");
    }

    /// Waits for the next acknowledgement of the server itself, which follows its commit.
    #[track_caller]
    pub fn acknowledged(&mut self) -> (Stream, u64) {
        let events = &mut self.events;
        self.runtime.block_on(async {
            loop {
                let event = timeout(PATIENCE * 2, events.recv()).await.expect("an answer in time");
                let Some(Event::Message { payload, .. }) = event else { continue };
                let told: Acknowledgement = serde_json::from_slice(&payload).expect("an acknowledgement");
                return (told.stream, told.sequence);
            }
        })
    }

    /// Waits until everything that was left is with the server, and says goodbye.
    pub fn finish(self) {
        self.runtime.block_on(self.link.stop(PATIENCE * 4));
    }
}

impl Identity {
    /// What `device` was given when it was enrolled.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        let identity = device.data_dir().join("identity");
        let text = |name: &str| fs::read_to_string(identity.join(name)).expect("the device is enrolled");
        let facts: Value = serde_json::from_str(&text("device.json")).expect("JSON");
        let (host, port) = facts["mqtt"].as_str().and_then(|mqtt| mqtt.rsplit_once(':')).expect("host:port");
        Self {
            id: DeviceId::new(facts["device"].as_str().expect("a name")).expect("a device"),
            signer: Signer::from_pem(&text("report.key.pem")).expect("a key"),
            host: host.to_owned(),
            port: port.parse().expect("a port"),
            tls: Arc::new(tls(&text("ca.pem"), &text("tls.pem"))),
        }
    }

    /// A link that listens on these topics. It needs a runtime around it.
    #[must_use]
    pub fn connect(&self, down: &[Down]) -> (Link, mpsc::Receiver<Event>) {
        let tls = Arc::clone(&self.tls);
        let name = ServerName::try_from(self.host.clone()).expect("a host");
        let source = Arc::new(move || Ok(Arc::clone(&tls)));
        let mut options = LinkOptions::new(&self.host, self.port, name, self.id.as_str(), source);
        let topic = |down: &Down| (Topic::down(self.id.clone(), *down).to_string(), Qos::AtLeastOnce);
        options.subscriptions = down.iter().map(topic).collect();
        (options.backoff, options.deadlines, options.keep_alive) = (BACKOFF, DEADLINES, KEEP_ALIVE);
        Link::start(options, CancellationToken::new())
    }
}

fn tls(ca: &str, own: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("a CA")).expect("a CA");
    let chain = vec![CertificateDer::from_pem_slice(own.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(own.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots);
    config.with_client_auth_cert(chain, key).expect("key and certificate belong together")
}
