//! When callers reach a runner: as soon as every model it was told to load answers, or has failed to.
//!
//! A runner that replaces one that died must load the models again. Until it has, callers wait in the queue of the
//! listening sockets; a runner that already listened would tell them that there is no such model.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::ReleaseId;

use super::{idle::Idle, listeners::Listeners};
use crate::runner::{Command, RunnerCommands};

/// Who answers while no runner does; empty while callers wait or a runner answers.
pub(super) type SharedIdle = Arc<Mutex<Option<Idle>>>;

/// Releases that a runner was told to load and that do not answer yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Awaited(Arc<Mutex<BTreeSet<ReleaseId>>>);

impl Awaited {
    fn set(&self) -> MutexGuard<'_, BTreeSet<ReleaseId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runner is told to load a release.
    pub(super) fn expect(&self, release: ReleaseId) {
        self.set().insert(release);
    }

    /// A release answers, and so does its model: another release of it is not waited for. True when none is left.
    pub(super) fn answers(&self, release: &ReleaseId) -> bool {
        let mut set = self.set();
        set.retain(|other| other.model != release.model);
        set.is_empty()
    }

    /// A release will not answer. True when none is left.
    pub(super) fn failed(&self, release: &ReleaseId) -> bool {
        let mut set = self.set();
        set.remove(release);
        set.is_empty()
    }
}

/// Gives the listening sockets to one runner, once.
pub(super) struct Handover {
    pub(super) commands: RunnerCommands,
    pub(super) listeners: Arc<Listeners>,
    pub(super) idle: SharedIdle,
    pub(super) done: bool,
}

impl Handover {
    /// The runner may answer callers now.
    pub(super) async fn perform(&mut self) {
        if self.done {
            return;
        }
        self.done = true;
        match self.listeners.descriptors() {
            Ok(files) => {
                let sent = self.commands.send(Command::Listeners { tcp: true, unix: true }, files).await;
                if sent.is_err() {
                    tracing::debug!("the runner ended before it could listen");
                    return;
                }
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            Err(error) => tracing::error!(%error, "the listening sockets cannot be handed to the runner"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_wait_for_every_model_but_not_for_a_candidate_of_one_that_answers() {
        let awaited = Awaited::default();
        let release = |text: &str| text.parse::<ReleaseId>().unwrap();
        for text in ["digits@1", "digits@2", "faces@4"] {
            awaited.expect(release(text));
        }
        assert!(!awaited.answers(&release("digits@1")));
        assert!(awaited.failed(&release("faces@4")));
    }
}
