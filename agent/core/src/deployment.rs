//! One device's passage to one release, as a state that owns what is valid in it.
//!
//! The ledger's record of the same model names the candidate and its phase; this adds what is only true while
//! the process lives: the transfer, the judge, the manifest.

use std::{collections::VecDeque, mem};

use shared::{ModelName, ReleaseId, Timestamp, artifact::Artifact, manifest::Manifest};

use crate::{
    judge::HealthJudge,
    ledger::Watch,
    port::Wakeup,
    transfer::{Stall, Transfer},
};

/// A deployment that is not over.
#[derive(Debug, Clone, Default)]
pub(crate) enum Deployment {
    /// There is no candidate.
    #[default]
    Idle,
    /// Artifacts are on their way.
    Transferring(Box<Transferring>),
    /// The trial process runs.
    SelfTesting { manifest: Box<Manifest> },
    /// It passed its trial and was never loaded; a maintenance window has to open.
    Waiting { manifest: Box<Manifest> },
    /// The runner loads it beside the committed version.
    Activating { manifest: Box<Manifest> },
    /// It answers requests and is watched.
    Probation(Box<Probation>),
}

/// Artifacts on their way, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Transferring {
    pub(crate) manifest: Box<Manifest>,
    /// What is not published in the store yet; the first is the one in `transfer`.
    pub(crate) parts: VecDeque<Artifact>,
    pub(crate) transfer: Transfer,
    pub(crate) fetched_bytes: u64,
    pub(crate) announcement: Announcement,
    /// Attempts that failed and were followed by another.
    pub(crate) retries: u32,
}

/// Whether the server was told that blocks travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announcement {
    Due,
    Made,
}

/// A version that is watched.
#[derive(Debug, Clone)]
pub(crate) struct Probation {
    pub(crate) manifest: Box<Manifest>,
    /// When it began to answer in this run of the runner.
    pub(crate) since: Timestamp,
    /// Time it answered before that.
    pub(crate) before_ms: u64,
    pub(crate) judge: HealthJudge,
}

impl Deployment {
    pub(crate) fn transferring(manifest: Box<Manifest>, retries: u32) -> Self {
        Self::Transferring(Box::new(Transferring::of(manifest, Announcement::Due, retries)))
    }

    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Idle => None,
            Self::Transferring(transferring) => Some(&transferring.manifest),
            Self::SelfTesting { manifest } | Self::Waiting { manifest } | Self::Activating { manifest } => {
                Some(manifest)
            }
            Self::Probation(probation) => Some(&probation.manifest),
        }
    }

    /// The candidate, if it belongs into the runner.
    pub(crate) fn activated(&self) -> Option<&ReleaseId> {
        match self {
            Self::Activating { manifest } => Some(&manifest.release),
            Self::Probation(probation) => Some(&probation.manifest.release),
            Self::Idle | Self::Transferring(_) | Self::SelfTesting { .. } | Self::Waiting { .. } => None,
        }
    }

    /// When it wants to be woken, and what for.
    pub(crate) fn timer(&self, model: &ModelName) -> Option<(Timestamp, Wakeup)> {
        match self {
            Self::Transferring(transferring) => {
                transferring.transfer.timer().map(|at| (at, Wakeup::Transfer(model.clone())))
            }
            Self::Probation(probation) => probation.due().map(|at| (at, Wakeup::Probation(model.clone()))),
            Self::Idle | Self::SelfTesting { .. } | Self::Waiting { .. } | Self::Activating { .. } => None,
        }
    }

    /// The step for people.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Transferring(_) => "transferring",
            Self::SelfTesting { .. } => "self_testing",
            Self::Waiting { .. } => "waiting",
            Self::Activating { .. } => "activating",
            Self::Probation(_) => "probation",
        }
    }

    /// What it waits for, for people.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Idle => String::new(),
            Self::Transferring(transferring) => transferring.detail(),
            Self::SelfTesting { .. } => "the trial process replays the golden vectors".into(),
            Self::Waiting { .. } => "a maintenance window has to open".into(),
            Self::Activating { .. } => "the runner loads it beside the committed version".into(),
            Self::Probation(probation) => probation.detail(),
        }
    }
}

impl Transferring {
    fn new(
        manifest: Box<Manifest>,
        parts: VecDeque<Artifact>,
        announcement: Announcement,
        retries: u32,
    ) -> Self {
        let transfer = Transfer::Planned;
        Self { manifest, parts, transfer, fetched_bytes: 0, announcement, retries }
    }

    /// Brings everything that a manifest names.
    pub(crate) fn of(manifest: Box<Manifest>, announcement: Announcement, retries: u32) -> Self {
        let mut parts: VecDeque<Artifact> =
            manifest.artifacts().map(|(_, artifact)| artifact.clone()).collect();
        // A manifest may name the same bytes twice; they travel once.
        if parts.len() == 2 && parts[0].packed.digest == parts[1].packed.digest {
            parts.pop_back();
        }
        Self::new(manifest, parts, announcement, retries)
    }

    /// Brings the model of a committed version once more; what it costs is no business of a deployment.
    pub(crate) fn repair(manifest: Box<Manifest>) -> Self {
        let parts = VecDeque::from([manifest.model.clone()]);
        Self::new(manifest, parts, Announcement::Made, 0)
    }

    /// Asks for nothing for a while. Being offline is the stronger reason.
    pub(crate) fn stall(&mut self, stall: Stall) {
        self.transfer = match mem::replace(&mut self.transfer, Transfer::Planned) {
            Transfer::Fetching(fetching) => Transfer::Stalled(fetching, stall),
            Transfer::Stalled(fetching, Stall::Offline) => Transfer::Stalled(fetching, Stall::Offline),
            Transfer::Stalled(fetching, Stall::Busy { .. }) => Transfer::Stalled(fetching, stall),
            other
            @ (Transfer::Planned | Transfer::Opening | Transfer::Complete | Transfer::Paused { .. }) => other,
        };
    }

    pub(crate) fn detail(&self) -> String {
        let progress =
            |here: &shared::block::BlockMap| format!("{} of {} blocks", here.count_here(), here.len());
        match &self.transfer {
            Transfer::Planned => "waits for another transfer".into(),
            Transfer::Opening => "space is being reserved".into(),
            Transfer::Fetching(fetching) => progress(fetching.here()),
            Transfer::Stalled(fetching, Stall::Offline) => format!("{}, offline", progress(fetching.here())),
            Transfer::Stalled(fetching, Stall::Busy { .. }) => {
                format!("{}, the server is busy", progress(fetching.here()))
            }
            Transfer::Complete => "unpacking".into(),
            Transfer::Paused { reason, .. } => {
                format!("attempt {} failed and is repeated after a wait: {reason}", self.retries)
            }
        }
    }
}

impl Probation {
    pub(crate) fn new(manifest: Box<Manifest>, watch: &Watch, now: Timestamp) -> Self {
        let judge = HealthJudge::new(manifest.probation, watch.counts, watch.trend.clone());
        Self { manifest, since: now, before_ms: watch.watched_ms, judge }
    }

    pub(crate) fn watched_ms(&self, now: Timestamp) -> u64 {
        self.before_ms.saturating_add(now.as_millis().saturating_sub(self.since.as_millis()))
    }

    /// When time alone will decide.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let left_ms = self.judge.due_ms()?.saturating_sub(self.before_ms);
        Some(Timestamp(self.since.as_millis().saturating_add(left_ms)))
    }

    fn detail(&self) -> String {
        let policy = &self.manifest.probation;
        let counts = self.judge.counts();
        format!(
            "{} of {} inferences, {} failed, watched for at least {} s",
            counts.judged(),
            policy.min_inferences,
            counts.failures(),
            policy.duration_secs
        )
    }
}
