//! Loads that a runner has not answered, and what follows when it does not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_core::Input;
use rustix::process::{Pid, Signal, kill_process};
use shared::ReleaseId;

use super::super::Inputs;

/// A load may take the budget of its manifest and this much more, for a busy device.
const ALLOWANCE: Duration = Duration::from_secs(10);

/// When a load with this budget has taken too long.
pub(super) fn deadline_of(load_ms: u32) -> Duration {
    Duration::from_millis(load_ms.into()) + ALLOWANCE
}

/// The open loads of one runner.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Each load has its own ticket, so that the watch over an earlier load of a release does not end a later one.
    tickets: BTreeMap<ReleaseId, u64>,
    next: u64,
}

impl Loads {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runner answered; false when that came after the deadline.
    pub(super) fn answered(&self, release: &ReleaseId) -> bool {
        self.open().tickets.remove(release).is_some()
    }

    /// Notes a load. Without an answer by the deadline the load has failed, and the runner is killed: a thread
    /// that hangs in the engine can be ended in no other way.
    pub(super) fn watch(&self, release: ReleaseId, deadline: Duration, pid: u32, inputs: Inputs) {
        let ticket = self.take_ticket(&release);
        let loads = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            if !loads.overdue(&release, ticket) {
                return;
            }
            let detail = format!("it was not loaded within {} ms", deadline.as_millis());
            tracing::warn!(%release, runner.pid = pid, "{detail}; the runner is killed");
            let _ = inputs.send(Input::LoadFailed { release, detail }).await;
            kill(pid);
        });
    }

    fn take_ticket(&self, release: &ReleaseId) -> u64 {
        let mut open = self.open();
        open.next += 1;
        let ticket = open.next;
        open.tickets.insert(release.clone(), ticket);
        ticket
    }

    fn overdue(&self, release: &ReleaseId, ticket: u64) -> bool {
        let mut open = self.open();
        let overdue = open.tickets.get(release) == Some(&ticket);
        if overdue {
            open.tickets.remove(release);
        }
        overdue
    }

    /// The runner has ended: none of its loads is waited for.
    pub(super) fn clear(&self) {
        self.open().tickets.clear();
    }
}

/// Ends a runner in the one way that a hanging thread cannot resist.
pub(super) fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::KILL)
    {
        tracing::warn!(%error, "a runner that hangs cannot be killed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_over_an_earlier_load_does_not_end_a_later_one() {
        let loads = Loads::default();
        let release: ReleaseId = "digits@1".parse().unwrap();
        let first = loads.take_ticket(&release);
        assert!(loads.answered(&release));
        let second = loads.take_ticket(&release);
        assert!(!loads.overdue(&release, first));
        assert!(loads.overdue(&release, second));
        assert!(!loads.answered(&release), "an answer after the deadline counts no more");
    }
}
