//! The facts that survive power loss. The shell makes the ledger durable whenever
//! [`Agent::ledger_revision`](crate::Agent::ledger_revision) has moved, before it performs any effect, so nobody
//! ever observes a consequence of a fact that could still be lost.
//!
//! It holds decisions and no measurements: block maps lie beside the partial files, and the time and counts of a
//! probation are written only when its phase changes. Losing them makes a probation longer, never shorter.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use shared::{
    Digest, Generation, ModelName, ReleaseId, maintenance::MaintenanceWindows, manifest::Manifest,
    message::Quarantine, report::DeploymentEvent, telemetry::Counts,
};

use crate::{challenger::Challengers, outbox::Outbox, trend::Trend};

/// Version of the ledger's schema.
pub const LEDGER_FORMAT: u32 = 1;

/// Digests remembered as bad on a device. More refused models than any device sees in its life.
pub const MAX_REMEMBERED: usize = 256;

/// The durable state of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Version of this schema: [`LEDGER_FORMAT`].
    pub format: u32,
    /// The newest desired state that was verified here.
    pub generation: Generation,
    /// How far that desired state was taken in.
    pub intake: Intake,
    /// What that desired state says of the device as a whole.
    #[serde(default)]
    pub orders: Orders,
    /// One record for each assigned model.
    pub models: BTreeMap<ModelName, Record>,
    /// Releases that run beside champions.
    #[serde(default, skip_serializing_if = "Challengers::is_untouched")]
    pub challengers: Challengers,
    /// Models that were rejected or rolled back here, oldest first.
    pub remembered_bad: VecDeque<Digest>,
    /// Reports that the server has not acknowledged.
    pub outbox: Outbox,
}

/// How far the newest desired state was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intake {
    /// Everything it needs is here.
    #[default]
    Whole,
    /// A manifest is missing from the store, or an assignment was not answered: the same generation is taken in
    /// again.
    Lacking,
}

/// What the director says of the device as a whole; it holds until a newer desired state says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    /// When new versions may begin to answer; `None` leaves it to the device's own settings.
    pub maintenance: Option<MaintenanceWindows>,
    /// Why the device takes nothing new.
    pub quarantine: Option<Quarantine>,
}

/// Whether a model follows the desired state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// It does.
    #[default]
    Free,
    /// It stays on its committed version.
    Pinned,
}

/// What is known of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version that is kept.
    pub committed: Option<Installed>,
    /// The version that is on its way or on probation.
    pub candidate: Option<Candidate>,
    /// How the last deployment ended.
    pub last: Option<Outcome>,
    /// The last version that was rejected or rolled back here, and why: the server answers that with a desired state that
    /// ends well, and the reason must outlive it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_bad: Option<Outcome>,
    /// Whether it follows the desired state.
    #[serde(default)]
    pub hold: Hold,
}

/// A version by its digests: enough to find everything about it in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Which version.
    pub release: ReleaseId,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its model.
    pub model: Digest,
    /// Digest of its golden vectors.
    pub golden: Digest,
}

impl Installed {
    pub(crate) fn new(digest: Digest, manifest: &Manifest) -> Self {
        Self {
            release: manifest.release.clone(),
            manifest: digest,
            model: manifest.model.digest,
            golden: manifest.golden.artifact.digest,
        }
    }
}

/// A version that is not kept yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Which version.
    pub installed: Installed,
    /// The desired state that asks for it.
    pub generation: Generation,
    /// How far it came.
    pub phase: Phase,
}

/// How far a candidate came, as far as it matters after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Phase {
    /// Its artifacts are fetched, or wait to be.
    Transferring {
        /// Attempts that failed and were followed by another, counted before each wait.
        #[serde(default)]
        retries: u32,
    },
    /// Its artifacts are here; it is tried.
    SelfTesting {
        /// Trials that were begun, counted before each.
        trials: u32,
        /// As in `Transferring`, for a trial that finds the artifacts damaged.
        #[serde(default)]
        retries: u32,
    },
    /// It is loaded beside the committed version.
    Activating(Watch),
    /// It answers requests, or did before the last restart.
    Probation(Watch),
}

/// What was seen of an activated candidate up to its last change of phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Starts, counted before each load.
    pub starts: u32,
    /// Time it answered requests.
    pub watched_ms: u64,
    /// What it did in that time.
    pub counts: Counts,
    /// What it did last.
    #[serde(default)]
    pub trend: Trend,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The desired state that asked for it.
    pub generation: Generation,
    /// Which version.
    pub release: ReleaseId,
    /// How it ended.
    pub event: DeploymentEvent,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            format: LEDGER_FORMAT,
            generation: Generation::default(),
            intake: Intake::Whole,
            orders: Orders::default(),
            models: BTreeMap::new(),
            challengers: Challengers::default(),
            remembered_bad: VecDeque::new(),
            outbox: Outbox::default(),
        }
    }
}

impl Ledger {
    /// Digests of the manifests that the shell reads from the store before it builds the agent.
    pub fn manifests(&self) -> impl Iterator<Item = Digest> + '_ {
        let models = self.models.values().flat_map(|record| {
            let candidate = record.candidate.as_ref().map(|candidate| candidate.installed.manifest);
            record.committed.as_ref().map(|committed| committed.manifest).into_iter().chain(candidate)
        });
        let challenges = self.challengers.by_model.values().filter(|challenge| !challenge.is_over());
        models.chain(challenges.map(|challenge| challenge.installed.manifest))
    }

    /// The digest of its JSON form: two ledgers with the same digest are the same, byte for byte.
    ///
    /// # Panics
    /// Never: a ledger holds text, numbers and maps with text as keys.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a ledger has a JSON form"))
    }

    pub(crate) fn remembers(&self, model: &Digest) -> bool {
        self.remembered_bad.contains(model)
    }

    pub(crate) fn remember(&mut self, model: Digest) {
        self.forget(&model);
        if self.remembered_bad.len() >= MAX_REMEMBERED {
            self.remembered_bad.pop_front();
        }
        self.remembered_bad.push_back(model);
    }

    pub(crate) fn forget(&mut self, model: &Digest) {
        self.remembered_bad.retain(|known| known != model);
    }
}
