//! An MQTT 5 session over mutual TLS that costs one descriptor and little memory.
//!
//! Agents use `muster-link`, which gives each its own socket pair, tasks and queues: right for one device, too much for
//! ten thousand in one process. Here the packets of the same client library are read and written directly, and one task
//! owns device and session. What stays the same is what the server sees: the handshake, the topics, the qualities of
//! service, the receive maximum, acknowledgements in order, a will.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::{
    self, QoS,
    v5::{
        Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, LastWill,
        Packet, PingReq, PubAck, Publish, Subscribe, SubscribeReasonCode,
    },
};
use shared::{
    DeviceId,
    message::{MAX_PACKET_BYTES, StateMessage},
    topic::{Down, Topic, Up},
};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::identity::{Fleet, Identity};

/// From the first packet of TCP to the granted subscriptions; a server that greets thousands takes its time.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// A write that makes no progress for this long has nobody at its other end.
const WRITE_WITHIN: Duration = Duration::from_secs(20);

/// What we propose; the server's own wins, as MQTT 5 has it.
const KEEP_ALIVE_SECS: u16 = 60;

/// Unacknowledged messages in either direction, as agents allow.
const IN_FLIGHT: u16 = 16;

/// Room for the next bytes of an idle session: most messages fit, and ten thousand such buffers are ten megabytes.
const READ_BYTES: usize = 1_024;

/// Why there is no session any more.
#[derive(Debug, Error)]
pub(super) enum Lost {
    /// The network or TLS.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something took too long.
    #[error("{0} took too long")]
    Late(&'static str),
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server ended it.
    #[error("the server ended the session")]
    Closed,
    /// What came is no MQTT.
    #[error("what the server sent cannot be read: {0}")]
    Protocol(#[from] mqttbytes::Error),
    /// Our own keys or certificates.
    #[error("{0}")]
    Identity(String),
}

/// A message of the server.
pub(super) struct Incoming {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// By which it is acknowledged, where it wants that.
    packet_id: Option<u16>,
}

/// A session whose subscriptions stand.
pub(super) struct Session {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    keep_alive: Duration,
    /// When something was sent last, and when something came last.
    sent_at: Instant,
    heard_at: Instant,
    /// The id of the last message that wants an acknowledgement, and how many such are under way.
    packet_id: u16,
    in_flight: u16,
    /// How fast the link of the device is, and until when it is busy with what came.
    bytes_per_sec: Option<u64>,
    busy_until: Instant,
}

impl Session {
    /// Dials, shows who `device` is, and subscribes.
    pub(super) async fn open(
        fleet: &Fleet,
        device: &DeviceId,
        identity: &Identity,
        link_kib: Option<u32>,
    ) -> Result<Self, Lost> {
        let opened = timeout(OPEN_WITHIN, Self::dial(fleet, device, identity, link_kib)).await;
        opened.map_err(|_| Lost::Late("connecting"))?
    }

    async fn dial(
        fleet: &Fleet,
        device: &DeviceId,
        identity: &Identity,
        link_kib: Option<u32>,
    ) -> Result<Self, Lost> {
        let tls = fleet.tls(identity).map_err(|error| Lost::Identity(format!("{error:#}")))?;
        let tcp = TcpStream::connect((fleet.host.as_str(), fleet.port)).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(tls).connect(fleet.name.clone(), tcp).await?;
        let now = Instant::now();
        let mut session = Self {
            stream,
            received: BytesMut::new(),
            keep_alive: Duration::from_secs(KEEP_ALIVE_SECS.into()),
            sent_at: now,
            heard_at: now,
            packet_id: 0,
            in_flight: 0,
            bytes_per_sec: link_kib.map(|kib| u64::from(kib) * 1_024),
            busy_until: now,
        };
        session.connect(device).await?;
        session.subscribe(device).await?;
        Ok(session)
    }

    async fn connect(&mut self, device: &DeviceId) -> Result<(), Lost> {
        let mut properties = ConnectProperties::new();
        properties.receive_maximum = Some(IN_FLIGHT);
        properties.max_packet_size = u32::try_from(MAX_PACKET_BYTES).ok();
        let connect = Connect {
            keep_alive: KEEP_ALIVE_SECS,
            client_id: device.to_string(),
            clean_start: true,
            properties: Some(properties),
        };
        let offline = serde_json::to_vec(&StateMessage::Offline).expect("a word has a JSON form");
        let topic = Topic::up(device.clone(), Up::State).to_string();
        let will = LastWill::new(topic, offline, QoS::AtLeastOnce, false, None);
        self.send(&Packet::Connect(connect, Some(will), None)).await?;
        let Packet::ConnAck(answer) = self.read().await? else {
            return Err(Lost::Refused("it answered a CONNECT with something else".into()));
        };
        if answer.code != ConnectReturnCode::Success {
            return Err(Lost::Refused(format!("{:?}", answer.code)));
        }
        if let Some(secs) = answer.properties.and_then(|told| told.server_keep_alive).filter(|secs| *secs > 0)
        {
            self.keep_alive = Duration::from_secs(secs.into());
        }
        Ok(())
    }

    async fn subscribe(&mut self, device: &DeviceId) -> Result<(), Lost> {
        let filter = |down| Filter::new(Topic::down(device.clone(), down).to_string(), quality_of(down));
        let mut subscribe = Subscribe::new_many(Down::ALL.map(filter), None);
        subscribe.pkid = self.next_packet_id();
        self.send(&Packet::Subscribe(subscribe)).await?;
        let Packet::SubAck(answer) = self.read().await? else {
            return Err(Lost::Refused("it answered a SUBSCRIBE with something else".into()));
        };
        let refused =
            answer.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
        refused.map_or(Ok(()), |code| Err(Lost::Refused(format!("a subscription: {code:?}"))))
    }

    /// The next message; `None` when something else came, which may have made room for more of ours. Nothing is lost when
    /// this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Incoming>, Lost> {
        let Packet::Publish(publish) = self.read().await? else { return Ok(None) };
        let packet_id = (publish.qos != QoS::AtMostOnce).then_some(publish.pkid);
        Ok(Some(Incoming { topic: publish.topic, payload: publish.payload, packet_id }))
    }

    async fn read(&mut self) -> Result<Packet, Lost> {
        loop {
            let max = u32::try_from(MAX_PACKET_BYTES).ok();
            let more = match Packet::read(&mut self.received, max) {
                Ok(packet) => return self.note(packet),
                Err(mqttbytes::Error::InsufficientBytes(more)) => more,
                Err(error) => return Err(error.into()),
            };
            sleep_until(self.busy_until).await;
            self.received.reserve(more.max(READ_BYTES));
            let count = self.stream.read_buf(&mut self.received).await?;
            if count == 0 {
                return Err(Lost::Closed);
            }
            self.heard_at = Instant::now();
            if let Some(rate) = self.bytes_per_sec {
                self.busy_until = self.heard_at + Duration::from_millis(count as u64 * 1_000 / rate);
            }
        }
    }

    fn note(&mut self, packet: Packet) -> Result<Packet, Lost> {
        match packet {
            Packet::Disconnect(_) => Err(Lost::Closed),
            Packet::PubAck(answer) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                Ok(Packet::PubAck(answer))
            }
            other => {
                // An idle session keeps no buffer that a long message needed.
                if self.received.is_empty() {
                    self.received = BytesMut::new();
                }
                Ok(other)
            }
        }
    }

    /// False while the server owes as many acknowledgements as it may.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < IN_FLIGHT
    }

    /// Sends a message. One that wants an acknowledgement takes room.
    pub(super) async fn publish(&mut self, topic: String, qos: QoS, payload: Vec<u8>) -> Result<(), Lost> {
        let mut publish = Publish::new(topic, qos, payload, None);
        if qos != QoS::AtMostOnce {
            publish.pkid = self.next_packet_id();
            self.in_flight += 1;
        }
        self.send(&Packet::Publish(publish)).await
    }

    /// Tells the server that a message came.
    pub(super) async fn acknowledge(&mut self, message: &Incoming) -> Result<(), Lost> {
        let Some(packet_id) = message.packet_id else { return Ok(()) };
        self.send(&Packet::PubAck(PubAck::new(packet_id, None))).await
    }

    /// When [`keep_alive`](Self::keep_alive) is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.sent_at + self.keep_alive / 2
    }

    /// Keeps the session alive, and notices a server that says nothing any more.
    pub(super) async fn keep_alive(&mut self) -> Result<(), Lost> {
        if self.heard_at.elapsed() > self.keep_alive * 2 {
            return Err(Lost::Late("an answer of the server"));
        }
        self.send(&Packet::PingReq(PingReq)).await
    }

    /// Says goodbye, so that the server does not publish the will.
    pub(super) async fn goodbye(mut self) -> Result<(), Lost> {
        let goodbye = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        self.send(&Packet::Disconnect(goodbye)).await?;
        Ok(timeout(WRITE_WITHIN, self.stream.shutdown()).await.map_err(|_| Lost::Late("a goodbye"))??)
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), Lost> {
        let mut bytes = BytesMut::with_capacity(packet.size());
        packet.write(&mut bytes, None)?;
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        timeout(WRITE_WITHIN, write).await.map_err(|_| Lost::Late("a write"))??;
        self.sent_at = Instant::now();
        Ok(())
    }

    /// Ids go round without zero; with so few messages under way none meets itself.
    fn next_packet_id(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }
}

fn quality_of(down: Down) -> QoS {
    match down {
        Down::Desired | Down::Acknowledgement => QoS::AtLeastOnce,
        Down::Metadata | Down::Blocks => QoS::AtMostOnce,
    }
}
