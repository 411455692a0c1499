//! Reports that wait for the server's acknowledgement, in order.
//!
//! They lie in the ledger, so a report made offline or just before a power cut is still sent. When the server
//! stays away for too long, progress goes first: how a deployment ended is worth more than how it went.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use shared::{BootId, report::Report};

/// Reports that wait at most; a device makes about six for each deployment.
pub const MAX_REPORTS: usize = 256;

/// Reports that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    /// Which run of the agent numbers its reports now; `None` before the first.
    boot: Option<BootId>,
    /// Number of the newest report of this boot.
    sequence: u64,
    /// Reports without acknowledgement, oldest first.
    waiting: VecDeque<Report>,
    /// Reports that were dropped for want of room, ever.
    lost: u64,
}

impl Outbox {
    /// Reports without acknowledgement, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Report> {
        self.waiting.iter()
    }

    /// Reports that were dropped for want of room, ever.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Numbers start at 1 again, unless the boot goes on.
    pub(crate) fn start_boot(&mut self, boot: BootId) {
        if self.boot.as_ref() != Some(&boot) {
            self.boot = Some(boot);
            self.sequence = 0;
        }
    }

    /// The number of the next report.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence = self.sequence.saturating_add(1);
        self.sequence
    }

    pub(crate) fn push(&mut self, report: Report) {
        if self.waiting.len() >= MAX_REPORTS {
            let victim = self.waiting.iter().position(|report| !report.event.is_final()).unwrap_or(0);
            self.waiting.remove(victim);
            self.lost = self.lost.saturating_add(1);
        }
        self.waiting.push_back(report);
    }

    /// Removes an acknowledged report; false when there is none.
    pub(crate) fn acknowledge(&mut self, boot: &BootId, sequence: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|report| report.sequence != sequence || report.boot != *boot);
        self.waiting.len() < before
    }
}
