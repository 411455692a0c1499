//! What sends a candidate back beside the judge: its memory, a hang, and a person on the device.

use shared::{ModelName, ReleaseId, report::RollbackReason};

use super::Agent;
use crate::{deployment::Deployment, event::Event, port::Refusal};

impl Agent {
    /// A candidate that answers goes back. A committed version has nothing behind it: it goes on, and people are told.
    pub(super) fn memory_exceeded(
        &mut self,
        release: &ReleaseId,
        used_kib: u64,
        budget_kib: u64,
    ) -> Result<(), Refusal> {
        if !self.serving.slots.contains_key(release) {
            return Err(Refusal::UnexpectedRelease { what: "a measure of memory", release: release.clone() });
        }
        let deployment = self.models.get(&release.model).map(|model| &model.deployment);
        let Some(deployment) = deployment.filter(|deployment| deployment.activated() == Some(release)) else {
            let event = Event::warn("the committed version takes more memory than its budget");
            let event = event.with("release", release).with("used_kib", used_kib);
            self.note(event.with("budget_kib", budget_kib));
            return Ok(());
        };
        let (inferences, after_ms) = match deployment {
            Deployment::Probation(probation) => {
                (probation.judge.counts().judged(), probation.watched_ms(self.now))
            }
            _ => (0, 0),
        };
        let reason = RollbackReason::Memory { used_kib, budget_kib, inferences, after_ms };
        self.roll_back(&release.model, reason);
        Ok(())
    }

    /// A candidate in which a thread hangs goes back at once: the next inference could take the next thread. A committed
    /// version has nothing behind it: it goes on with the threads that are left, and people are told. Its runner ends
    /// with the last one.
    pub(super) fn hung(&mut self, release: &ReleaseId, threads: u32) -> Result<(), Refusal> {
        if !self.serving.slots.contains_key(release) {
            return Err(Refusal::UnexpectedRelease { what: "a hang", release: release.clone() });
        }
        let deployment = self.models.get(&release.model).map(|model| &model.deployment);
        match deployment {
            Some(Deployment::Probation(probation)) if probation.manifest.release == *release => {
                let (inferences, after_ms) =
                    (probation.judge.counts().judged(), probation.watched_ms(self.now));
                self.roll_back(&release.model, RollbackReason::Hung { threads, inferences, after_ms });
            }
            _ => {
                let event = Event::warn("inferences do not come back, and their threads with them");
                self.note(event.with("release", release).with("threads", threads));
            }
        }
        Ok(())
    }

    /// Goes back at once. The version is remembered: only a higher generation that says so brings it again.
    pub(super) fn operator_rollback(&mut self, model: &ModelName) -> Result<(), Refusal> {
        let refused = |why| Err(Refusal::NothingToGoBackTo { model: model.clone(), why });
        let Some(record) = self.ledger.models.get(model) else {
            return refused("no such model is assigned to this device");
        };
        if record.committed.is_none() {
            return refused("no version of it was committed before");
        }
        let deployment = self.models.get(model).map(|model| &model.deployment);
        if deployment.and_then(Deployment::activated).is_none() {
            return refused("its committed version answers already");
        }
        self.roll_back(model, RollbackReason::Operator);
        Ok(())
    }
}
