//! Models that were damaged on the disk: they are fetched again, without a word of the server.
//!
//! Every load hashes the model, so damage is found before it is run, and the store hashes what it has before it says
//! that nothing is missing. A committed version has the right to be brought
//! back: it is fetched again for as long as it takes, beside whatever else is under way. Of a candidate only the trial
//! begins anew; one that answered before ends without being remembered, since its starts must not be counted anew.

use shared::{
    ModelName, ReleaseId,
    manifest::Manifest,
    report::{FailReason, RejectReason},
};

use super::{Agent, Store};
use crate::{
    deployment::{Deployment, Transferring},
    event::Event,
    port::Refusal,
};

impl Agent {
    pub(super) fn artifact_damaged(&mut self, release: &ReleaseId, detail: &str) -> Result<(), Refusal> {
        let failures = self.loading(release)?;
        let event = Event::warn("a model on the disk is damaged");
        self.note(event.with("release", release).with("detail", detail));
        let name = &release.model;
        let model = self.models.get(name);
        if model.and_then(|model| model.deployment.activated()) == Some(release) {
            self.serving.slots.remove(release);
            self.fail_candidate(name, FailReason::Storage { detail: detail.into() });
            return Ok(());
        }
        self.serving.load_failed(release, failures, self.now);
        if let Some(manifest) = model.and_then(|model| model.committed.clone()) {
            self.model_mut(name).repair = Some(Box::new(Transferring::repair(manifest)));
        }
        Ok(())
    }

    /// The committed model is whole again; the next turn loads it.
    pub(super) fn repaired(&mut self, name: &ModelName) {
        self.model_mut(name).repair = None;
        self.store = Store::Littered;
        self.note(Event::info("the committed version is whole again").with("model", name));
    }

    /// True for a version that is not loaded before it is whole.
    pub(super) fn is_repaired(&self, release: Option<&ReleaseId>) -> bool {
        let repair = release.and_then(|release| self.models.get(&release.model)?.repair.as_ref());
        repair.is_some_and(|repair| Some(&repair.manifest.release) == release)
    }

    /// A trial found other bytes than were published after the whole had been verified: the disk changed them.
    pub(super) fn trial_found(&mut self, name: &ModelName, manifest: Box<Manifest>, reason: RejectReason) {
        let RejectReason::BadArtifact { detail } = reason else { return self.reject(name, reason) };
        let retries = self.retries(name);
        self.model_mut(name).deployment = Deployment::transferring(manifest, retries);
        self.pause_or_fail(name, FailReason::Storage { detail });
    }
}
