//! A device with a real connection that does as it is told by the test.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use muster_link::{Backoff, Event, Link, LinkOptions, Qos};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use shared::{
    BootId, DeviceId, Digest, Generation, ReleaseId, Timestamp,
    device::Inventory,
    message::{DesiredMessage, DirectorDocument, Hello, MetadataPart, Request, StateMessage},
    report::{DeploymentEvent, ModelState, Report},
    telemetry::Telemetry,
    topic::{Channel, Down, Topic, Up},
    trust::{Signed, Signer},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::World;

/// Far beyond anything that should happen, so that only a hang runs into it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A device that does as it is told by the test.
pub struct Device {
    pub id: DeviceId,
    pub link: Link,
    events: mpsc::Receiver<Event>,
    /// What its reports are about.
    pub release: ReleaseId,
    signer: Signer,
    sequence: u64,
}

impl Device {
    /// Enrols over HTTP and connects over MQTT.
    pub async fn join(world: &World, name: &str) -> Self {
        let token = world.enroll_token(1).await;
        let (joined, key) = world.enroll_with_key(&token, name).await;
        let pem = |field: &str| joined[field].as_str().unwrap().to_owned();
        let ca = CertificateDer::from_pem_slice(pem("ca_pem").as_bytes()).unwrap();
        assert_eq!(Digest::of(&ca), token.ca, "the token pins the CA");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem("certificate_pem").as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], PrivateKeyDer::try_from(key).unwrap())
            .unwrap();
        let tls = Arc::new(tls);
        let (_, port) = joined["mqtt"].as_str().unwrap().rsplit_once(':').unwrap();
        let server_name = ServerName::try_from("localhost").unwrap();
        let source = Arc::new(move || Ok(tls.clone()));
        let mut options = LinkOptions::new("127.0.0.1", port.parse().unwrap(), server_name, name, source);
        options.backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(200) };
        let id = DeviceId::new(name).unwrap();
        let topic = |down| (Topic::down(id.clone(), down).to_string(), Qos::AtLeastOnce);
        options.subscriptions = Down::ALL.map(topic).to_vec();
        let (link, events) = Link::start(options, CancellationToken::new());
        let mut device =
            Self { id, link, events, release: release(), signer: Signer::from_seed(&[7; 32]), sequence: 0 };
        device.until_connected().await;
        device
    }

    pub async fn until_connected(&mut self) {
        while !matches!(self.event().await, Event::Connected) {}
    }

    pub async fn event(&mut self) -> Event {
        tokio::time::timeout(DEADLINE, self.events.recv()).await.expect("in time").expect("the link lives")
    }

    pub async fn receive(&mut self, wanted: Down) -> Bytes {
        loop {
            if let Event::Message { topic, payload } = self.event().await
                && let Some(topic) = Topic::parse(&topic)
                && topic.channel == Channel::Down(wanted)
            {
                return payload;
            }
        }
    }

    pub async fn send<T: serde::Serialize>(&self, up: Up, message: &T) {
        let topic = Topic::up(self.id.clone(), up).to_string();
        self.link
            .publish(topic, Qos::AtLeastOnce, serde_json::to_vec(message).unwrap().into())
            .await
            .unwrap();
    }

    /// Says hello, with a clock that is right, and returns what it shall run.
    pub async fn hello(&mut self) -> DirectorDocument {
        self.hello_at(now()).await
    }

    /// Says hello at `at` by its own clock.
    pub async fn hello_at(&mut self, at: Timestamp) -> DirectorDocument {
        self.say(at, Generation(0), vec![]).await
    }

    /// Says hello as one that took in `generation` and has `models`.
    pub async fn hello_with(&mut self, generation: Generation, models: Vec<ModelState>) -> DirectorDocument {
        self.say(now(), generation, models).await
    }

    async fn say(
        &mut self,
        at: Timestamp,
        generation: Generation,
        models: Vec<ModelState>,
    ) -> DirectorDocument {
        let inventory = Inventory { engines: vec!["tract-onnx 0.23.9".into()], ..Inventory::default() };
        let (limits_revision, challengers_revision) = (0, 0);
        let hello =
            Hello { boot: boot(), at, generation, inventory, models, limits_revision, challengers_revision };
        self.send(Up::State, &StateMessage::Hello(Box::new(hello))).await;
        self.desired().await
    }

    pub async fn desired(&mut self) -> DirectorDocument {
        let message: DesiredMessage = serde_json::from_slice(&self.receive(Down::Desired).await).unwrap();
        let envelope: Value = serde_json::from_slice(&message.director.to_vec()).unwrap();
        serde_json::from_value(envelope["signed"].clone()).unwrap()
    }

    pub async fn until_generation(&mut self, generation: u64) -> DirectorDocument {
        loop {
            let desired = self.desired().await;
            if desired.generation.0 >= generation {
                return desired;
            }
        }
    }

    pub fn report(&mut self, generation: Generation, event: DeploymentEvent) -> Report {
        self.sequence += 1;
        Report {
            device: self.id.clone(),
            boot: boot(),
            sequence: self.sequence,
            at: now(),
            generation,
            release: self.release.clone(),
            event,
        }
    }

    /// Reports and waits for the server's own acknowledgement.
    pub async fn tell(&mut self, generation: Generation, event: DeploymentEvent) {
        let report = self.report(generation, event);
        let sequence = report.sequence;
        let signed = Signed::sign(&report, &[&self.signer]).unwrap();
        self.send(Up::State, &StateMessage::Report(signed)).await;
        let acknowledged: Value = serde_json::from_slice(&self.receive(Down::Acknowledgement).await).unwrap();
        assert_eq!(
            (acknowledged["stream"].clone(), acknowledged["sequence"].clone()),
            (json!("report"), json!(sequence))
        );
    }

    /// Sends figures and waits for the server's own acknowledgement.
    pub async fn send_telemetry(&mut self, telemetry: &Telemetry) {
        self.send(Up::Telemetry, telemetry).await;
        let acknowledged: Value = serde_json::from_slice(&self.receive(Down::Acknowledgement).await).unwrap();
        assert_eq!(acknowledged["stream"], "telemetry");
    }

    pub async fn file(&mut self, name: &str) -> Vec<u8> {
        let mut file = Vec::new();
        loop {
            let request = Request::Metadata { name: name.into(), offset: file.len() as u64 };
            self.send(Up::Request, &request).await;
            let part: MetadataPart = serde_json::from_slice(&self.receive(Down::Metadata).await).unwrap();
            file.extend(part.bytes);
            if file.len() as u64 >= part.total_bytes.expect("the file exists") {
                return file;
            }
        }
    }
}

pub fn boot() -> BootId {
    BootId::new("boot-1").unwrap()
}

pub fn release() -> ReleaseId {
    "digits@1".parse().unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::default() + SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
