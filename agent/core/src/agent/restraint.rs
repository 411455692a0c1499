//! Pins and quarantine: why a device does not take what the desired state names, although nothing is wrong with it.
//!
//! Both come in the signed director document and hold until a newer one says otherwise. Only committed versions
//! go on: a candidate that is under way, or on probation, ends. What is refused for them is not remembered as bad.

use shared::{
    message::{Assignment, DirectorDocument, Quarantine},
    report::RejectReason,
};

use super::Agent;
use crate::{
    event::Event,
    ledger::{Hold, Orders},
};

/// Characters of a reason that are kept: it travels in reports and stands in status lines.
const MAX_REASON: usize = 200;

impl Agent {
    /// Takes in what the document says of the device as a whole.
    pub(super) fn take_orders(&mut self, director: &DirectorDocument) {
        let quarantine = director.quarantine.as_ref().map(shortened);
        if let Some(quarantine) = &quarantine {
            let event = Event::warn("the device is in quarantine and takes nothing new");
            self.note(event.with("reason", &quarantine.reason));
        }
        let maintenance = director.maintenance.clone();
        self.ledger.change().orders = Orders { maintenance, quarantine };
    }

    /// Notes whether the model follows.
    pub(super) fn take_hold(&mut self, assignment: &Assignment) {
        let hold = if assignment.pinned { Hold::Pinned } else { Hold::Free };
        self.ledger.record(&assignment.release.model).hold = hold;
    }

    /// Why a release that is not the committed one must not come.
    pub(super) fn restraint(&self, assignment: &Assignment) -> Option<RejectReason> {
        if let Some(quarantine) = &self.ledger.orders.quarantine {
            return Some(RejectReason::Quarantined { detail: quarantine.reason.clone() });
        }
        let record = self.ledger.models.get(&assignment.release.model)?;
        match record.hold {
            Hold::Free => None,
            Hold::Pinned => {
                let committed = record.committed.as_ref()?.release.clone();
                Some(RejectReason::Pinned { committed })
            }
        }
    }
}

fn shortened(quarantine: &Quarantine) -> Quarantine {
    Quarantine { reason: quarantine.reason.chars().take(MAX_REASON).collect() }
}
