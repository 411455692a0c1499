//! Failures of a transfer: what is tried again, and what ends the deployment. [`retry`] has the table.

use std::time::Duration;

use shared::{
    ModelName,
    report::{DeploymentEvent, FailReason},
};

use super::{
    Agent,
    fetch::{Errand, Job},
};
use crate::{event::Event, ledger::Phase, retry, transfer::Transfer};

impl Agent {
    /// A transfer did not get through.
    pub(super) fn fail(&mut self, job: &Job, reason: FailReason) {
        if matches!(reason, FailReason::DiskFull { .. }) && job.errand != Errand::Challenger {
            self.clear_room();
        }
        match job.errand {
            Errand::Challenger => self.challenger_did_not_arrive(&job.model, &reason),
            Errand::Candidate => self.pause_or_fail(&job.model, reason),
            Errand::Repair => {
                let seed = self.settings.jitter_seed;
                let Some(repair) = self.transfer_of(job) else { return };
                let wait = retry::wait_of_repair(repair.retries, seed);
                self.pause(job, wait, reason);
            }
        }
    }

    /// Plans another attempt, or ends the deployment when its class of failure is not tried again.
    pub(super) fn pause_or_fail(&mut self, name: &ModelName, reason: FailReason) {
        let job = Job { model: name.clone(), errand: Errand::Candidate };
        let seed = self.settings.jitter_seed;
        let retries = self.retries(name);
        let Some(wait) = retry::wait_of(&reason, retries, seed) else {
            return self.fail_candidate(name, reason);
        };
        self.ledger.set_phase(name, Phase::Transferring { retries: retries.saturating_add(1) });
        self.pause(&job, wait, reason);
    }

    fn pause(&mut self, job: &Job, wait: Duration, reason: FailReason) {
        let event = Event::warn("a transfer failed and is repeated after a wait");
        let event = event.with("model", &job.model).with("reason", &reason);
        self.note(event.with("wait_ms", wait.as_millis()));
        let until = self.now + wait;
        let Some(transferring) = self.transfer_of(job) else { return };
        transferring.retries = transferring.retries.saturating_add(1);
        transferring.transfer = Transfer::Paused { until, reason };
    }

    /// Ends the deployment without prejudice against the version.
    pub(super) fn fail_candidate(&mut self, name: &ModelName, reason: FailReason) {
        if let Some(candidate) = self.drop_candidate(name) {
            let (generation, release) = (candidate.generation, candidate.installed.release);
            self.end(generation, release, DeploymentEvent::Failed(reason));
        }
    }

    /// Attempts of the candidate that failed and were followed by another.
    pub(super) fn retries(&self, name: &ModelName) -> u32 {
        let candidate = self.ledger.models.get(name).and_then(|record| record.candidate.as_ref());
        match candidate.map(|candidate| &candidate.phase) {
            Some(Phase::Transferring { retries } | Phase::SelfTesting { retries, .. }) => *retries,
            Some(Phase::Activating(_) | Phase::Probation(_)) | None => 0,
        }
    }
}
