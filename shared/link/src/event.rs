//! What a link tells its user.

use bytes::Bytes;

/// Something that happened on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Connected, and every subscription granted.
    Connected,
    /// A connection that had been [`Event::Connected`] ended.
    Disconnected {
        /// Why, in words.
        reason: String,
    },
    /// An attempt to connect failed; the next one follows by itself.
    Failed {
        /// Why, in words.
        reason: String,
    },
    /// A message arrived.
    Message {
        /// On which topic.
        topic: String,
        /// Its content.
        payload: Bytes,
    },
    /// The server said no.
    Refused {
        /// To what.
        what: Refused,
        /// With which reason.
        reason: String,
    },
}

/// What a server may refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The connection; an attempt follows after the back-off all the same.
    Connect,
    /// A subscription; the connection is given up, since a link without its topics is deaf.
    Subscribe {
        /// The topic asked for.
        topic: String,
    },
    /// A QoS 1 publish; it is not repeated.
    Publish {
        /// The topic published to.
        topic: String,
    },
}

/// Why a publish did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A QoS 0 message has no one to go to and is not kept.
    #[error("not connected")]
    Offline,
    /// Larger than one packet may be, here or at the server.
    #[error("message of {size_bytes} bytes does not fit a packet of {max_bytes} bytes")]
    TooLarge {
        /// Size of topic and payload.
        size_bytes: usize,
        /// The limit that it broke.
        max_bytes: usize,
    },
    /// The server said no.
    #[error("the server refused the message: {reason}")]
    Refused {
        /// With which reason.
        reason: String,
    },
    /// The link was stopped.
    #[error("the link is stopped")]
    Stopped,
}
