//! Moves artifacts onto the device: one transfer at a time, so that a slow link finishes something. A committed
//! version that is damaged comes first, then candidates in the order of their names, then challengers.

use std::{mem, time::Duration};

use shared::{
    Digest, ModelName,
    artifact::Artifact,
    block::BlockMap,
    report::{DeploymentEvent, FailReason, RejectReason},
};

use super::{Agent, Link};
use crate::{
    deployment::{Announcement, Deployment, Transferring},
    port::{Effect, Refusal},
    transfer::{Fetching, MAX_ATTEMPTS, Stall, Step, Transfer, bytes_here},
};

/// Whose transfer it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) model: ModelName,
    pub(super) errand: Errand,
}

/// What a transfer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Repair,
    Candidate,
    Challenger,
}

impl Agent {
    /// Opens the next artifact when none is on its way.
    pub(super) fn start_transfer(&mut self) {
        if self.transfers().any(|(_, transferring)| transferring.transfer.is_under_way()) {
            return;
        }
        let planned = |errand| {
            move |(job, transferring): &(Job, &mut Transferring)| {
                job.errand == errand && transferring.transfer == Transfer::Planned
            }
        };
        let first = [Errand::Repair, Errand::Candidate, Errand::Challenger].into_iter().find_map(|errand| {
            let (job, _) = self.transfers().find(planned(errand))?;
            Some(job)
        });
        let Some(next) = first.and_then(|job| self.transfer_of(&job)) else { return };
        let Some(artifact) = next.parts.front().cloned() else { return };
        next.transfer = Transfer::Opening;
        self.effects.push_back(Effect::OpenStaging { artifact });
    }

    pub(super) fn staging_opened(&mut self, packed: Digest, here: BlockMap) -> Result<(), Refusal> {
        let (link, now) = (self.link, self.now);
        let (job, transferring, artifact) = self.active(packed, "an opened file")?;
        if transferring.transfer != Transfer::Opening {
            return Err(Refusal::UnexpectedArtifact { what: "an opened file", packed });
        }
        let expected = artifact.packed.block_count();
        if here.len() != expected {
            return Err(Refusal::BlockMap { found: here.len(), expected });
        }
        let resumed_bytes = bytes_here(&artifact.packed, &here);
        let size_bytes = transferring.parts.iter().map(|part| part.packed.size_bytes).sum();
        let announcement = mem::replace(&mut transferring.announcement, Announcement::Made);
        let fetching = Fetching::new(here, now);
        transferring.transfer = match link {
            Link::Up => Transfer::Fetching(fetching),
            Link::Down if fetching.here().is_complete() => Transfer::Fetching(fetching),
            Link::Down => Transfer::Stalled(fetching, Stall::Offline),
        };
        if announcement == Announcement::Due {
            self.progress(&job.model, DeploymentEvent::Transferring { size_bytes, resumed_bytes });
        }
        self.with_fetching(&job, |fetching| fetching.ask(now));
        Ok(())
    }

    pub(super) fn already_here(&mut self, packed: Digest) -> Result<(), Refusal> {
        let (job, transferring, _) = self.active(packed, "a published artifact")?;
        if transferring.transfer != Transfer::Opening {
            return Err(Refusal::UnexpectedArtifact { what: "a published artifact", packed });
        }
        self.part_is_here(&job);
        Ok(())
    }

    pub(super) fn staging_failed(&mut self, packed: Digest, reason: FailReason) -> Result<(), Refusal> {
        let (job, ..) = self.active(packed, "a failure of the disk")?;
        self.fail(&job, reason);
        Ok(())
    }

    pub(super) fn block_stored(&mut self, packed: Digest, index: u32, bytes: u32) -> Result<(), Refusal> {
        let now = self.now;
        let (job, transferring, _) = self.active(packed, "a block")?;
        match &mut transferring.transfer {
            Transfer::Fetching(fetching) if index < fetching.here().len() => {
                let known = fetching.here().has(index);
                transferring.fetched_bytes += if known { 0 } else { u64::from(bytes) };
                self.with_fetching(&job, |fetching| fetching.stored(index, now));
                Ok(())
            }
            // A block that was on its way when the wait began.
            Transfer::Stalled(fetching, stall) if index < fetching.here().len() => {
                let known = fetching.here().has(index);
                transferring.fetched_bytes += if known { 0 } else { u64::from(bytes) };
                if fetching.keep(index) {
                    *stall = Stall::Busy { until: now };
                }
                Ok(())
            }
            _ => Err(Refusal::UnexpectedArtifact { what: "a block", packed }),
        }
    }

    pub(super) fn block_refused(&mut self, packed: Digest, index: u32) -> Result<(), Refusal> {
        let now = self.now;
        let (job, ..) = self.active(packed, "a wrong block")?;
        self.with_fetching(&job, |fetching| fetching.refused(index, now));
        Ok(())
    }

    pub(super) fn retry_after(&mut self, packed: Digest, delay: Duration) -> Result<(), Refusal> {
        let now = self.now;
        let (_, transferring, _) = self.active(packed, "a request to wait")?;
        transferring.stall(Stall::busy(delay, now));
        Ok(())
    }

    pub(super) fn artifact_gone(&mut self, packed: Digest) -> Result<(), Refusal> {
        let (job, transferring, _) = self.active(packed, "the absence")?;
        match transferring.transfer {
            Transfer::Fetching(_) | Transfer::Stalled(..) => {
                self.fail(&job, FailReason::ArtifactGone { digest: packed });
                Ok(())
            }
            Transfer::Planned | Transfer::Opening | Transfer::Complete | Transfer::Paused { .. } => {
                Err(Refusal::UnexpectedArtifact { what: "the absence", packed })
            }
        }
    }

    pub(super) fn unpacked(&mut self, packed: Digest) -> Result<(), Refusal> {
        let (job, ..) = self.complete(packed)?;
        self.part_is_here(&job);
        Ok(())
    }

    pub(super) fn unpack_failed(&mut self, packed: Digest, reason: RejectReason) -> Result<(), Refusal> {
        let (job, ..) = self.complete(packed)?;
        match job.errand {
            Errand::Candidate => self.reject(&job.model, reason),
            Errand::Challenger => self.give_up_challenger(&job.model, reason.to_string()),
            Errand::Repair => self.fail(&job, FailReason::Storage { detail: reason.to_string() }),
        }
        Ok(())
    }

    pub(super) fn stall_transfers(&mut self) {
        self.transfers().for_each(|(_, transferring)| transferring.stall(Stall::Offline));
    }

    pub(super) fn resume_transfers(&mut self) {
        let now = self.now;
        for (_, transferring) in self.transfers() {
            if let Transfer::Stalled(_, stall @ Stall::Offline) = &mut transferring.transfer {
                *stall = Stall::Busy { until: now };
            }
        }
    }

    /// Acts on waits that are over and on answers that did not come.
    pub(super) fn advance_transfers(&mut self) {
        let now = self.now;
        let due = self.transfers().filter(|(_, t)| t.transfer.timer().is_some_and(|at| at <= now));
        for job in due.map(|(job, _)| job).collect::<Vec<_>>() {
            let Some(transferring) = self.transfer_of(&job) else { continue };
            match mem::replace(&mut transferring.transfer, Transfer::Planned) {
                Transfer::Stalled(fetching, _) => {
                    transferring.transfer = Transfer::Fetching(fetching);
                    self.with_fetching(&job, |fetching| fetching.resume(now));
                }
                Transfer::Paused { .. } => {}
                other => {
                    transferring.transfer = other;
                    self.with_fetching(&job, |fetching| fetching.time_out(now));
                }
            }
        }
    }

    /// Does what a transfer wants after news.
    fn with_fetching(&mut self, job: &Job, news: impl FnOnce(&mut Fetching) -> Step) {
        let Some(transferring) = self.transfer_of(job) else { return };
        let Transfer::Fetching(fetching) = &mut transferring.transfer else { return };
        let Some(artifact) = transferring.parts.front() else { return };
        let (packed, block_bytes) = (artifact.packed.digest, artifact.packed.block_bytes);
        match news(fetching) {
            Step::Wait => {}
            Step::Ask(runs) => self.effects.push_back(Effect::Request { packed, block_bytes, runs }),
            Step::Complete => {
                let artifact = artifact.clone();
                transferring.transfer = Transfer::Complete;
                self.effects.push_back(Effect::Unpack { artifact });
            }
            Step::GiveUp => {
                let detail = format!("no block of {packed} in {MAX_ATTEMPTS} attempts");
                self.fail(job, FailReason::Network { detail });
            }
        }
    }

    /// The artifact in hand is published; the next one follows, or what the transfer was for.
    fn part_is_here(&mut self, job: &Job) {
        let Some(transferring) = self.transfer_of(job) else { return };
        transferring.parts.pop_front();
        if let Some(artifact) = transferring.parts.front().cloned() {
            transferring.transfer = Transfer::Opening;
            self.effects.push_back(Effect::OpenStaging { artifact });
            return;
        }
        let (manifest, fetched_bytes) = (transferring.manifest.clone(), transferring.fetched_bytes);
        match job.errand {
            Errand::Repair => self.repaired(&job.model),
            Errand::Challenger => self.challenger_is_here(&job.model),
            Errand::Candidate => {
                self.progress(&job.model, DeploymentEvent::Staged { fetched_bytes });
                self.begin_trial(&job.model, manifest, 0);
            }
        }
    }

    fn transfers(&mut self) -> impl Iterator<Item = (Job, &mut Transferring)> {
        let challengers = self.challengers.iter_mut().filter_map(|(name, live)| {
            let job = Job { model: name.clone(), errand: Errand::Challenger };
            Some((job, live.transferring()?))
        });
        let models = self.models.iter_mut().flat_map(|(name, model)| {
            let job = |errand| Job { model: name.clone(), errand };
            let repair = model.repair.as_deref_mut().map(|repair| (job(Errand::Repair), repair));
            let candidate = match &mut model.deployment {
                Deployment::Transferring(transferring) => Some((job(Errand::Candidate), &mut **transferring)),
                _ => None,
            };
            repair.into_iter().chain(candidate)
        });
        models.chain(challengers)
    }

    pub(super) fn transfer_of(&mut self, job: &Job) -> Option<&mut Transferring> {
        self.transfers().find(|(other, _)| other == job).map(|(_, transferring)| transferring)
    }

    /// The transfer that this artifact is on.
    fn active(
        &mut self,
        packed: Digest,
        what: &'static str,
    ) -> Result<(Job, &mut Transferring, Artifact), Refusal> {
        let found = self.transfers().find(|(_, transferring)| transferring.transfer.is_under_way());
        let found = found.and_then(|(job, transferring)| {
            let artifact = transferring.parts.front().filter(|part| part.packed.digest == packed)?.clone();
            Some((job, transferring, artifact))
        });
        found.ok_or(Refusal::UnexpectedArtifact { what, packed })
    }

    /// The same for an artifact of which every block is here.
    fn complete(&mut self, packed: Digest) -> Result<(Job, &mut Transferring, Artifact), Refusal> {
        let what = "the end of unpacking";
        let found = self.active(packed, what)?;
        match found.1.transfer {
            Transfer::Complete => Ok(found),
            _ => Err(Refusal::UnexpectedArtifact { what, packed }),
        }
    }
}
