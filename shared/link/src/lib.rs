//! An MQTT 5 session over our own TLS link, used by agents and by servers behind a foreign broker.
//!
//! `rumqttc` speaks MQTT and nothing else here: it is handed a private Unix socket, and a bridge behind that
//! socket dials the server, does the TLS handshake and copies bytes. So the certificate is asked for anew at
//! every connect (it rotates without a restart), every byte on the link is counted, and a link that stopped
//! moving is noticed.
//!
//! What a user may rely on:
//! - [`Event::Connected`] comes only after every subscription was granted, and again after every reconnect.
//! - A QoS 1 publish waits in memory until it is acknowledged, across reconnects; the waiting queue is bounded
//!   and [`Link::publish`] waits for room. It does not survive the process: keep a spool for that, and
//!   [`Link::offer`] what is in it, which is not repeated here.
//! - A QoS 0 publish is refused while there is no connection.
//! - A QoS 1 message from the server is acknowledged only after it was put into the event channel. When the
//!   reader is slow, the server waits; QoS 0 messages are then dropped and counted ([`Link::dropped`]).
//!
//! Every connection gets a fresh `rumqttc` client. Nothing that it keeps between connections (its pending list,
//! a packet id collision) can therefore outlive one, and no session is asked of the server.

mod backoff;
mod bridge;
mod count;
mod dial;
mod event;
mod link;
mod options;
mod outbox;
mod session;

pub use backoff::Backoff;
pub use count::{ByteCount, LinkBytes};
pub use event::{Event, LinkError, Refused};
pub use link::Link;
pub use options::{BoxError, Deadlines, LinkOptions, Message, Qos, TlsSource};
