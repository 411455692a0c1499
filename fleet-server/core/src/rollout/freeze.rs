//! Times in which nobody new is asked.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use shared::{DeviceId, Timestamp};

/// A time in which nobody new is asked. What runs goes on: devices that were asked settle, and failures still stop a
/// rollout and bring devices back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its name.
    pub id: String,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends; this moment is free again.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// The devices that it concerns; all when absent.
    pub devices: Option<BTreeSet<DeviceId>>,
}

impl Freeze {
    /// True while the device may not be asked because of it.
    #[must_use]
    pub fn holds(&self, device: &DeviceId, now: Timestamp) -> bool {
        (self.from..self.until).contains(&now)
            && self.devices.as_ref().is_none_or(|devices| devices.contains(device))
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.devices {
            None => write!(f, "frozen by {}: {}", self.id, self.reason),
            Some(devices) => write!(f, "{} devices frozen by {}: {}", devices.len(), self.id, self.reason),
        }
    }
}
