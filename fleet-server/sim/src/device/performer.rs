//! What a device does with the effects of its agent. Every answer comes after a while, none at once.

use agent_core::{Effect, Input};
use shared::{
    ReleaseId,
    artifact::Artifact,
    block::BlockMap,
    manifest::Manifest,
    message::Request,
    report::{FailReason, RejectReason, TrialFigures},
};

use super::{Job, VirtualDevice};
use crate::{nature::Nature, wire::Up};

// How long work takes, in milliseconds: of the order of a small board's.
const OPEN_MS: u64 = 10;
const UNPACK_MS: u64 = 500;
const TRIAL_MS: u64 = 3_000;
const TRIAL_LIMIT_MS: u64 = 60_000;
const RUNNER_MS: u64 = 150;
const LOAD_MS: u64 = 800;
const SWITCH_MS: u64 = 1;

impl VirtualDevice {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Verify { generation } => self.begin_verifying(generation),
            Effect::OpenStaging { artifact } => self.open(artifact),
            Effect::Request { packed, block_bytes, runs } => {
                if self.online {
                    let request = Request::Blocks { artifact: packed, block_bytes, runs };
                    self.messages.push_back(Up::Request(request));
                }
            }
            Effect::Unpack { artifact } => self.unpack(&artifact),
            Effect::RunTrial { release, .. } => self.try_out(release),
            Effect::CancelTrial { release } => self.cancel_trial(&release),
            Effect::EnsureRunner => self.answer(RUNNER_MS, Input::RunnerReady),
            Effect::StopRunner => self.lose_runner(),
            Effect::Load { release, manifest } => self.load(release, &manifest),
            Effect::Switch { release } => self.switch(release),
            Effect::Unload { release } => {
                self.loaded.remove(&release);
                self.serving.retain(|_, serving| *serving != release);
            }
            Effect::Send { report } => {
                if self.online {
                    self.messages.push_back(Up::Report(report));
                }
            }
            Effect::CollectGarbage { keep } => self.disk.collect_garbage(&keep),
            // The virtual server names no challengers.
            Effect::VerifyChallengers { .. }
            | Effect::StartChallenger { .. }
            | Effect::StopChallenger { .. }
            | Effect::Note(_) => {}
        }
    }

    fn open(&mut self, artifact: Artifact) {
        let packed = artifact.packed.digest;
        let full = self.fills_disk(&artifact);
        let input = match self.disk.blocks.get(&packed) {
            _ if self.disk.published.contains(&artifact.digest) => Input::AlreadyHere { packed },
            _ if full => {
                let reason = FailReason::DiskFull { needed_bytes: artifact.size_bytes, free_bytes: 1 };
                Input::StagingFailed { packed, reason }
            }
            Some(here) => Input::StagingOpened { packed, here: here.clone() },
            None => Input::StagingOpened { packed, here: BlockMap::empty(artifact.packed.block_count()) },
        };
        self.staging.insert(packed.short(), artifact);
        self.answer(OPEN_MS, input);
    }

    fn fills_disk(&self, artifact: &Artifact) -> bool {
        self.nature_of_artifact(artifact) == Nature::FillsDisk
    }

    fn unpack(&mut self, artifact: &Artifact) {
        let packed = artifact.packed.digest;
        self.disk.blocks.remove(&packed);
        if self.nature_of_artifact(artifact) == Nature::UnpacksWrong {
            let reason = RejectReason::BadArtifact { detail: "it unpacks to another digest".into() };
            return self.answer(UNPACK_MS, Input::UnpackFailed { packed, reason });
        }
        self.disk.published.insert(artifact.digest);
        self.answer(UNPACK_MS, Input::Unpacked { packed });
    }

    fn nature_of_artifact(&self, artifact: &Artifact) -> Nature {
        let mut manifests = self.disk.manifests.values();
        let of = manifests.find(|manifest| manifest.model.digest == artifact.digest);
        of.map_or(Nature::Good, |manifest| self.nature_of(&manifest.release))
    }

    fn try_out(&mut self, release: ReleaseId) {
        let (after_ms, input) = match self.nature_of(&release) {
            Nature::FailsTrial => {
                let reason = RejectReason::GoldenMismatch { case: 0, detail: "y differs".into() };
                (TRIAL_MS, Input::TrialFailed { release, reason })
            }
            Nature::HangsTrial => {
                let reason = RejectReason::OverBudget { detail: "60 s of 60 s".into() };
                (TRIAL_LIMIT_MS, Input::TrialFailed { release, reason })
            }
            _ => (TRIAL_MS, Input::TrialPassed { release, figures: TrialFigures::default() }),
        };
        self.answer(after_ms, input);
    }

    fn cancel_trial(&mut self, release: &ReleaseId) {
        self.drop_answers(|input| {
            matches!(input, Input::TrialPassed { release: tried, .. } | Input::TrialFailed { release: tried, .. } if tried == release)
        });
    }

    fn load(&mut self, release: ReleaseId, manifest: &Manifest) {
        if !self.disk.published.contains(&manifest.model.digest) {
            let detail = "the model is not on the disk".into();
            return self.answer(LOAD_MS, Input::ArtifactDamaged { release, detail });
        }
        match self.nature_of(&release) {
            Nature::FailsToLoad => {
                let detail = "no memory".into();
                self.answer(LOAD_MS, Input::LoadFailed { release, detail });
            }
            Nature::KillsRunner => {
                self.lose_runner();
                self.answer(LOAD_MS, Input::RunnerExited { detail: "signal 11".into() });
            }
            _ => {
                self.loaded.insert(release.clone());
                self.answer(LOAD_MS, Input::Loaded { release, load_ms: LOAD_MS });
            }
        }
    }

    fn switch(&mut self, release: ReleaseId) {
        self.serving.insert(release.model.clone(), release.clone());
        self.answer(SWITCH_MS, Input::Switched { release: release.clone() });
        self.expect_traffic(release);
    }

    /// What was in the runner is gone, with every answer that it owed.
    pub(super) fn lose_runner(&mut self) {
        self.loaded.clear();
        self.serving.clear();
        self.drop_answers(|input| {
            matches!(
                input,
                Input::RunnerReady
                    | Input::Loaded { .. }
                    | Input::LoadFailed { .. }
                    | Input::ArtifactDamaged { .. }
                    | Input::Switched { .. }
            )
        });
        self.jobs.retain(|_, job| !matches!(job, Job::Traffic(_)));
    }

    fn drop_answers(&mut self, unwanted: impl Fn(&Input) -> bool) {
        self.jobs.retain(|_, job| match job {
            Job::Answer(input) => !unwanted(input),
            Job::Traffic(_) | Job::MetadataOverdue(_) => true,
        });
    }
}
