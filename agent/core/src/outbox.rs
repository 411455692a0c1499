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

#[cfg(test)]
mod tests {
    use shared::{Generation, Timestamp, report::DeploymentEvent};

    use super::*;

    fn outbox() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.start_boot(BootId::new("a").unwrap());
        outbox
    }

    fn push(outbox: &mut Outbox, event: DeploymentEvent) {
        let sequence = outbox.next_sequence();
        outbox.push(Report {
            device: "d1".parse().unwrap(),
            boot: outbox.boot.clone().unwrap(),
            sequence,
            at: Timestamp(1),
            generation: Generation(1),
            release: "digits@1".parse().unwrap(),
            event,
        });
    }

    #[test]
    fn a_full_outbox_gives_up_progress_before_ends_and_counts_the_loss() {
        let mut outbox = outbox();
        push(&mut outbox, DeploymentEvent::Superseded);
        push(&mut outbox, DeploymentEvent::Probation);
        (0..MAX_REPORTS - 1).for_each(|_| push(&mut outbox, DeploymentEvent::Superseded));
        assert_eq!((outbox.waiting().count(), outbox.lost()), (MAX_REPORTS, 1));
        assert!(outbox.waiting().all(|report| report.event.is_final()));
        push(&mut outbox, DeploymentEvent::Superseded);
        assert_eq!((outbox.waiting().next().unwrap().sequence, outbox.lost()), (3, 2));
    }

    #[test]
    fn numbers_start_again_with_a_boot_and_old_reports_keep_theirs() {
        let mut outbox = outbox();
        push(&mut outbox, DeploymentEvent::Probation);
        outbox.start_boot(BootId::new("b").unwrap());
        push(&mut outbox, DeploymentEvent::Superseded);
        let names: Vec<_> = outbox.waiting().map(|r| (r.boot.as_str(), r.sequence)).collect();
        assert_eq!(names, [("a", 1), ("b", 1)]);
        assert!(outbox.acknowledge(&BootId::new("a").unwrap(), 1));
        assert!(!outbox.acknowledge(&BootId::new("a").unwrap(), 1));
        assert_eq!(outbox.waiting().count(), 1);
    }
}
