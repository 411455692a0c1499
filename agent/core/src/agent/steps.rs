//! The steps of a deployment after its artifacts are here: self-test, activation, probation.

use shared::{
    ModelName, ReleaseId,
    manifest::Manifest,
    report::{DeploymentEvent, RejectReason, RollbackReason, TrialFigures},
    telemetry::Counts,
};

use super::Agent;
use crate::{
    deployment::{Deployment, Probation},
    judge::Verdict,
    ledger::{Candidate, Phase, Watch},
    port::{Effect, Refusal},
};

impl Agent {
    /// Begins a trial; `earlier` were begun and did not end, because the device or the agent did.
    pub(super) fn begin_trial(&mut self, name: &ModelName, manifest: Box<Manifest>, earlier: u32) {
        let (trials, retries) = (earlier.saturating_add(1), self.retries(name));
        self.ledger.set_phase(name, Phase::SelfTesting { trials, retries });
        let release = manifest.release.clone();
        self.model_mut(name).deployment = Deployment::SelfTesting { manifest: manifest.clone() };
        self.effects.push_back(Effect::RunTrial { release, manifest });
    }

    pub(super) fn trial_passed(&mut self, release: &ReleaseId, figures: TrialFigures) -> Result<(), Refusal> {
        if self.challenger_tried(release, Ok(())) {
            return Ok(());
        }
        let manifest = self.tested(release, "the end of a trial")?;
        self.ledger.set_phase(&release.model, Phase::Activating(Watch::default()));
        self.model_mut(&release.model).deployment = Deployment::Waiting { manifest };
        self.progress(&release.model, DeploymentEvent::SelfTested(figures));
        Ok(())
    }

    pub(super) fn trial_failed(&mut self, release: &ReleaseId, reason: RejectReason) -> Result<(), Refusal> {
        if self.challenger_tried(release, Err(&reason)) {
            return Ok(());
        }
        let manifest = self.tested(release, "the end of a trial")?;
        self.trial_found(&release.model, manifest, reason);
        Ok(())
    }

    /// Requests reach the candidate: probation begins, or goes on after a restart.
    pub(super) fn switched(&mut self, release: &ReleaseId) -> Result<(), Refusal> {
        let name = &release.model;
        if self.serving.active.get(name) != Some(release) {
            return Err(Refusal::UnexpectedRelease { what: "a switch", release: release.clone() });
        }
        let Some(Deployment::Activating { manifest }) = self.models.get(name).map(|model| &model.deployment)
        else {
            return Ok(());
        };
        if manifest.release != *release {
            return Ok(());
        }
        let (manifest, watch) = (manifest.clone(), self.watch(name));
        let probation = Probation::new(manifest, &watch, self.now);
        self.model_mut(name).deployment = Deployment::Probation(Box::new(probation));
        if !self.candidate(name).is_some_and(|candidate| matches!(candidate.phase, Phase::Probation(_))) {
            self.ledger.set_phase(name, Phase::Probation(watch));
            self.progress(name, DeploymentEvent::Probation);
        }
        Ok(())
    }

    pub(super) fn observed(&mut self, release: &ReleaseId, counts: &Counts) -> Result<(), Refusal> {
        let (name, now) = (&release.model, self.now);
        if let Some(Deployment::Probation(probation)) = self.models.get_mut(name).map(|m| &mut m.deployment)
            && probation.manifest.release == *release
        {
            let verdict = probation.judge.observe(counts, probation.watched_ms(now));
            self.follow(name, verdict);
            return Ok(());
        }
        if self.serving.slots.contains_key(release) {
            return Ok(());
        }
        Err(Refusal::UnexpectedRelease { what: "an observation", release: release.clone() })
    }

    pub(super) fn advance_probations(&mut self) {
        let now = self.now;
        let due = self.models.iter_mut().filter_map(|(name, model)| match &mut model.deployment {
            Deployment::Probation(probation) if probation.due().is_some_and(|due| due <= now) => {
                Some((name.clone(), probation.judge.look(probation.watched_ms(now))))
            }
            _ => None,
        });
        for (name, verdict) in due.collect::<Vec<_>>() {
            self.follow(&name, verdict);
        }
    }

    /// The runner is gone: the candidate waits to be loaded again, and what it showed is kept.
    pub(super) fn interrupt(&mut self, name: &ModelName) {
        let now = self.now;
        let Some(Deployment::Probation(probation)) = self.models.get(name).map(|model| &model.deployment)
        else {
            return;
        };
        let (watched_ms, counts) = (probation.watched_ms(now), probation.judge.counts());
        let (manifest, trend) = (probation.manifest.clone(), probation.judge.trend());
        let starts = self.watch(name).starts;
        self.ledger.set_phase(name, Phase::Probation(Watch { starts, watched_ms, counts, trend }));
        self.model_mut(name).deployment = Deployment::Activating { manifest };
    }

    /// Rolls back a candidate that was started as often as its policy allows.
    pub(super) fn give_up_looping(&mut self, name: &ModelName) {
        let deployment = self.models.get(name).map(|model| &model.deployment);
        let Some(Deployment::Activating { manifest }) = deployment else { return };
        let starts = self.watch(name).starts;
        if starts >= manifest.probation.max_starts {
            self.roll_back(name, RollbackReason::CrashLoop { starts });
        }
    }

    /// Counts a start; the ledger is durable before the load that follows.
    pub(super) fn count_start(&mut self, name: &ModelName) {
        let Some(candidate) = &mut self.ledger.record(name).candidate else { return };
        if let Phase::Activating(watch) | Phase::Probation(watch) = &mut candidate.phase {
            watch.starts = watch.starts.saturating_add(1);
        }
    }

    /// Reports a step that ends nothing.
    pub(super) fn progress(&mut self, name: &ModelName, event: DeploymentEvent) {
        if let Some(candidate) = self.candidate(name) {
            let (generation, release) = (candidate.generation, candidate.installed.release.clone());
            self.report(generation, release, event);
        }
    }

    fn follow(&mut self, name: &ModelName, verdict: Verdict) {
        match verdict {
            Verdict::Healthy { inferences, failures } => self.commit(name, inferences, failures),
            Verdict::Degraded(reason) => self.roll_back(name, reason),
            Verdict::Insufficient => {}
        }
    }

    fn candidate(&self, name: &ModelName) -> Option<&Candidate> {
        self.ledger.models.get(name)?.candidate.as_ref()
    }

    fn watch(&self, name: &ModelName) -> Watch {
        match self.candidate(name).map(|candidate| &candidate.phase) {
            Some(Phase::Activating(watch) | Phase::Probation(watch)) => watch.clone(),
            Some(Phase::Transferring { .. } | Phase::SelfTesting { .. }) | None => Watch::default(),
        }
    }

    fn tested(&self, release: &ReleaseId, what: &'static str) -> Result<Box<Manifest>, Refusal> {
        match self.models.get(&release.model).map(|model| &model.deployment) {
            Some(Deployment::SelfTesting { manifest }) if manifest.release == *release => {
                Ok(manifest.clone())
            }
            _ => Err(Refusal::UnexpectedRelease { what, release: release.clone() }),
        }
    }
}
