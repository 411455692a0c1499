//! What is known of one release and outlives the process.

use std::collections::VecDeque;

use muster_sketch::{detector::DeviceWatch, reference::ReferenceId};
use serde::{Deserialize, Serialize};
use shared::{Digest, ReleaseId, telemetry::DriftAlarm};

use crate::runner::Pace;

/// Form of [`Kept`] on the disk.
pub(super) const KEPT_FORMAT: u32 = 1;

/// Alarms of a release that are kept for its operator: every feature may alarm at once, and a second time.
const MAX_ALARMS: usize = 2 * muster_sketch::reference::MAX_FEATURES;

/// What outlives the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) format: u32,
    pub(super) release: ReleaseId,
    /// Of what the device runs under that name.
    pub(super) model: Digest,
    pub(super) reference: ReferenceId,
    /// What the runner has measured.
    #[serde(default)]
    pub(super) pace: Option<Pace>,
    /// One for each feature; none without a guardrail.
    #[serde(default)]
    pub(super) watches: Vec<DeviceWatch>,
    /// Oldest first.
    #[serde(default)]
    pub(super) alarms: VecDeque<KeptAlarm>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptAlarm {
    pub(super) alarm: DriftAlarm,
    /// The server has stored a window of telemetry with it.
    pub(super) told: bool,
}

impl Kept {
    /// Nothing is known yet.
    pub(super) fn new(release: ReleaseId, model: Digest, reference: ReferenceId) -> Self {
        let (pace, watches, alarms) = (None, Vec::new(), VecDeque::new());
        Self { format: KEPT_FORMAT, release, model, reference, pace, watches, alarms }
    }

    /// Keeps alarms; without room the oldest go, first those that the server has.
    pub(super) fn add(&mut self, alarms: &[DriftAlarm]) {
        self.alarms.extend(alarms.iter().map(|alarm| KeptAlarm { alarm: alarm.clone(), told: false }));
        while self.alarms.len() > MAX_ALARMS {
            let oldest = self.alarms.iter().position(|kept| kept.told).unwrap_or(0);
            self.alarms.remove(oldest);
        }
    }

    /// Whether it has an alarm that the server does not have.
    pub(super) fn has_untold(&self) -> bool {
        self.alarms.iter().any(|kept| !kept.told)
    }
}
