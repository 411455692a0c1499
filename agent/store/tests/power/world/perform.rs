//! What the effects of the core do in a played world: everything on the disk is real.

use agent_core::{Effect, Input, Phase};
use agent_store::{BlockFate, Opened, StoreError};
use shared::{
    Digest, ReleaseId,
    artifact::Artifact,
    manifest::Manifest,
    report::{DeploymentEvent, FailReason, RejectReason, TrialFigures},
};

use super::{Violation, World};
use crate::server::{Nature, Server, verified};

impl World {
    pub(super) fn perform(&mut self, server: &Server, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Verify { .. } => self.verify(server),
            Effect::OpenStaging { artifact } => self.stage(&artifact),
            Effect::Request { packed, runs, .. } => {
                for index in runs.into_iter().flat_map(|run| run.first..run.first + run.count) {
                    self.receive(packed, index, server.block(packed, index));
                }
            }
            Effect::Unpack { artifact } => self.unpack(&artifact),
            Effect::CollectGarbage { keep } => drop(self.store.collect(&keep)),
            Effect::RunTrial { release, manifest } => return self.try_out(server, release, &manifest),
            // The trial has answered already, and this server names no challengers.
            Effect::CancelTrial { .. }
            | Effect::VerifyChallengers { .. }
            | Effect::StartChallenger { .. }
            | Effect::StopChallenger { .. }
            | Effect::Note(_) => {}
            Effect::EnsureRunner => self.inputs.push_back(Input::RunnerReady),
            Effect::StopRunner => self.loaded.clear(),
            Effect::Load { release, manifest } => return self.load(server, release, &manifest),
            Effect::Switch { release } => {
                self.serving.insert(release.model.clone(), release.clone());
                self.inputs.push_back(Input::Switched { release });
            }
            Effect::Unload { release } => {
                self.loaded.remove(&release);
                self.serving.retain(|_, serving| *serving != release);
            }
            Effect::Send { report } => {
                if matches!(report.event, DeploymentEvent::Committed { .. }) && self.keeps(&report.release) {
                    self.facts.committed.insert(report.release.model.clone(), report.release.clone());
                }
                self.facts.generation = self.facts.generation.max(report.generation);
                self.disk.learn(self.facts.clone());
                if self.acknowledges {
                    let (boot, sequence) = (report.boot.clone(), report.sequence);
                    self.inputs.push_back(Input::ReportAcknowledged { boot, sequence });
                }
            }
        }
        Ok(())
    }

    /// The manifests are kept before the core hears of them, as the verifier does it.
    fn verify(&mut self, server: &Server) {
        let mut manifests = Vec::new();
        for release in server.desired.iter().map(|release| &server.releases[release]) {
            if self.store.keep_manifest(&release.digest, &release.json).is_err() {
                let (generation, detail) = (server.generation, "the disk".to_owned());
                return self.inputs.push_back(Input::DesiredRefused { generation, detail, retry: true });
            }
            let assignment = server.assignment(&release.manifest.release);
            manifests.push((assignment, release.digest, verified(release.manifest.clone())));
        }
        // From here on a later generation may take the place of what was committed.
        self.facts.committed.retain(|_, release| server.desired.contains(release));
        self.disk.learn(self.facts.clone());
        let director = verified(server.director());
        self.inputs.push_back(Input::DesiredVerified { director, manifests, refused: Vec::new() });
    }

    fn stage(&mut self, artifact: &Artifact) {
        let packed = artifact.packed.digest;
        self.inputs.push_back(match self.store.stage(artifact) {
            Ok(Opened::AlreadyHere) => Input::AlreadyHere { packed },
            Ok(Opened::Staging(here)) => Input::StagingOpened { packed, here },
            Err(error) => failed(packed, &error),
        });
    }

    fn receive(&mut self, packed: Digest, index: u32, bytes: &[u8]) {
        self.inputs.push_back(match self.store.put_block(packed.short(), index, bytes) {
            Ok((packed, BlockFate::Stored { bytes })) => Input::BlockStored { packed, index, bytes },
            Ok((packed, BlockFate::Refused)) => Input::BlockRefused { packed, index },
            Err(error) => failed(packed, &error),
        });
    }

    fn unpack(&mut self, artifact: &Artifact) {
        let packed = artifact.packed.digest;
        self.inputs.push_back(match self.store.unpack(artifact) {
            Ok(()) => Input::Unpacked { packed },
            Err(StoreError::WrongBytes(detail)) => {
                Input::UnpackFailed { packed, reason: RejectReason::BadArtifact { detail } }
            }
            Err(error) => failed(packed, &error),
        });
    }

    fn try_out(&mut self, server: &Server, release: ReleaseId, manifest: &Manifest) -> Result<(), Violation> {
        self.reads_whole(manifest)?;
        if let Some(generation) = self.generation_of(&release) {
            *self.facts.trials.entry((release.clone(), generation)).or_default() += 1;
            self.disk.learn(self.facts.clone());
        }
        self.inputs.push_back(match server.releases[&release].nature {
            Nature::FailsTrial => {
                let reason = RejectReason::GoldenMismatch { case: 0, detail: "y".into() };
                Input::TrialFailed { release, reason }
            }
            _ => Input::TrialPassed { release, figures: TrialFigures::default() },
        });
        Ok(())
    }

    fn load(&mut self, server: &Server, release: ReleaseId, manifest: &Manifest) -> Result<(), Violation> {
        self.reads_whole(manifest)?;
        if let Some(generation) = self.generation_of(&release) {
            *self.facts.starts.entry((release.clone(), generation)).or_default() += 1;
            self.disk.learn(self.facts.clone());
        }
        match server.releases[&release].nature {
            Nature::FailsToLoad => {
                self.inputs.push_back(Input::LoadFailed { release, detail: "no memory".into() });
            }
            Nature::KillsRunner => {
                self.loaded.clear();
                self.serving.clear();
                self.inputs.push_back(Input::RunnerExited { detail: "signal 11".into() });
            }
            _ => {
                self.loaded.insert(release.clone());
                self.inputs.push_back(Input::Loaded { release, load_ms: 3 });
            }
        }
        Ok(())
    }

    /// Runner and trial get the file and hash what they read.
    fn reads_whole(&self, manifest: &Manifest) -> Result<(), Violation> {
        for artifact in [&manifest.model, &manifest.golden.artifact] {
            let live = self.disk.live();
            let bytes = live.read(format!("artifacts/{}", artifact.digest).as_ref());
            if bytes.map(Digest::of) != Some(artifact.digest) {
                return Err(format!("I2: {} is loaded from other bytes than signed", manifest.release));
            }
        }
        Ok(())
    }

    /// True when a report that may be an old one still holds, and nothing is about to take the place of that version.
    fn keeps(&self, release: &ReleaseId) -> bool {
        self.agent.ledger().models.get(&release.model).is_some_and(|record| {
            record.candidate.is_none()
                && record.committed.as_ref().is_some_and(|kept| kept.release == *release)
        })
    }

    /// The generation that asked for a candidate; `None` for another version.
    fn generation_of(&self, release: &ReleaseId) -> Option<shared::Generation> {
        let candidate = self.agent.ledger().models.get(&release.model)?.candidate.as_ref()?;
        let is_tried = !matches!(candidate.phase, Phase::Transferring { .. });
        (candidate.installed.release == *release && is_tried).then_some(candidate.generation)
    }
}

fn failed(packed: Digest, error: &StoreError) -> Input {
    Input::StagingFailed { packed, reason: FailReason::Storage { detail: error.to_string() } }
}
