//! Keeps the runner in step with the wishes: every committed version, and beside it every activated candidate.
//!
//! After every turn the mirror of the runner is compared with the wishes, and the difference becomes effects.
//! So a start, a restart, a commit and a rollback need no paths of their own. The order is fixed: committed
//! versions are loaded and answer before any candidate is loaded, and a switch comes before the unload of what it
//! leaves.

use std::collections::BTreeSet;

use shared::{ModelName, ReleaseId, manifest::Manifest, report::RollbackReason};

use super::{Agent, Model};
use crate::{
    event::Event,
    port::{Effect, Refusal},
    serving::{Runner, Slot},
};

impl Agent {
    pub(super) fn runner_ready(&mut self) -> Result<(), Refusal> {
        if self.serving.runner != Runner::Starting {
            return Err(Refusal::UnexpectedRunner("readiness"));
        }
        self.serving.runner = Runner::Ready { since: self.now };
        Ok(())
    }

    pub(super) fn runner_exited(&mut self, detail: &str) -> Result<(), Refusal> {
        self.expect_runner()?;
        let candidates = self.candidates_in_runner();
        let wait = if candidates.is_empty() {
            self.serving.exited(self.now)
        } else {
            self.serving.exited_for_others()
        };
        let event = Event::warn("the runner has ended");
        self.note(event.with("detail", detail).with("restart_in_ms", wait.as_millis()));
        for name in candidates {
            self.interrupt(&name);
            self.give_up_looping(&name);
        }
        Ok(())
    }

    /// A candidate that was in it has taken nothing down, and its start is not counted.
    pub(super) fn runner_replaced(&mut self) -> Result<(), Refusal> {
        self.expect_runner()?;
        let candidates = self.candidates_in_runner();
        self.serving.exited_for_others();
        self.note(Event::warn("the runner is replaced, for a thread that hung in a version that is gone"));
        for name in candidates {
            self.interrupt(&name);
            self.give_back(&name);
        }
        Ok(())
    }

    fn expect_runner(&self) -> Result<(), Refusal> {
        match self.serving.runner {
            Runner::Absent | Runner::Cooling { .. } => Err(Refusal::UnexpectedRunner("an end")),
            Runner::Starting | Runner::Ready { .. } => Ok(()),
        }
    }

    fn candidates_in_runner(&self) -> Vec<ModelName> {
        let candidates = self.models.iter().filter_map(|(name, model)| {
            let release = model.deployment.activated()?;
            self.serving.slots.contains_key(release).then(|| name.clone())
        });
        candidates.collect()
    }

    pub(super) fn loaded(&mut self, release: ReleaseId, load_ms: u64) -> Result<(), Refusal> {
        self.loading(&release)?;
        self.note(Event::info("a version is loaded").with("release", &release).with("load_ms", load_ms));
        self.serving.slots.insert(release, Slot::Loaded);
        Ok(())
    }

    pub(super) fn load_failed(&mut self, release: &ReleaseId, detail: String) -> Result<(), Refusal> {
        let failures = self.loading(release)?;
        let activated = self.models.get(&release.model).and_then(|model| model.deployment.activated());
        if activated == Some(release) {
            self.serving.slots.remove(release);
            self.roll_back(&release.model, RollbackReason::LoadFailed { detail });
        } else {
            let event = Event::warn("the committed version cannot be loaded");
            self.note(event.with("release", release).with("detail", detail));
            self.serving.load_failed(release, failures, self.now);
        }
        Ok(())
    }

    pub(super) fn advance_runner(&mut self) {
        if matches!(self.serving.runner, Runner::Cooling { until } if until <= self.now) {
            self.serving.runner = Runner::Absent;
        }
    }

    pub(super) fn reconcile_runner(&mut self) {
        let nothing = !self.models.values().any(|model| committed(model).or(candidate(model)).is_some());
        match self.serving.runner {
            Runner::Absent if !nothing => {
                self.serving.runner = Runner::Starting;
                self.effects.push_back(Effect::EnsureRunner);
            }
            Runner::Starting | Runner::Ready { .. } if nothing => {
                self.unload_unwanted();
                self.serving.stop();
                self.effects.push_back(Effect::StopRunner);
            }
            Runner::Cooling { .. } if nothing => self.serving.stop(),
            Runner::Ready { .. } => {
                self.load_committed();
                self.switch();
                self.load_candidates();
                self.unload_unwanted();
            }
            Runner::Absent | Runner::Starting | Runner::Cooling { .. } => {}
        }
    }

    /// The state of the runner, for people.
    #[must_use]
    pub fn runner_state(&self) -> &'static str {
        match self.serving.runner {
            Runner::Absent => "absent",
            Runner::Starting => "starting",
            Runner::Ready { .. } => "ready",
            Runner::Cooling { .. } => "cooling",
        }
    }

    fn load_committed(&mut self) {
        let whole = self.models.values().filter(|model| model.repair.is_none());
        for manifest in whole.filter_map(committed) {
            let release = manifest.release.clone();
            let failures = match self.serving.slots.get(&release) {
                None => 0,
                Some(Slot::Failed { failures, until }) if *until <= self.now => *failures,
                Some(Slot::Loading { .. } | Slot::Loaded | Slot::Failed { .. }) => continue,
            };
            self.serving.slots.insert(release.clone(), Slot::Loading { failures });
            self.effects.push_back(Effect::Load { release, manifest: Box::new(manifest.clone()) });
        }
    }

    fn load_candidates(&mut self) {
        let settled = |manifest: &Manifest| {
            matches!(self.serving.slots.get(&manifest.release), Some(Slot::Loaded | Slot::Failed { .. }))
        };
        if !self.models.values().filter_map(committed).all(settled) {
            return;
        }
        let waiting = self.models.iter().filter_map(|(name, model)| Some((name, candidate(model)?)));
        let waiting = waiting.filter(|(_, manifest)| !self.serving.slots.contains_key(&manifest.release));
        let waiting: Vec<_> = waiting.map(|(name, manifest)| (name.clone(), manifest.clone())).collect();
        for (name, manifest) in waiting {
            self.count_start(&name);
            let release = manifest.release.clone();
            self.serving.slots.insert(release.clone(), Slot::Loading { failures: 0 });
            self.effects.push_back(Effect::Load { release, manifest: Box::new(manifest) });
        }
    }

    fn switch(&mut self) {
        for (name, model) in &self.models {
            let is_loaded = |manifest: &&Manifest| self.serving.is_loaded(&manifest.release);
            let best = candidate(model).filter(is_loaded).or_else(|| committed(model).filter(is_loaded));
            let Some(release) = best.map(|manifest| manifest.release.clone()) else { continue };
            if self.serving.active.get(name) != Some(&release) {
                self.serving.active.insert(name.clone(), release.clone());
                self.effects.push_back(Effect::Switch { release });
            }
        }
    }

    fn unload_unwanted(&mut self) {
        let wanted: BTreeSet<&ReleaseId> = (self.models.values())
            .flat_map(|model| committed(model).into_iter().chain(candidate(model)))
            .map(|manifest| &manifest.release)
            .collect();
        let unwanted = self.serving.slots.iter().filter(|(release, _)| !wanted.contains(release));
        let unwanted: Vec<_> = unwanted.map(|(release, slot)| (release.clone(), *slot)).collect();
        for (release, slot) in unwanted {
            self.serving.slots.remove(&release);
            self.serving.active.retain(|_, active| *active != release);
            match slot {
                Slot::Loading { .. } | Slot::Loaded => self.effects.push_back(Effect::Unload { release }),
                Slot::Failed { .. } => {}
            }
        }
    }

    /// How often a version that is being loaded failed before.
    pub(super) fn loading(&self, release: &ReleaseId) -> Result<u32, Refusal> {
        match self.serving.slots.get(release) {
            Some(Slot::Loading { failures }) => Ok(*failures),
            Some(Slot::Loaded | Slot::Failed { .. }) | None => {
                Err(Refusal::UnexpectedRelease { what: "the end of a load", release: release.clone() })
            }
        }
    }
}

/// The version that the runner must hold.
fn committed(model: &Model) -> Option<&Manifest> {
    model.committed.as_deref()
}

/// The version that the runner must hold beside it.
fn candidate(model: &Model) -> Option<&Manifest> {
    model.deployment.activated().and_then(|_| model.deployment.manifest())
}
