//! What the runner holds, as far as the core knows: the mirror against which wishes are compared.

use std::{collections::BTreeMap, time::Duration};

use shared::{ModelName, ReleaseId, Timestamp};

use crate::backoff;

/// A runner that lived this long is not in a loop of crashes.
const STABLE: Duration = Duration::from_secs(60);

/// The first restart comes at once, the second after a second, then ever later up to a minute.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A committed version that cannot be loaded is tried again after this: memory may be short for a while only.
const RELOAD: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The runner process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    Absent,
    Starting,
    Ready { since: Timestamp },
    Cooling { until: Timestamp },
}

/// A version in the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Loading { failures: u32 },
    Loaded,
    Failed { failures: u32, until: Timestamp },
}

/// The runner and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) runner: Runner,
    pub(crate) slots: BTreeMap<ReleaseId, Slot>,
    /// The version of each model that requests reach, or will after the next switch.
    pub(crate) active: BTreeMap<ModelName, ReleaseId>,
    /// Ends of the runner in a row, each soon after its start.
    exits: u32,
}

impl Serving {
    pub(crate) fn new() -> Self {
        Self { runner: Runner::Absent, slots: BTreeMap::new(), active: BTreeMap::new(), exits: 0 }
    }

    /// The runner is gone; tells when to start the next.
    pub(crate) fn exited(&mut self, now: Timestamp) -> Duration {
        let stable = matches!(self.runner, Runner::Ready { since } if now.since(since) >= STABLE);
        self.exits = if stable { 1 } else { self.exits.saturating_add(1) };
        self.slots.clear();
        self.active.clear();
        let wait = match self.exits {
            0 | 1 => Duration::ZERO,
            more => backoff::doubled(RESTART.0, more - 2, RESTART.1),
        };
        self.runner = if wait.is_zero() { Runner::Absent } else { Runner::Cooling { until: now + wait } };
        wait
    }

    /// The runner is gone, and the committed versions are not to blame: either the end is charged to the candidates in it,
    /// whose starts are counted and bounded, or it was ended for a thread that hung. The next one may come at once.
    pub(crate) fn exited_for_others(&mut self) -> Duration {
        self.slots.clear();
        self.active.clear();
        self.runner = Runner::Absent;
        Duration::ZERO
    }

    /// No model is left.
    pub(crate) fn stop(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn is_loaded(&self, release: &ReleaseId) -> bool {
        self.slots.get(release) == Some(&Slot::Loaded)
    }

    pub(crate) fn load_failed(&mut self, release: &ReleaseId, failures: u32, now: Timestamp) {
        let until = now + backoff::doubled(RELOAD.0, failures, RELOAD.1);
        self.slots.insert(release.clone(), Slot::Failed { failures: failures.saturating_add(1), until });
    }

    /// What is due again.
    pub(crate) fn timers(&self) -> impl Iterator<Item = (Timestamp, Option<&ReleaseId>)> {
        let runner = match self.runner {
            Runner::Cooling { until } => Some((until, None)),
            Runner::Absent | Runner::Starting | Runner::Ready { .. } => None,
        };
        let slots = self.slots.iter().filter_map(|(release, slot)| match slot {
            Slot::Failed { until, .. } => Some((*until, Some(release))),
            Slot::Loading { .. } | Slot::Loaded => None,
        });
        runner.into_iter().chain(slots)
    }
}
