//! One connection of one device: its rights, and what becomes of what it says.
//!
//! `mqtt5` asks this object for every decision and tells it every event, so nothing about one device can be
//! mistaken for another's.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mqtt5::QoS;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::events::{
    BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent, ClientPublishEvent, ClientSubscribeEvent,
    PublishAction, SubAckReasonCode,
};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::packet::publish::PublishPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use shared::topic::Up;
use tokio_util::sync::CancellationToken;

use super::acl::{self, Claim, ConnectRefusal};
use super::registry::{ConnectionNumber, Registry};
use super::{Admission, Peer, Sink, Verdict};

pub(super) struct Connection {
    // Inputs.
    peer: Peer,
    number: ConnectionNumber,
    registry: Arc<Registry>,
    sink: Arc<dyn Sink>,
    admission: Arc<dyn Admission>,
    // Output: cancelled when the connection has to end.
    cut: CancellationToken,
    // State: what the device wants said when it vanishes.
    will: Mutex<Option<Bytes>>,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Connection {
    pub(super) fn new(
        peer: Peer,
        registry: Arc<Registry>,
        sink: Arc<dyn Sink>,
        admission: Arc<dyn Admission>,
        cut: CancellationToken,
    ) -> Self {
        let number = registry.enter(&peer.device, cut.clone());
        Self { peer, number, registry, sink, admission, cut, will: Mutex::new(None) }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether no later connection of the same device was made.
    pub(super) fn is_latest(&self) -> bool {
        self.registry.is_latest(&self.peer.device, self.number)
    }

    /// Tells the sink, once, that the device is gone, unless it is here again already.
    pub(super) async fn leave(&self) {
        if !self.registry.leave(&self.peer.device, self.number) {
            return;
        }
        if let Some(will) = self.take_will()
            && let Err(error) = self.sink.on_message(&self.peer.device, Up::State, will).await
        {
            tracing::warn!(device.id = %self.peer.device, error = &error as &dyn std::error::Error, "the will of a device is lost");
        }
        self.sink.on_disconnect(&self.peer.device).await;
    }

    fn take_will(&self) -> Option<Bytes> {
        self.will.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_will(&self, will: Option<Bytes>) {
        *self.will.lock().unwrap_or_else(PoisonError::into_inner) = will;
    }

    async fn decide(&self, connect: &ConnectPacket) -> Result<(), ReasonCode> {
        acl::check_connect(&self.peer.device, claim(connect)).map_err(|refusal| {
            tracing::info!(device.id = %self.peer.device, %refusal, "refused a connection");
            reason_code(refusal)
        })?;
        match self.admission.admit(&self.peer).await {
            Ok(Verdict::Admitted) => Ok(()),
            Ok(Verdict::Refused) => {
                tracing::info!(device.id = %self.peer.device, "refused a device that is no longer accepted");
                Err(ReasonCode::NotAuthorized)
            }
            Err(error) => {
                tracing::warn!(device.id = %self.peer.device, error = &*error as &dyn std::error::Error, "cannot decide about a device");
                Err(ReasonCode::ServerUnavailable)
            }
        }
    }

    async fn take_message(&self, event: ClientPublishEvent) -> PublishAction {
        let Some(up) = acl::own_up(&self.peer.device, &event.topic) else {
            return self.cut_without_answer(&event.topic, "published to a foreign topic");
        };
        if event.retain {
            return self.cut_without_answer(&event.topic, "asked to retain a message");
        }
        match self.sink.on_message(&self.peer.device, up, event.payload).await {
            Ok(()) => PublishAction::Handled,
            Err(error) => {
                tracing::warn!(device.id = %self.peer.device, error = &error as &dyn std::error::Error, "a message was not kept");
                self.cut_without_answer(&event.topic, "its message was not kept")
            }
        }
    }

    /// Ends the connection without an acknowledgement: the library acknowledges all that is QoS 1, so it is left
    /// an empty QoS 0 message on a topic that nobody may subscribe to.
    fn cut_without_answer(&self, topic: &str, reason: &str) -> PublishAction {
        tracing::info!(device.id = %self.peer.device, reason, "cut a connection");
        self.cut.cancel();
        PublishAction::Transform(PublishPacket::new(topic, Bytes::new(), QoS::AtMostOnce))
    }
}

fn claim(connect: &ConnectPacket) -> Claim<'_> {
    Claim {
        protocol: connect.protocol_version,
        client_id: &connect.client_id,
        user_name: connect.username.as_deref(),
        will_topic: connect.will.as_ref().map(|will| will.topic.as_str()),
        will_retained: connect.will.as_ref().is_some_and(|will| will.retain),
    }
}

fn reason_code(refusal: ConnectRefusal) -> ReasonCode {
    match refusal {
        ConnectRefusal::OldProtocol => ReasonCode::UnsupportedProtocolVersion,
        ConnectRefusal::ForeignClientId => ReasonCode::ClientIdentifierNotValid,
        ConnectRefusal::ForeignUserName => ReasonCode::BadUsernameOrPassword,
        ConnectRefusal::ForeignWill => ReasonCode::NotAuthorized,
        ConnectRefusal::RetainedWill => ReasonCode::RetainNotSupported,
    }
}

impl AuthProvider for Connection {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _address: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async {
            Ok(match self.decide(connect).await {
                Ok(()) => AuthResult::success_with_user(self.peer.device.as_str()),
                Err(code) => AuthResult::fail(code),
            })
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        topic: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(acl::own_up(&self.peer.device, topic).is_some()))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        _user_id: Option<&'a str>,
        filter: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(acl::own_down(&self.peer.device, filter).is_some()))
    }
}

impl BrokerEventHandler for Connection {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Answer<'a, ()> {
        self.set_will(event.will_payload);
        self.registry.connected(&self.peer.device, self.number);
        self.sink.on_connect(&self.peer.device)
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> Answer<'a, ()> {
        let granted = |code| matches!(code, SubAckReasonCode::GrantedQoS0 | SubAckReasonCode::GrantedQoS1);
        let down = event
            .subscriptions
            .iter()
            .filter(|subscription| granted(subscription.result))
            .filter_map(|subscription| acl::own_down(&self.peer.device, &subscription.topic_filter))
            .collect();
        self.sink.on_subscribe(&self.peer.device, down)
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        Box::pin(self.take_message(event))
    }

    /// The sink hears of the end from [`Connection::leave`], which also runs when the library was cut short.
    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> Answer<'a, ()> {
        if !event.unexpected {
            self.set_will(None);
        }
        Box::pin(std::future::ready(()))
    }
}

impl Drop for Connection {
    /// A panic in a sink must not leave a ghost among the connected.
    fn drop(&mut self) {
        self.registry.leave(&self.peer.device, self.number);
    }
}
