//! One connection from dial to goodbye.
//!
//! `poll()` of `rumqttc` is never dropped half-way (it would lose packets) and never kept waiting: whatever it
//! yields is put into *held*, a bounded queue that empties into the user's channel when there is room.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Filter, LastWill, Packet, PubAck, PubAckReason, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Polled, EventLoop, MqttOptions, StateError};
use rumqttc::{Outgoing, Transport};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::bridge::{Bridge, BridgeLimits};
use crate::dial::dial;
use crate::link::Shared;
use crate::outbox::{MAX_SUBMITTED, Outbound, Outbox, Until};
use crate::{Event, LinkError, LinkOptions, Message, Qos, Refused};

/// Unacknowledged publishes to the server: enough to fill a slow link, few enough to repeat without harm.
const IN_FLIGHT: u16 = 16;

/// Unacknowledged publishes from the server; with the packet limit this bounds what a slow reader costs.
const RECEIVE_MAXIMUM: u16 = 16;

/// Messages that wait for the reader before QoS 0 is dropped: two full credits of blocks.
pub(crate) const HELD: usize = 32;

/// Everything that can be in `rumqttc`'s request queue at once: ours, acknowledgements, subscribe, goodbye.
const REQUESTS: usize = MAX_SUBMITTED + RECEIVE_MAXIMUM as usize + 4;

/// Fixed header, lengths, packet id and an empty property list, rounded up.
pub(crate) const PACKET_OVERHEAD_BYTES: usize = 16;

/// `rumqttc` refuses less.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long the bridge gets to say why it ended.
const BRIDGE_LAST_WORDS: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// As the user wished.
    Stopped,
    /// The user asked for a new connection.
    Renewed,
    /// For the given reason.
    Lost { reason: String },
    /// By a refusal of the server.
    Refused { what: Refused, reason: String },
}

type Bridged = AbortOnDropHandle<std::io::Result<()>>;
type PollResult = Result<Polled, ConnectionError>;

/// Dials, connects and stays until the end. `backlog` is what the reader has not taken yet, before and after.
pub(crate) async fn run(
    options: &LinkOptions,
    shared: &Shared,
    outbox: &mut Outbox,
    inbox: &mut mpsc::Receiver<Outbound>,
    events: &mpsc::Sender<Event>,
    backlog: &mut VecDeque<Event>,
) -> End {
    let opened = tokio::select! {
        opened = open(options, shared) => opened,
        () = shared.cancel.cancelled() => return End::Stopped,
    };
    let (client, event_loop, bridged) = match opened {
        Ok(parts) => parts,
        Err(reason) => return End::Lost { reason },
    };
    let window = usize::from(IN_FLIGHT);
    let held = backlog.drain(..).map(|event| Held { event, acknowledge: None }).collect();
    let mut session = Session { options, shared, outbox, client, held, window, connected: false };
    let end = session.drive(event_loop, bridged, inbox, events).await;
    // What is cut off here was never acknowledged, so the server does not think that we have it.
    backlog.extend(session.held.into_iter().take(HELD).map(|held| held.event));
    end
}

async fn open(
    options: &LinkOptions,
    shared: &Shared,
) -> Result<(AsyncClient, Box<EventLoop>, Bridged), String> {
    let wire = dial(options, shared.bytes.clone()).await.map_err(|error| error.to_string())?;
    let bridge = Bridge::bind(options.socket_dir.as_deref())
        .map_err(|error| format!("cannot make the private socket: {error}"))?;
    let (client, event_loop) = AsyncClient::new(mqtt_options(options, &bridge)?, REQUESTS);
    let limits = BridgeLimits {
        stall: options.deadlines.stall,
        silence: keep_alive(options) * 2 + options.deadlines.stall,
        accept: options.deadlines.subscribe,
    };
    Ok((client, Box::new(event_loop), bridge.run(wire, limits)))
}

fn keep_alive(options: &LinkOptions) -> Duration {
    options.keep_alive.max(SHORTEST_KEEP_ALIVE)
}

fn mqtt_options(options: &LinkOptions, bridge: &Bridge) -> Result<MqttOptions, String> {
    let path = bridge.path().to_str().ok_or("the path of the private socket is not text")?;
    let mut mqtt = MqttOptions::new(options.client_id.as_str(), path, 0);
    mqtt.set_transport(Transport::Unix);
    mqtt.set_keep_alive(keep_alive(options));
    mqtt.set_clean_start(true);
    mqtt.set_manual_acks(true);
    mqtt.set_max_packet_size(Some(options.max_packet_bytes));
    mqtt.set_receive_maximum(Some(RECEIVE_MAXIMUM));
    mqtt.set_outgoing_inflight_upper_limit(IN_FLIGHT);
    mqtt.set_connection_timeout(options.deadlines.subscribe.as_secs().max(1));
    if let Some(Message { topic, qos, payload }) = options.last_will.clone() {
        mqtt.set_last_will(LastWill::new(topic, payload.to_vec(), mqtt_qos(qos), false, None));
    }
    Ok(mqtt)
}

fn mqtt_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

/// Something for the user, and what to acknowledge once the user has it.
struct Held {
    event: Event,
    acknowledge: Option<Publish>,
}

struct Session<'a> {
    options: &'a LinkOptions,
    shared: &'a Shared,
    outbox: &'a mut Outbox,
    client: AsyncClient,
    held: VecDeque<Held>,
    window: usize,
    connected: bool,
}

impl Session<'_> {
    async fn drive(
        &mut self,
        event_loop: Box<EventLoop>,
        bridged: Bridged,
        inbox: &mut mpsc::Receiver<Outbound>,
        events: &mpsc::Sender<Event>,
    ) -> End {
        let mut poll = std::pin::pin!(poll_once(event_loop));
        let mut too_late = std::pin::pin!(tokio::time::sleep(self.options.deadlines.subscribe));
        let end = loop {
            if let Err(end) = self.submit_waiting() {
                break end;
            }
            let draining = self.shared.drain.is_cancelled();
            if draining && self.outbox.is_empty() && inbox.is_empty() {
                break End::Stopped;
            }
            let step = tokio::select! {
                (event_loop, polled) = &mut poll => {
                    poll.set(poll_once(event_loop));
                    match polled {
                        Ok(event) => self.on_event(event),
                        Err(error) => return self.explain(error, bridged).await,
                    }
                }
                next = inbox.recv(), if self.takes_more() => match next {
                    Some(outbound) => self.submit(outbound),
                    None => Err(End::Stopped),
                },
                room = events.reserve(), if !self.held.is_empty() => self.pass_on(room),
                () = &mut too_late, if !self.connected => {
                    Err(lost("the server did not grant the connection in time"))
                }
                () = self.shared.renew.notified() => Err(End::Renewed),
                () = self.shared.drain.cancelled(), if !draining => Ok(()),
                () = self.shared.cancel.cancelled() => Err(End::Stopped),
                () = events.closed() => Err(End::Stopped),
            };
            if let Err(end) = step {
                break end;
            }
        };
        self.say_goodbye(poll, bridged).await;
        end
    }

    fn takes_more(&self) -> bool {
        self.connected && !self.outbox.has_waiting() && self.may_submit()
    }

    /// Messages that wait for the reader must not hold back ours, or a reader that publishes would wait for itself;
    /// only refusals do, since each of our messages may make one.
    fn may_submit(&self) -> bool {
        let refusals = self.held.iter().filter(|held| matches!(held.event, Event::Refused { .. })).count();
        self.connected && refusals < HELD && self.outbox.has_room(self.window)
    }

    fn submit_waiting(&mut self) -> Result<(), End> {
        while self.may_submit() {
            let Some(outbound) = self.outbox.pop_waiting() else { break };
            self.submit(outbound)?;
        }
        Ok(())
    }

    fn submit(&mut self, outbound: Outbound) -> Result<(), End> {
        let connection = self.shared.connection.load(Ordering::Acquire);
        if matches!(outbound.until, Until::EndOf(of) if of != connection) {
            outbound.finish(Err(LinkError::Offline));
            return Ok(());
        }
        if let Err(error) = self.shared.fits(&outbound.message) {
            self.refuse(outbound, error);
            return Ok(());
        }
        let Message { topic, qos, payload } = outbound.message.clone();
        let handed_over = self.client.try_publish(topic, mqtt_qos(qos), false, payload);
        self.outbox.submitted(outbound);
        handed_over.map_err(|error| lost(format!("cannot hand a publish to the client: {error}")))
    }

    fn refuse(&mut self, outbound: Outbound, error: LinkError) {
        if outbound.done.is_some() {
            return outbound.finish(Err(error));
        }
        let what = Refused::Publish { topic: outbound.message.topic };
        self.hold(Event::Refused { what, reason: error.to_string() });
    }

    fn hold(&mut self, event: Event) {
        self.held.push_back(Held { event, acknowledge: None });
    }

    fn on_event(&mut self, event: Polled) -> Result<(), End> {
        match event {
            Polled::Incoming(Packet::ConnAck(accepted)) => self.on_accepted(&accepted),
            Polled::Incoming(Packet::SubAck(answer)) => self.on_subscribed(&answer),
            Polled::Incoming(Packet::Publish(publish)) => self.on_publish(publish),
            Polled::Incoming(Packet::PubAck(answer)) => {
                self.on_published(&answer);
                Ok(())
            }
            Polled::Outgoing(Outgoing::Publish(packet_id)) => {
                self.outbox.sent(packet_id);
                Ok(())
            }
            Polled::Outgoing(Outgoing::AwaitAck(packet_id)) => Err(lost(format!(
                "the server acknowledges out of order; packet id {packet_id} is still in use"
            ))),
            Polled::Incoming(_) | Polled::Outgoing(_) => Ok(()),
        }
    }

    fn on_accepted(&mut self, accepted: &ConnAck) -> Result<(), End> {
        let limits = accepted.properties.as_ref();
        let receives = limits.and_then(|limits| limits.receive_max).unwrap_or(IN_FLIGHT);
        self.window = usize::from(receives.clamp(1, IN_FLIGHT));
        let server_max = limits.and_then(|limits| limits.max_packet_size).unwrap_or(u32::MAX);
        self.shared.server_max_packet_bytes.store(server_max, Ordering::Relaxed);
        if self.options.subscriptions.is_empty() {
            self.on_connected();
            return Ok(());
        }
        let filters =
            self.options.subscriptions.iter().map(|(topic, qos)| Filter::new(topic.clone(), mqtt_qos(*qos)));
        self.client
            .try_subscribe_many(filters)
            .map_err(|error| lost(format!("cannot hand the subscriptions to the client: {error}")))
    }

    fn on_connected(&mut self) {
        self.connected = true;
        self.shared.connection.fetch_add(1, Ordering::AcqRel);
        self.shared.online.store(true, Ordering::Release);
        self.hold(Event::Connected);
    }

    fn on_subscribed(&mut self, answer: &SubAck) -> Result<(), End> {
        for ((topic, _), code) in self.options.subscriptions.iter().zip(&answer.return_codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                let what = Refused::Subscribe { topic: topic.clone() };
                return Err(End::Refused { what, reason: format!("{code:?}") });
            }
        }
        if answer.return_codes.len() != self.options.subscriptions.len() {
            return Err(lost("the server did not answer every subscription"));
        }
        if !self.connected {
            self.on_connected();
        }
        Ok(())
    }

    fn on_publish(&mut self, publish: Publish) -> Result<(), End> {
        let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
            return Err(lost("the server sent a topic that is not text"));
        };
        let event = Event::Message { topic, payload: publish.payload.clone() };
        if publish.qos == QoS::AtMostOnce {
            self.hold_if_room(event);
            return Ok(());
        }
        let unacknowledged = self.held.iter().filter(|held| held.acknowledge.is_some()).count();
        if unacknowledged >= usize::from(RECEIVE_MAXIMUM) {
            return Err(lost("the server sends more than our receive maximum"));
        }
        let acknowledge = Some(Publish { payload: Bytes::new(), ..publish });
        self.held.push_back(Held { event, acknowledge });
        Ok(())
    }

    fn hold_if_room(&mut self, event: Event) {
        if self.held.len() < HELD {
            self.hold(event);
        } else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_published(&mut self, answer: &PubAck) {
        let Some(outbound) = self.outbox.acknowledged(answer.pkid) else { return };
        match answer.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => outbound.finish(Ok(())),
            reason => self.refuse(outbound, LinkError::Refused { reason: format!("{reason:?}") }),
        }
    }

    fn pass_on(&mut self, room: Result<mpsc::Permit<'_, Event>, SendError<()>>) -> Result<(), End> {
        let (Ok(room), Some(held)) = (room, self.held.pop_front()) else { return Err(End::Stopped) };
        room.send(held.event);
        let Some(publish) = held.acknowledge else { return Ok(()) };
        self.client
            .try_ack(&publish)
            .map_err(|error| lost(format!("cannot hand an acknowledgement to the client: {error}")))
    }

    async fn explain(&self, error: ConnectionError, bridged: Bridged) -> End {
        match error {
            ConnectionError::ConnectionRefused(code) => {
                End::Refused { what: Refused::Connect, reason: format!("{code:?}") }
            }
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                lost(crate::bridge::farewell(reason_code))
            }
            error => match timeout(BRIDGE_LAST_WORDS, bridged).await {
                Ok(Ok(Err(cause))) => lost(cause.to_string()),
                _ => lost(error.to_string()),
            },
        }
    }

    /// Sends DISCONNECT so that the server does not publish our will, then closes TLS in order.
    async fn say_goodbye(
        &self,
        mut poll: std::pin::Pin<&mut impl Future<Output = (Box<EventLoop>, PollResult)>>,
        bridged: Bridged,
    ) {
        let goodbye = async {
            if self.client.try_disconnect().is_err() {
                return;
            }
            let mut polled = poll.as_mut().await;
            while let (event_loop, Ok(event)) = polled {
                if matches!(event, Polled::Outgoing(Outgoing::Disconnect)) {
                    drop(event_loop);
                    // Either end of the copy is fine now.
                    let _ = bridged.await;
                    return;
                }
                polled = Box::pin(poll_once(event_loop)).await;
            }
        };
        if timeout(self.options.deadlines.goodbye, goodbye).await.is_err() {
            tracing::debug!("the link closed without a goodbye");
        }
    }
}

fn lost(reason: impl Into<String>) -> End {
    End::Lost { reason: reason.into() }
}

/// One step of `rumqttc`, which owns the event loop so that the step can outlive a `select!`.
async fn poll_once(mut event_loop: Box<EventLoop>) -> (Box<EventLoop>, PollResult) {
    let polled = event_loop.poll().await;
    (event_loop, polled)
}
