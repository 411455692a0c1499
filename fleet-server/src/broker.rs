//! How the server reaches its devices, whichever broker is in between.
//!
//! [`Broker`] is all that the rest of the server knows. [`EmbeddedBroker`] runs one in this process; a client of a
//! foreign broker can stand behind the same trait. What devices say comes in through a [`Sink`], who may come in is
//! asked of an [`Admission`].
//!
//! The embedded broker is made of the parts of `mqtt5`, never of its front door: the accept loop, the TLS handshake
//! (in the connection's own task, with a deadline), the identity (from the certificate alone) and every right are
//! ours. It keeps nothing: no sessions, no retained messages, no offline queues. What a device must learn after it
//! was away, the server sends again from its database.

pub mod acl;
mod connection;
mod embedded;
mod identity;
mod limits;
mod registry;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use shared::DeviceId;
use shared::topic::{Down, Up};

pub use embedded::EmbeddedBroker;
pub use identity::{IdentityError, Peer};
pub use limits::BrokerLimits;

/// How surely a message to a device is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Dropped when the device is behind; for what it asks for again (QoS 0).
    AtMostOnce,
    /// Repeated until acknowledged while the device stays connected (QoS 1).
    AtLeastOnce,
}

/// The way to the devices.
pub trait Broker: Send + Sync {
    /// Sends `payload` to a connected device. `Ok` means that it is on its way, not that it arrived.
    fn publish<'a>(
        &'a self,
        device: &'a DeviceId,
        down: Down,
        delivery: Delivery,
        payload: Bytes,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Cuts every connection of `device`, also one that is still being made; false if it had none.
    fn kick<'a>(&'a self, device: &'a DeviceId) -> BoxFuture<'a, bool>;

    /// Who is connected now.
    fn connected(&self) -> BTreeSet<DeviceId>;

    /// Whether this device is connected now.
    fn is_connected(&self, device: &DeviceId) -> bool;

    /// How many devices are connected now.
    fn connected_count(&self) -> usize;

    /// Says goodbye to all, takes no more connections, and waits (with a bound) until all are closed.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// Why a message was not sent to a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The device is not here, or not yet subscribed to that topic.
    #[error("device {device} does not listen now")]
    NotListening {
        /// Which device.
        device: DeviceId,
    },
    /// No packet can carry it.
    #[error("message of {size_bytes} bytes exceeds the limit of {max_bytes} bytes")]
    TooLarge {
        /// Size of the payload.
        size_bytes: usize,
        /// The limit that it broke.
        max_bytes: usize,
    },
    /// The broker behind the trait cannot be reached or is stopped.
    #[error("the broker is not available")]
    Unavailable,
}

/// Any error from outside of this module.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A message could not be kept. The device gets no acknowledgement and is disconnected, so it sends again.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep a message of a device")]
pub struct SinkError(#[source] pub BoxError);

/// Where everything that devices say goes.
///
/// A device may repeat a message after a lost connection: a sink must take the same message twice.
/// Calls for one connection come one after another; a slow sink slows that device down and no other.
pub trait Sink: Send + Sync + 'static {
    /// Keeps a message. The device gets its acknowledgement only after this returned `Ok`.
    fn on_message<'a>(
        &'a self,
        device: &'a DeviceId,
        up: Up,
        payload: Bytes,
    ) -> BoxFuture<'a, Result<(), SinkError>>;

    /// The device connected. It cannot be sent anything before it subscribed.
    fn on_connect<'a>(&'a self, _device: &'a DeviceId) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The device now listens on `down`; the moment to send what it must know.
    fn on_subscribe<'a>(&'a self, _device: &'a DeviceId, _down: Vec<Down>) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The last connection of the device ended; its will, if it left one, came as a message just before.
    fn on_disconnect<'a>(&'a self, _device: &'a DeviceId) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What an [`Admission`] decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Come in.
    Admitted,
    /// The device or its certificate is no longer accepted.
    Refused,
}

/// Asked about every connection after its certificate was verified: revocation lives in the database.
pub trait Admission: Send + Sync + 'static {
    /// Decides about `peer`; an error refuses for now, and the device tries again.
    fn admit<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Verdict, BoxError>>;
}
