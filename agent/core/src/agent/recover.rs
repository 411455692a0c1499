//! Takes up the work where the ledger left off.
//!
//! Nothing here measures how the last run ended: starts and trials were counted before they began, so what is in
//! the ledger is enough, whether the process was stopped, killed, or the power failed.

use std::collections::BTreeMap;

use shared::{Digest, ModelName, manifest::Manifest, report::RejectReason};

use super::Agent;
use crate::{
    challenger::Live,
    deployment::Deployment,
    event::Event,
    ledger::{Candidate, Intake, Phase},
};

impl Agent {
    pub(super) fn recover(&mut self, manifests: BTreeMap<Digest, Manifest>) {
        let boot = self.boot.clone();
        self.ledger.change().outbox.start_boot(boot);
        let names: Vec<ModelName> = self.ledger.models.keys().cloned().collect();
        for name in names {
            self.recover_committed(&name, &manifests);
            self.recover_candidate(&name, &manifests);
        }
        self.recover_challengers(&manifests);
    }

    /// They go on when nothing has the right of way: first of all the models that answer must be brought back.
    fn recover_challengers(&mut self, manifests: &BTreeMap<Digest, Manifest>) {
        for (name, challenge) in self.ledger.challengers.by_model.clone() {
            let manifest = manifests.get(&challenge.installed.manifest).cloned().map(Box::new);
            if manifest.is_none() && !challenge.is_over() {
                self.ledger.change().challengers.intake = Intake::Lacking;
                self.note(
                    Event::warn("the store has lost the manifest of a challenger").with("model", &name),
                );
            }
            self.challengers.insert(name, Live::new(manifest, self.now));
        }
    }

    fn recover_committed(&mut self, name: &ModelName, manifests: &BTreeMap<Digest, Manifest>) {
        let digest = self.ledger.models[name].committed.as_ref().map(|committed| committed.manifest);
        let manifest = digest.and_then(|digest| manifests.get(&digest)).cloned().map(Box::new);
        if digest.is_some() && manifest.is_none() {
            self.note_lacking(name);
        }
        self.model_mut(name).committed = manifest;
    }

    fn recover_candidate(&mut self, name: &ModelName, manifests: &BTreeMap<Digest, Manifest>) {
        let Some(candidate) = self.ledger.models[name].candidate.clone() else { return };
        let Some(manifest) = manifests.get(&candidate.installed.manifest).cloned().map(Box::new) else {
            self.drop_candidate(name);
            return self.note_lacking(name);
        };
        self.resume(name, &candidate, manifest);
    }

    fn resume(&mut self, name: &ModelName, candidate: &Candidate, manifest: Box<Manifest>) {
        match &candidate.phase {
            Phase::Transferring { retries } => {
                self.model_mut(name).deployment = Deployment::transferring(manifest, *retries);
            }
            Phase::SelfTesting { trials, .. } if *trials >= manifest.probation.max_starts => {
                let detail = format!("{trials} trials were begun and none came to an end");
                self.reject(name, RejectReason::TrialCrashed { detail });
            }
            Phase::SelfTesting { trials, .. } => self.begin_trial(name, manifest, *trials),
            Phase::Activating(watch) if watch.starts == 0 => {
                self.model_mut(name).deployment = Deployment::Waiting { manifest };
            }
            Phase::Activating(_) | Phase::Probation(_) => {
                self.model_mut(name).deployment = Deployment::Activating { manifest };
                self.give_up_looping(name);
            }
        }
    }

    /// The desired state is taken in once more; it comes again with the next session.
    fn note_lacking(&mut self, name: &ModelName) {
        self.ledger.change().intake = Intake::Lacking;
        self.note(Event::warn("the store has lost a manifest").with("model", name));
    }
}
