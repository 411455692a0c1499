//! Times in which nobody new is asked.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::Timestamp;

/// A time in which nobody new is asked. What runs goes on: devices that were asked settle, and failures still stop a
/// rollout and bring devices back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its name.
    pub id: String,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
}

impl Freeze {
    /// True while it holds.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frozen by {}: {}", self.id, self.reason)
    }
}
