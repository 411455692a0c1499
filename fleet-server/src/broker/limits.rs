//! The bounds of the embedded broker, each with its reason.

use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::events::BrokerEventHandler;
use mqtt5::broker::storage::client_queue::QueueLimits;
use mqtt5::broker::{BrokerConfig, ResourceLimits};

/// What an operator may want to change.
#[derive(Debug, Clone, Copy)]
pub struct BrokerLimits {
    /// Connections at once, also those still in their handshake.
    pub max_connections: usize,
    /// Connections at once that have not yet shown a certificate: strangers cannot take all places.
    pub max_strangers: usize,
    /// From the accepted connection to the finished TLS handshake.
    pub handshake: Duration,
    /// Pings come at least this often; a client is gone after one and a half times that.
    pub keep_alive: Duration,
    /// Largest MQTT packet in either direction.
    pub max_packet_bytes: usize,
    /// How long a stop waits for goodbyes before it cuts.
    pub stop: Duration,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_strangers: 1_000,
            handshake: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            max_packet_bytes: 256 * 1024,
            stop: Duration::from_secs(5),
        }
    }
}

/// Messages per connection and kind of delivery between us and the socket: two full credits of blocks.
const LANE_MESSAGES: usize = 32;

/// Unacknowledged QoS 1 messages per device; the client asks for no more.
const IN_FLIGHT: u16 = 16;

/// What waits behind a full lane: control messages, of which a device gets few.
const QUEUE_MESSAGES: usize = 64;
/// The same in bytes: some of the largest packets.
const QUEUE_BYTES: usize = 2 * 1024 * 1024;

/// What a packet needs besides its payload: our topics are below 100 bytes.
const PACKET_OVERHEAD_BYTES: usize = 256;

/// The server never offers QoS 2: acknowledgement by the application is stronger.
const MAXIMUM_QOS: u8 = 1;

/// A device may subscribe to its own few topics by their exact names and to nothing else (`acl`), which is the bound. The library's own
/// would count, for every topic of every device that connects, the subscriptions of all devices: with thousands, most
/// of the server's time.
const UNCOUNTED: usize = 0;

impl BrokerLimits {
    /// The largest payload for a device.
    pub(super) fn max_payload_bytes(&self) -> usize {
        self.max_packet_bytes.saturating_sub(PACKET_OVERHEAD_BYTES)
    }

    /// The configuration of one connection, with its own listener for events.
    pub(super) fn config(&self, events: Arc<dyn BrokerEventHandler>) -> BrokerConfig {
        BrokerConfig {
            bind_addresses: Vec::new(),
            max_clients: self.max_connections,
            session_expiry_interval: Duration::ZERO,
            max_packet_size: self.max_packet_bytes,
            topic_alias_maximum: 0,
            retain_available: false,
            maximum_qos: MAXIMUM_QOS,
            wildcard_subscription_available: false,
            subscription_identifier_available: false,
            shared_subscription_available: false,
            max_subscriptions_per_client: UNCOUNTED,
            client_channel_capacity: LANE_MESSAGES,
            max_outbound_inflight: IN_FLIGHT,
            server_keep_alive: Some(self.keep_alive),
            server_receive_maximum: Some(IN_FLIGHT),
            sys_topics_enabled: false,
            event_handler: Some(events),
            ..BrokerConfig::default()
        }
    }
}

pub(super) fn queue_limits() -> QueueLimits {
    QueueLimits { max_messages: QUEUE_MESSAGES, max_bytes: QUEUE_BYTES }
}

/// The library's own limits are off: connections are bounded where they are accepted, and a device that says too
/// much is held back by its sink.
pub(super) fn resource_limits() -> ResourceLimits {
    ResourceLimits {
        max_connections: usize::MAX,
        max_connections_per_ip: usize::MAX,
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        max_connection_rate: u32::MAX,
        rate_limit_window: Duration::from_secs(1),
    }
}
