//! From a desired state that came to deployments that begin, go on or end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shared::{
    Digest, Generation, ModelName, Timestamp,
    manifest::Manifest,
    message::{Assignment, DirectorDocument},
    report::{DeploymentEvent, RejectReason},
};

use super::{Agent, Store};
use crate::{
    MAX_MODELS, backoff,
    deployment::Deployment,
    event::Event,
    ledger::{Candidate, Installed, Intake, Phase},
    port::{Effect, Refusal},
};

/// Verification fails for want of metadata or a fresh signature: soon again at first, then as often as metadata
/// is renewed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The check of the newest desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    Idle,
    Running { generation: Generation, attempt: u32 },
    Waiting { generation: Generation, attempt: u32, until: Timestamp },
}

/// A desired state that was seen before is read again only to fetch what the store has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    First,
    Again,
}

impl Verification {
    pub(super) fn is_running(self) -> bool {
        matches!(self, Self::Running { .. })
    }

    pub(super) fn timer(self) -> Option<(Timestamp, Generation)> {
        match self {
            Self::Waiting { generation, until, .. } => Some((until, generation)),
            Self::Idle | Self::Running { .. } => None,
        }
    }
}

impl Agent {
    pub(super) fn desired_arrived(&mut self, generation: Generation) -> Result<(), Refusal> {
        self.refuse_stale(generation)?;
        if self.is_known(generation) {
            return Ok(());
        }
        match self.verification {
            Verification::Running { generation: running, .. } if running >= generation => Ok(()),
            _ => {
                self.verify(generation, 0);
                Ok(())
            }
        }
    }

    pub(super) fn desired_refused(&mut self, generation: Generation, detail: &str, retry: bool) {
        let event = Event::warn("the desired state was refused");
        self.note(event.with("generation", generation).with("detail", detail).with("retry", retry));
        // Whatever number the message claimed that was asked about: this is the answer.
        let Verification::Running { attempt, .. } = self.verification else { return };
        self.verification = if retry {
            let seed = self.settings.jitter_seed ^ generation.0.rotate_left(32) ^ u64::from(attempt);
            let wait = backoff::spread(backoff::doubled(RETRY.0, attempt + 1, RETRY.1), seed);
            Verification::Waiting {
                generation,
                attempt: attempt.saturating_add(1).min(32),
                until: self.now + wait,
            }
        } else {
            Verification::Idle
        };
    }

    pub(super) fn desired_verified(
        &mut self,
        director: &DirectorDocument,
        manifests: Vec<(Assignment, Digest, Manifest)>,
        refused: Vec<(Assignment, RejectReason)>,
    ) -> Result<(), Refusal> {
        self.end_verification(director.generation);
        self.check_director(director)?;
        if self.is_known(director.generation) {
            return Ok(());
        }
        let again = director.generation == self.ledger.generation;
        let reading = if again { Reading::Again } else { Reading::First };
        let ledger = self.ledger.change();
        (ledger.generation, ledger.intake) = (director.generation, Intake::Whole);
        self.store = Store::Littered;
        self.take_orders(director);

        let mut open: BTreeMap<ModelName, &Assignment> = by_model(&director.assignments);
        let named: BTreeSet<ModelName> = open.keys().cloned().collect();
        for (assignment, digest, manifest) in manifests {
            if take(&mut open, &assignment) {
                self.assign(&assignment, digest, manifest, reading);
            }
        }
        for (assignment, reason) in refused {
            if take(&mut open, &assignment) {
                self.refuse(&assignment, reason, reading);
            }
        }
        if !open.is_empty() {
            self.ledger.change().intake = Intake::Lacking;
        }
        self.release_unassigned(&named);
        Ok(())
    }

    pub(super) fn advance_verification(&mut self) {
        if let Verification::Waiting { generation, attempt, until } = self.verification
            && until <= self.now
        {
            self.verify(generation, attempt);
        }
    }

    fn verify(&mut self, generation: Generation, attempt: u32) {
        self.verification = Verification::Running { generation, attempt };
        self.effects.push_back(Effect::Verify { generation });
    }

    /// An answer ends the check, unless a newer desired state is being checked by now.
    /// An answer ends the check, whatever generation the message claimed: the claim is not signed, and a check that
    /// waited for it could wait for ever. A newer message asks for a check of its own.
    fn end_verification(&mut self, answered: Generation) {
        match self.verification {
            Verification::Running { .. } => self.verification = Verification::Idle,
            Verification::Waiting { generation, .. } if generation <= answered => {
                self.verification = Verification::Idle;
            }
            Verification::Waiting { .. } | Verification::Idle => {}
        }
    }

    fn refuse_stale(&self, found: Generation) -> Result<(), Refusal> {
        let known = self.ledger.generation;
        if found < known { Err(Refusal::StaleGeneration { found, known }) } else { Ok(()) }
    }

    fn is_known(&self, generation: Generation) -> bool {
        generation == self.ledger.generation && self.ledger.intake == Intake::Whole
    }

    fn check_director(&self, director: &DirectorDocument) -> Result<(), Refusal> {
        if director.device != self.device {
            return Err(Refusal::OtherDevice(director.device.to_string()));
        }
        let models = director.assignments.len();
        if models > MAX_MODELS {
            return Err(Refusal::TooManyModels(models));
        }
        self.refuse_stale(director.generation)
    }

    /// The desired state names a release for a model.
    fn assign(&mut self, assignment: &Assignment, digest: Digest, manifest: Manifest, reading: Reading) {
        let name = &assignment.release.model;
        if let Some(contradiction) = self.contradiction(assignment, digest, &manifest) {
            let reason = RejectReason::BadManifest { detail: contradiction.into() };
            return self.refuse(assignment, reason, reading);
        }
        self.take_hold(assignment);
        let record = self.ledger.record(name);
        if record.committed.as_ref().is_some_and(|committed| committed.manifest == digest) {
            self.model_mut(name).committed = Some(Box::new(manifest));
            return self.keep_committed(assignment, reading);
        }
        if let Some(reason) = self.restraint(assignment) {
            return self.refuse(assignment, reason, reading);
        }
        let generation = self.ledger.generation;
        if let Some(candidate) = &mut self.ledger.record(name).candidate
            && candidate.installed.manifest == digest
        {
            candidate.generation = generation;
            return;
        }
        if reading == Reading::Again && self.has_ended(name) {
            return;
        }
        self.supersede(name);
        self.begin(assignment, Installed::new(digest, &manifest), Box::new(manifest));
    }

    /// A release is immutable: neither may its manifest name another, nor may it be another one than before.
    fn contradiction(&self, named: &Assignment, digest: Digest, manifest: &Manifest) -> Option<&'static str> {
        if manifest.release != named.release || digest != named.manifest_digest {
            return Some("it is not the manifest of the assigned release");
        }
        let record = self.ledger.models.get(&named.release.model)?;
        let candidate = record.candidate.as_ref().map(|candidate| &candidate.installed);
        let mut known = record.committed.iter().chain(candidate);
        let other = known.any(|known| known.release == named.release && known.manifest != digest);
        other.then_some("this device knows the same release with another manifest")
    }

    fn keep_committed(&mut self, assignment: &Assignment, reading: Reading) {
        self.supersede(&assignment.release.model);
        if reading == Reading::First {
            let event = DeploymentEvent::Committed { inferences: 0, failures: 0 };
            self.end(self.ledger.generation, assignment.release.clone(), event);
        }
    }

    fn begin(&mut self, assignment: &Assignment, installed: Installed, manifest: Box<Manifest>) {
        let (name, generation) = (&assignment.release.model, self.ledger.generation);
        let model = installed.model;
        if self.ledger.remembers(&model) && !assignment.retry {
            let reason = RejectReason::RememberedBad { digest: model };
            return self.end(generation, assignment.release.clone(), DeploymentEvent::Rejected(reason));
        }
        self.ledger.change().forget(&model);
        let candidate = Candidate { installed, generation, phase: Phase::Transferring { retries: 0 } };
        self.ledger.record(name).candidate = Some(candidate);
        self.model_mut(name).deployment = Deployment::transferring(manifest, 0);
    }

    /// The desired state names a release that must not be installed; what runs goes on running.
    fn refuse(&mut self, assignment: &Assignment, reason: RejectReason, reading: Reading) {
        let name = &assignment.release.model;
        self.take_hold(assignment);
        self.model_mut(name);
        if reading == Reading::Again && self.has_ended(name) {
            return;
        }
        let refused = |candidate: &Candidate| candidate.installed.release == assignment.release;
        if self.ledger.models[name].candidate.as_ref().is_some_and(refused) {
            self.cancel_trial(name);
            self.drop_candidate(name);
        } else {
            self.supersede(name);
        }
        self.end(self.ledger.generation, assignment.release.clone(), DeploymentEvent::Rejected(reason));
    }

    /// True when the deployment that this desired state asks for is over already.
    fn has_ended(&self, name: &ModelName) -> bool {
        let generation = self.ledger.generation;
        self.ledger.models.get(name).is_some_and(|record| {
            record.candidate.is_none()
                && record.last.as_ref().is_some_and(|last| last.generation == generation)
        })
    }

    /// A model that is not named any more is forgotten, with its committed version.
    fn release_unassigned(&mut self, assigned: &BTreeSet<ModelName>) {
        let known = self.ledger.models.keys().filter(|name| !assigned.contains(*name));
        for name in known.cloned().collect::<Vec<_>>() {
            self.supersede(&name);
            self.ledger.change().models.remove(&name);
            self.models.remove(&name);
            self.note(Event::info("the model is no longer assigned").with("model", &name));
        }
    }
}

/// One assignment for each model; of two, the first counts.
fn by_model(assignments: &[Assignment]) -> BTreeMap<ModelName, &Assignment> {
    assignments.iter().rev().map(|assignment| (assignment.release.model.clone(), assignment)).collect()
}

/// True when the director has named this assignment and nothing was said of it before.
fn take(open: &mut BTreeMap<ModelName, &Assignment>, assignment: &Assignment) -> bool {
    let model = &assignment.release.model;
    open.get(model).is_some_and(|named| *named == assignment) && open.remove(model).is_some()
}
