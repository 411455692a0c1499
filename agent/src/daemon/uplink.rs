//! The link to the server: how it is set up, and where what arrives on it goes.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use agent_core::Input;
use anyhow::Context;
use bytes::Bytes;
use muster_link::{BoxError, Event, Link, LinkOptions, Message, Qos, Refused};
use rustls::pki_types::ServerName;
use shared::{
    Timestamp,
    message::{
        Acknowledgement, DesiredMessage, LimitsDocument, MAX_PACKET_BYTES, MetadataPart, StateMessage, Stream,
    },
    topic::{Channel, Down, Topic, Up},
    trust::Signed,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    fetch::Parts,
    stager::Stager,
    telemetry::courier::{Courier, Letter, Name},
    verify::Newest,
};
use crate::{
    clock::{self, Clock},
    control::{ErrorView, LinkView},
    identity::Identity,
    tls::CurrentTls,
};

/// What the agent proposes. A broker may set another, as ours does with a minute, and that one counts for pings; the
/// link's own patience with a silent server is measured by this one, and covers a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// News of the link that are not inputs of the core.
#[derive(Debug)]
pub(super) enum LinkNews {
    Connected,
    Disconnected,
}

/// Starts the link of an enrolled device.
pub(super) fn start(
    identity: &Identity,
    tls: CurrentTls,
    cancel: CancellationToken,
) -> anyhow::Result<(Link, mpsc::Receiver<Event>)> {
    let (host, port) =
        identity.mqtt.rsplit_once(':').context("identity/device.json: mqtt is not host:port")?;
    let port = port.parse().context("identity/device.json: mqtt is not host:port")?;
    let name = ServerName::try_from(host.to_owned()).context("identity/device.json: mqtt names no host")?;
    let source = move || Ok::<_, BoxError>(tls.load_full());
    let device = &identity.device;
    let mut options = LinkOptions::new(host, port, name, device.as_str(), Arc::new(source));
    options.keep_alive = KEEP_ALIVE;
    options.max_packet_bytes = u32::try_from(MAX_PACKET_BYTES).unwrap_or(u32::MAX);
    options.subscriptions =
        Down::ALL.map(|down| (Topic::down(device.clone(), down).to_string(), qos_of(down))).to_vec();
    options.last_will = Some(Message {
        topic: Topic::up(device.clone(), Up::State).to_string(),
        qos: Qos::AtLeastOnce,
        payload: serde_json::to_vec(&StateMessage::Offline)?.into(),
    });
    Ok(Link::start(options, cancel))
}

fn qos_of(down: Down) -> Qos {
    match down {
        Down::Desired | Down::Acknowledgement => Qos::AtLeastOnce,
        Down::Metadata | Down::Blocks => Qos::AtMostOnce,
    }
}

/// Takes what arrives to whom it concerns.
pub(super) struct Router {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) news: mpsc::Sender<LinkNews>,
    pub(super) newest: Newest,
    pub(super) parts: Parts,
    pub(super) limits: mpsc::Sender<Signed<LimitsDocument>>,
    pub(super) courier: Courier,
    pub(super) stager: Stager,
    pub(super) clock: Clock,
    /// How the link stands, for the operator of the device.
    pub(super) seen: watch::Sender<LinkView>,
}

/// A link that has not come up yet.
pub(super) fn unseen(server: &str, now: Timestamp) -> watch::Sender<LinkView> {
    watch::Sender::new(LinkView { server: server.to_owned(), up: false, since: now, last_error: None })
}

impl Router {
    pub(super) async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            self.see(&event);
            match event {
                Event::Connected => self.tell(LinkNews::Connected).await,
                Event::Disconnected { reason } => {
                    tracing::info!(%reason, "the link to the server is down");
                    self.tell(LinkNews::Disconnected).await;
                }
                Event::Failed { reason } => {
                    let doubt = clock::doubt(&reason, self.clock.now());
                    tracing::info!(%reason, "cannot reach the server; trying again{doubt}");
                }
                Event::Refused { what, reason } => tracing::warn!(?what, %reason, "the server refused"),
                Event::Message { topic, payload } => self.message(&topic, payload).await,
            }
        }
    }

    fn see(&self, event: &Event) {
        let now = self.clock.now();
        let (up, failed) = match event {
            Event::Connected => (true, None),
            Event::Disconnected { reason } | Event::Failed { reason } => (false, Some(reason.clone())),
            Event::Refused { what: Refused::Connect, reason } => (false, Some(format!("refused: {reason}"))),
            Event::Refused { .. } | Event::Message { .. } => return,
        };
        self.seen.send_modify(|view| {
            let since = if view.up == up { view.since } else { now };
            let last_error =
                failed.map(|words| ErrorView { at: now, words }).or_else(|| view.last_error.take());
            *view = LinkView { server: std::mem::take(&mut view.server), up, since, last_error };
        });
    }

    async fn tell(&self, news: LinkNews) {
        let _ = self.news.send(news).await;
    }

    async fn message(&self, topic: &str, payload: Bytes) {
        let Some(Topic { channel: Channel::Down(down), .. }) = Topic::parse(topic) else {
            return tracing::warn!(topic, "a message on a topic that is not ours");
        };
        let read = match down {
            Down::Blocks => {
                self.courier.tell(Letter::Transferred(payload.len() as u64));
                self.stager.frame(payload);
                Ok(())
            }
            Down::Metadata => serde_json::from_slice::<MetadataPart>(&payload).map(|part| {
                // A full queue holds answers to questions that were asked again; this one will be, too.
                let _ = self.parts.try_send(part);
            }),
            Down::Desired => self.desired(&payload).await,
            Down::Acknowledgement => self.acknowledgement(&payload).await,
        };
        if let Err(error) = read {
            tracing::warn!(topic, %error, "a message cannot be read");
        }
    }

    async fn desired(&self, payload: &[u8]) -> Result<(), serde_json::Error> {
        let mut message: DesiredMessage = serde_json::from_slice(payload)?;
        if let Some(limits) = message.limits.take() {
            // A full queue holds some that wait; these come again with the next desired state.
            let _ = self.limits.try_send(limits);
        }
        let generation = message.generation;
        let challengers = message.challengers.as_ref().map(|challengers| challengers.revision);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        let _ = self.inputs.send(Input::DesiredArrived { generation }).await;
        if let Some(revision) = challengers {
            let _ = self.inputs.send(Input::ChallengersArrived { revision }).await;
        }
        Ok(())
    }

    async fn acknowledgement(&self, payload: &[u8]) -> Result<(), serde_json::Error> {
        let Acknowledgement { stream, boot, sequence } = serde_json::from_slice(payload)?;
        match stream {
            Stream::Report => {
                let _ = self.inputs.send(Input::ReportAcknowledged { boot, sequence }).await;
            }
            Stream::Telemetry | Stream::Sketch => {
                self.courier.tell(Letter::Stored(Name { stream, boot, sequence }));
            }
        }
        Ok(())
    }
}
