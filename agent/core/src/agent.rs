//! All models of a device together: the turn from input to effects, timers, and what people may see.

mod attempts;
mod challengers;
mod desired;
mod fetch;
mod guard;
mod outcome;
mod recover;
mod repair;
mod restraint;
mod serve;
mod steps;
mod stop;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Deref,
};

use shared::{
    BootId, DeviceId, Digest, Generation, ModelName, ReleaseId, Timestamp,
    manifest::Manifest,
    report::{DeploymentEvent, ModelState, Report},
};

use self::{challengers::Check, desired::Verification};
use crate::{
    challenger::{Live, Room},
    deployment::{Deployment, Transferring},
    event::Event,
    ledger::{Ledger, Outcome, Phase, Record},
    port::{Effect, Input, Refusal, Settings, Wakeup},
    record::{RecordedChallengers, RecordedDesired},
    serving::Serving,
};

/// All models of a device together.
#[derive(Debug)]
pub struct Agent {
    // Who this is.
    device: DeviceId,
    boot: BootId,
    settings: Settings,

    // State.
    /// The moment of this turn.
    now: Timestamp,
    ledger: Durable,
    models: BTreeMap<ModelName, Model>,
    challengers: BTreeMap<ModelName, Live>,
    serving: Serving,
    verification: Verification,
    check: Check,
    link: Link,
    store: Store,
    life: Life,

    // Outputs.
    effects: VecDeque<Effect>,
    refusals: u64,
}

/// What a device runs of one model, and why nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatus {
    /// What runs and what is coming.
    pub state: ModelState,
    /// What the candidate waits for, or why there can be none, in words; else empty.
    pub detail: String,
    /// How the last deployment ended.
    pub last: Option<Outcome>,
    /// The last version that was rejected or rolled back here, and why.
    pub last_bad: Option<Outcome>,
}

/// What is known of a model beside its record in the ledger.
#[derive(Debug, Default)]
struct Model {
    /// Manifest of the committed version; `None` when the store has lost it.
    committed: Option<Box<Manifest>>,
    /// The committed model was damaged on the disk and is on its way once more.
    repair: Option<Box<Transferring>>,
    deployment: Deployment,
}

impl Model {
    fn transfers(&self) -> impl Iterator<Item = &Transferring> {
        self.repair.as_deref().into_iter().chain(match &self.deployment {
            Deployment::Transferring(transferring) => Some(&**transferring),
            _ => None,
        })
    }
}

/// The session with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

/// Whether the store may hold something that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Clean,
    Littered,
}

/// Whether anything is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Stopped,
}

/// The ledger, which cannot be changed without moving its revision.
#[derive(Debug)]
struct Durable {
    ledger: Ledger,
    revision: u64,
}

impl Durable {
    fn change(&mut self) -> &mut Ledger {
        self.revision += 1;
        &mut self.ledger
    }

    fn record(&mut self, model: &ModelName) -> &mut Record {
        self.change().models.entry(model.clone()).or_default()
    }

    fn set_phase(&mut self, model: &ModelName, phase: Phase) {
        if let Some(candidate) = &mut self.record(model).candidate {
            candidate.phase = phase;
        }
    }
}

impl Deref for Durable {
    type Target = Ledger;
    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl Agent {
    /// Takes up where the ledger left off; the first effects can be polled at once.
    ///
    /// `manifests` are those that [`Ledger::manifests`] names and the store still holds, by digest.
    #[must_use]
    pub fn new(
        device: DeviceId,
        boot: BootId,
        ledger: Ledger,
        manifests: Vec<(Digest, Manifest)>,
        settings: Settings,
        now: Timestamp,
    ) -> Self {
        let mut agent = Self {
            device,
            boot,
            settings,
            now,
            ledger: Durable { ledger, revision: 0 },
            models: BTreeMap::new(),
            challengers: BTreeMap::new(),
            serving: Serving::new(),
            verification: Verification::Idle,
            check: Check::Idle,
            link: Link::Down,
            store: Store::Littered,
            life: Life::Running,
            effects: VecDeque::new(),
            refusals: 0,
        };
        agent.recover(manifests.into_iter().collect());
        agent.settle();
        agent
    }

    /// Takes an input.
    ///
    /// # Errors
    /// When the input does not fit the state; it is counted and changes nothing.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<(), Refusal> {
        self.turn(now, |agent| agent.take(input))
    }

    /// Takes what a recording says was verified. Only a replay does that, and it performs no effects.
    pub(crate) fn replay_desired(&mut self, desired: RecordedDesired, now: Timestamp) -> Result<(), Refusal> {
        let RecordedDesired { director, manifests, refused } = desired;
        self.turn(now, |agent| {
            agent.still_running()?;
            agent.desired_verified(&director, manifests, refused)
        })
    }

    /// The same for challengers.
    pub(crate) fn replay_challengers(
        &mut self,
        told: RecordedChallengers,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let RecordedChallengers { document, manifests, refused } = told;
        self.turn(now, |agent| {
            agent.still_running()?;
            agent.challengers_verified(&document, manifests, refused)
        })
    }

    fn turn(
        &mut self,
        now: Timestamp,
        take: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        // A clock that goes back stands still here.
        self.now = self.now.max(now);
        match take(self) {
            Ok(()) => {
                self.settle();
                Ok(())
            }
            Err(refusal) => {
                self.refusals += 1;
                Err(refusal)
            }
        }
    }

    fn take(&mut self, input: Input) -> Result<(), Refusal> {
        self.still_running()?;
        match input {
            Input::Connected => self.connected(),
            Input::Disconnected => self.disconnected(),
            Input::DesiredArrived { generation } => return self.desired_arrived(generation),
            Input::DesiredVerified { director, manifests, refused } => {
                let manifests =
                    manifests.into_iter().map(|(a, digest, manifest)| (a, digest, manifest.into_inner()));
                return self.desired_verified(&director, manifests.collect(), refused);
            }
            Input::DesiredRefused { generation, detail, retry } => {
                self.desired_refused(generation, &detail, retry);
            }
            Input::ChallengersArrived { revision } => return self.challengers_arrived(revision),
            Input::ChallengersVerified { document, manifests, refused } => {
                let manifests =
                    manifests.into_iter().map(|(c, digest, manifest)| (c, digest, manifest.into_inner()));
                return self.challengers_verified(&document, manifests.collect(), refused);
            }
            Input::ChallengersRefused { revision, detail, retry } => {
                self.challengers_refused(revision, &detail, retry);
            }
            Input::StagingOpened { packed, here } => return self.staging_opened(packed, here),
            Input::AlreadyHere { packed } => return self.already_here(packed),
            Input::StagingFailed { packed, reason } => return self.staging_failed(packed, reason),
            Input::BlockStored { packed, index, bytes } => {
                return self.block_stored(packed, index, bytes);
            }
            Input::BlockRefused { packed, index } => return self.block_refused(packed, index),
            Input::RetryAfter { packed, delay } => return self.retry_after(packed, delay),
            Input::ArtifactGone { packed } => return self.artifact_gone(packed),
            Input::Unpacked { packed } => return self.unpacked(packed),
            Input::UnpackFailed { packed, reason } => return self.unpack_failed(packed, reason),
            Input::TrialPassed { release, figures } => return self.trial_passed(&release, figures),
            Input::TrialFailed { release, reason } => return self.trial_failed(&release, reason),
            Input::RunnerReady => return self.runner_ready(),
            Input::RunnerExited { detail } => return self.runner_exited(&detail),
            Input::RunnerReplaced => return self.runner_replaced(),
            Input::Loaded { release, load_ms } => return self.loaded(release, load_ms),
            Input::LoadFailed { release, detail } => return self.load_failed(&release, detail),
            Input::ArtifactDamaged { release, detail } => return self.artifact_damaged(&release, &detail),
            Input::Switched { release } => return self.switched(&release),
            Input::Observed { release, counts } => return self.observed(&release, &counts),
            Input::MemoryExceeded { release, used_kib, budget_kib } => {
                return self.memory_exceeded(&release, used_kib, budget_kib);
            }
            Input::Hung { release, threads } => return self.hung(&release, threads),
            Input::ChallengerRuns { release } => return self.challenger_runs(&release),
            Input::ChallengerEnded { release, end } => return self.challenger_ended(&release, end),
            Input::OperatorRollback { model } => return self.operator_rollback(&model),
            Input::LocalTime { utc_offset_secs } => self.settings.utc_offset_secs = utc_offset_secs,
            Input::ReportAcknowledged { boot, sequence } => return self.acknowledged(boot, sequence),
            Input::Stopped => self.stopped(),
            Input::Tick => {}
        }
        Ok(())
    }

    fn still_running(&self) -> Result<(), Refusal> {
        match self.life {
            Life::Running => Ok(()),
            Life::Stopped => Err(Refusal::Stopped),
        }
    }

    /// Brings everything that follows from the new state under way, in an order that frees before it takes.
    fn settle(&mut self) {
        if self.life == Life::Stopped {
            return;
        }
        self.advance_verification();
        self.advance_check();
        self.advance_transfers();
        self.advance_probations();
        self.advance_windows();
        self.advance_runner();
        self.hold_challengers();
        self.reconcile_runner();
        self.advance_challengers();
        self.collect_garbage();
        self.start_transfer();
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to send [`Input::Tick`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, Wakeup)> {
        if self.life == Life::Stopped {
            return None;
        }
        let verify = self.verification.timer().map(|(at, generation)| (at, Wakeup::Verify(generation)));
        let serving =
            self.serving.timers().filter(|(_, release)| !self.is_repaired(*release)).map(|(at, release)| {
                match release {
                    Some(release) => (at, Wakeup::Load(release.model.clone())),
                    None => (at, Wakeup::Runner),
                }
            });
        let models = self.models.iter().flat_map(|(name, model)| {
            let repair = model.repair.as_ref().and_then(|repair| repair.transfer.timer());
            let repair = repair.map(|at| (at, Wakeup::Transfer(name.clone())));
            repair.into_iter().chain(model.deployment.timer(name))
        });
        let challengers = self.check_timer().into_iter().chain(self.challenger_timers());
        verify.into_iter().chain(serving).chain(models).chain(self.window_timer()).chain(challengers).min()
    }

    /// The durable state.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Moves whenever the ledger has changed.
    #[must_use]
    pub fn ledger_revision(&self) -> u64 {
        self.ledger.revision
    }

    /// What the device runs, for its hello.
    #[must_use]
    pub fn model_states(&self) -> Vec<ModelState> {
        self.status().into_iter().map(|status| status.state).collect()
    }

    /// What the device runs, what is coming and why nothing else, for its own command line.
    #[must_use]
    pub fn status(&self) -> Vec<ModelStatus> {
        let known = self.ledger.models.iter();
        known.map(|(name, record)| self.model_status(name, record)).collect()
    }

    /// Inputs that were refused since start.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    fn model_status(&self, name: &ModelName, record: &Record) -> ModelStatus {
        let deployment = self.models.get(name).map(|model| &model.deployment);
        let staged = record
            .candidate
            .iter()
            .filter(|candidate| !matches!(candidate.phase, Phase::Transferring { .. }));
        let held: BTreeSet<Digest> = record
            .committed
            .iter()
            .chain(staged.map(|candidate| &candidate.installed))
            .map(|i| i.model)
            .collect();
        let state = ModelState {
            model: name.clone(),
            committed: record.committed.as_ref().map(|installed| installed.release.clone()),
            candidate: record.candidate.as_ref().map(|candidate| candidate.installed.release.clone()),
            step: deployment.map_or("idle", Deployment::step).into(),
            held: held.into_iter().collect(),
        };
        let detail = self.detail(name, record, deployment);
        ModelStatus { state, detail, last: record.last.clone(), last_bad: record.last_bad.clone() }
    }

    fn connected(&mut self) {
        self.link = Link::Up;
        let again = self.ledger.outbox.waiting().cloned().map(|report| Effect::Send { report });
        self.effects.extend(again.collect::<Vec<_>>());
        self.resume_transfers();
    }

    fn disconnected(&mut self) {
        self.link = Link::Down;
        self.stall_transfers();
    }

    fn acknowledged(&mut self, boot: BootId, sequence: u64) -> Result<(), Refusal> {
        let waits = self.ledger.outbox.waiting().any(|r| r.boot == boot && r.sequence == sequence);
        if waits && self.ledger.change().outbox.acknowledge(&boot, sequence) {
            return Ok(());
        }
        Err(Refusal::UnknownReport { boot, sequence })
    }

    fn collect_garbage(&mut self) {
        // While a desired state is verified, its manifests lie in the store and nobody names them yet.
        if self.store == Store::Clean || self.verification.is_running() || self.checks_challengers() {
            return;
        }
        self.store = Store::Clean;
        let records = self.ledger.models.values();
        let installed = records.flat_map(|record| {
            record.committed.iter().chain(record.candidate.as_ref().map(|candidate| &candidate.installed))
        });
        let mut keep: BTreeSet<Digest> = installed.flat_map(|i| [i.manifest, i.model, i.golden]).collect();
        let transfers = self.models.values().flat_map(Model::transfers);
        keep.extend(transfers.flat_map(|transfer| &transfer.parts).map(|artifact| artifact.packed.digest));
        keep.extend(self.kept_for_challengers());
        self.effects.push_back(Effect::CollectGarbage { keep });
    }

    /// What challengers hold, and what has come of those that are under way or held.
    fn kept_for_challengers(&self) -> Vec<Digest> {
        let challenges = self.ledger.challengers.by_model.iter().filter(|(_, c)| !c.is_over());
        let kept = challenges.flat_map(|(name, challenge)| {
            let installed = &challenge.installed;
            let live = self.challengers.get(name).filter(|live| live.room == Room::Kept);
            let packed = live.and_then(|live| live.manifest.as_ref()).into_iter().flat_map(|manifest| {
                manifest.artifacts().map(|(_, artifact)| artifact.packed.digest).collect::<Vec<_>>()
            });
            let whole = live.map(|_| [installed.model, installed.golden]).into_iter().flatten();
            whole.chain(packed).chain([installed.manifest])
        });
        kept.collect()
    }

    fn report(&mut self, generation: Generation, release: ReleaseId, event: DeploymentEvent) {
        let (device, boot) = (self.device.clone(), self.boot.clone());
        let outbox = &mut self.ledger.change().outbox;
        let sequence = outbox.next_sequence();
        let report = Report { device, boot, sequence, at: self.now, generation, release, event };
        outbox.push(report.clone());
        if self.link == Link::Up {
            self.effects.push_back(Effect::Send { report });
        }
    }

    fn note(&mut self, event: Event) {
        self.effects.push_back(Effect::Note(event));
    }

    fn model_mut(&mut self, name: &ModelName) -> &mut Model {
        self.models.entry(name.clone()).or_default()
    }
}
