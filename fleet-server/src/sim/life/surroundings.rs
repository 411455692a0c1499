//! What virtual devices have in common: the fleet, the time, a place to dial, and the counts of what they did.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use muster_link::Backoff;
use tokio::sync::Semaphore;

use crate::{
    clock::Clock,
    sim::{identity::Fleet, session::Lost},
};

/// Connections that are being made at once. A server on a busy machine makes some tens of them in a second; of more at
/// once each takes so long that it is given up, and what it has cost is lost.
const DIALS: usize = 32;

/// What all devices of a run have around them.
pub(in crate::sim) struct Surroundings {
    pub(in crate::sim) fleet: Fleet,
    pub(in crate::sim) clock: Clock,
    pub(in crate::sim) counters: Counters,
    pub(super) dials: Semaphore,
    pub(super) backoff: Backoff,
}

/// What devices did, all together.
#[derive(Debug, Default)]
pub(in crate::sim) struct Counters {
    pub(in crate::sim) connected: AtomicU64,
    pub(in crate::sim) connects: AtomicU64,
    pub(in crate::sim) breaks: AtomicU64,
    pub(in crate::sim) failed_dials: AtomicU64,
    pub(in crate::sim) reports: AtomicU64,
    pub(in crate::sim) telemetry: AtomicU64,
    pub(in crate::sim) blocks: AtomicU64,
    pub(in crate::sim) damaged_blocks: AtomicU64,
    pub(in crate::sim) disbelieved: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Surroundings {
    pub(in crate::sim) fn new(fleet: Fleet) -> Self {
        Self {
            fleet,
            clock: Clock::start(),
            counters: Counters::default(),
            dials: Semaphore::new(DIALS),
            backoff: Backoff::default(),
        }
    }
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, why: &Lost) {
        Self::count(&self.failed_dials);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    /// Why a device could not connect, the last time that one could not.
    pub(in crate::sim) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
