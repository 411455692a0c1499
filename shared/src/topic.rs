//! The topic tree. Topic text exists only here.
//!
//! ```text
//! muster/1/d/<device>/up/st   hello and signed reports (QoS 1); the will says offline
//! muster/1/d/<device>/up/tm   telemetry (QoS 1)
//! muster/1/d/<device>/up/sk   sketches (QoS 1)
//! muster/1/d/<device>/up/rq   requests for metadata and blocks (QoS 0)
//! muster/1/d/<device>/dn/ds   desired state (QoS 1)
//! muster/1/d/<device>/dn/ak   application acknowledgement (QoS 1)
//! muster/1/d/<device>/dn/md   signed metadata, in parts (QoS 0)
//! muster/1/d/<device>/dn/bl   blocks of artifacts (QoS 0)
//! ```
//! A device publishes to its own `up/` topics and subscribes to its own `dn/` topics by their exact names.

use std::fmt;

use crate::id::DeviceId;

const ROOT: &str = "muster/1/d/";

/// What a device may publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Up {
    /// Hello and signed reports.
    State,
    /// Telemetry batches.
    Telemetry,
    /// Drift sketches.
    Sketches,
    /// Requests for metadata and blocks.
    Request,
}

/// What a device may subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Down {
    /// Desired state.
    Desired,
    /// Application acknowledgement; only this releases the device's spool.
    Acknowledgement,
    /// Signed metadata, in parts.
    Metadata,
    /// Blocks of artifacts.
    Blocks,
}

impl Up {
    /// Every topic a device may publish to.
    pub const ALL: [Self; 4] = [Self::State, Self::Telemetry, Self::Sketches, Self::Request];

    fn leaf(self) -> &'static str {
        match self {
            Self::State => "st",
            Self::Telemetry => "tm",
            Self::Sketches => "sk",
            Self::Request => "rq",
        }
    }
}

impl Down {
    /// Every topic a device may subscribe to.
    pub const ALL: [Self; 4] = [Self::Desired, Self::Acknowledgement, Self::Metadata, Self::Blocks];

    fn leaf(self) -> &'static str {
        match self {
            Self::Desired => "ds",
            Self::Acknowledgement => "ak",
            Self::Metadata => "md",
            Self::Blocks => "bl",
        }
    }
}

/// A topic of one device.
///
/// ```
/// use shared::topic::{Down, Topic, Up};
/// let device = shared::DeviceId::new("cam-7").unwrap();
/// let topic = Topic::up(device.clone(), Up::State);
/// assert_eq!(topic.to_string(), "muster/1/d/cam-7/up/st");
/// assert_eq!(Topic::parse("muster/1/d/cam-7/up/st"), Some(topic));
/// assert_eq!(Topic::down(device, Down::Blocks).to_string(), "muster/1/d/cam-7/dn/bl");
/// assert_eq!(Topic::parse("muster/1/d/+/dn/bl"), None);
/// assert_eq!(Topic::parse("muster/1/d/cam-7/dn/bl/"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Whose topic it is.
    pub device: DeviceId,
    /// Which of the device's topics.
    pub channel: Channel,
}

/// Direction and purpose of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// From the device to the server.
    Up(Up),
    /// From the server to the device.
    Down(Down),
}

impl Topic {
    /// A topic that `device` publishes to.
    #[must_use]
    pub fn up(device: DeviceId, up: Up) -> Self {
        Self { device, channel: Channel::Up(up) }
    }

    /// A topic that `device` subscribes to.
    #[must_use]
    pub fn down(device: DeviceId, down: Down) -> Self {
        Self { device, channel: Channel::Down(down) }
    }

    /// Reads a topic; `None` for anything that is not exactly one of ours, wildcards included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut levels = text.strip_prefix(ROOT)?.split('/');
        let (device, direction, leaf) = (levels.next()?, levels.next()?, levels.next()?);
        if levels.next().is_some() {
            return None;
        }
        let channel = match direction {
            "up" => Channel::Up(Up::ALL.into_iter().find(|up| up.leaf() == leaf)?),
            "dn" => Channel::Down(Down::ALL.into_iter().find(|down| down.leaf() == leaf)?),
            _ => return None,
        };
        Some(Self { device: DeviceId::new(device).ok()?, channel })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.channel {
            Channel::Up(up) => write!(f, "{ROOT}{}/up/{}", self.device, up.leaf()),
            Channel::Down(down) => write!(f, "{ROOT}{}/dn/{}", self.device, down.leaf()),
        }
    }
}

/// The filter by which a server behind a foreign broker hears every device.
#[must_use]
pub fn every_device_up() -> String {
    format!("{ROOT}+/up/+")
}
