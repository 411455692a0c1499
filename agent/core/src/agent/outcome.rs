//! The ways in which a deployment ends. Each leaves the committed version as it was, except a commit.

use std::mem;

use shared::{
    Generation, ModelName, ReleaseId,
    report::{DeploymentEvent, RejectReason, RollbackReason},
};

use super::{Agent, Store};
use crate::{
    deployment::Deployment,
    event::Event,
    ledger::{Candidate, Outcome},
    port::Effect,
};

impl Agent {
    /// Records and reports an end.
    pub(super) fn end(&mut self, generation: Generation, release: ReleaseId, event: DeploymentEvent) {
        let outcome = Outcome { generation, release: release.clone(), event: event.clone() };
        self.ledger.record(&release.model).last = Some(outcome);
        self.note(told(&release, generation, &event));
        self.report(generation, release, event);
    }

    /// A newer desired state wants something else.
    pub(super) fn supersede(&mut self, name: &ModelName) {
        self.cancel_trial(name);
        if let Some(candidate) = self.drop_candidate(name) {
            self.end(candidate.generation, candidate.installed.release, DeploymentEvent::Superseded);
        }
    }

    pub(super) fn reject(&mut self, name: &ModelName, reason: RejectReason) {
        self.condemn(name, DeploymentEvent::Rejected(reason));
    }

    pub(super) fn roll_back(&mut self, name: &ModelName, reason: RollbackReason) {
        self.condemn(name, DeploymentEvent::RolledBack(reason));
    }

    /// The candidate becomes the committed version: the only place where that changes.
    pub(super) fn commit(&mut self, name: &ModelName, inferences: u64, failures: u64) {
        let model = self.model_mut(name);
        let Deployment::Probation(probation) = mem::take(&mut model.deployment) else { return };
        model.committed = Some(probation.manifest);
        model.repair = None;
        let record = self.ledger.record(name);
        let Some(candidate) = record.candidate.take() else { return };
        record.committed = Some(candidate.installed.clone());
        self.store = Store::Littered;
        let event = DeploymentEvent::Committed { inferences, failures };
        self.end(candidate.generation, candidate.installed.release, event);
    }

    /// Ends the deployment without prejudice against the candidate; used with an `end` of its own.
    pub(super) fn drop_candidate(&mut self, name: &ModelName) -> Option<Candidate> {
        self.ledger.models.get(name)?.candidate.as_ref()?;
        self.model_mut(name).deployment = Deployment::Idle;
        self.store = Store::Littered;
        self.ledger.record(name).candidate.take()
    }

    /// A trial whose end is not waited for gives up the one place that there is.
    pub(super) fn cancel_trial(&mut self, name: &ModelName) {
        let deployment = self.models.get(name).map(|model| &model.deployment);
        if let Some(Deployment::SelfTesting { manifest }) = deployment {
            self.effects.push_back(Effect::CancelTrial { release: manifest.release.clone() });
        }
    }

    fn condemn(&mut self, name: &ModelName, event: DeploymentEvent) {
        if let Some(candidate) = self.drop_candidate(name) {
            self.ledger.change().remember(candidate.installed.model);
            let (generation, release) = (candidate.generation, candidate.installed.release);
            self.end(generation, release.clone(), event.clone());
            self.ledger.record(name).last_bad = Some(Outcome { generation, release, event });
        }
    }
}

fn told(release: &ReleaseId, generation: Generation, event: &DeploymentEvent) -> Event {
    let line = match event {
        DeploymentEvent::Committed { .. } => Event::info("the version is kept"),
        DeploymentEvent::Superseded => Event::info("the version is no longer wanted"),
        DeploymentEvent::Rejected(reason) => Event::warn("the version is rejected").with("reason", reason),
        DeploymentEvent::Failed(reason) => Event::warn("the version did not arrive").with("reason", reason),
        DeploymentEvent::RolledBack(reason) => {
            Event::warn("the version is rolled back").with("reason", reason)
        }
        DeploymentEvent::Transferring { .. }
        | DeploymentEvent::Staged { .. }
        | DeploymentEvent::SelfTested(_)
        | DeploymentEvent::Probation => Event::info("the deployment goes on"),
    };
    line.with("release", release).with("generation", generation)
}
