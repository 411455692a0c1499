//! A device without a device: performs effects as the shell would, in memory, and can lose power at any effect.
#![allow(dead_code, unused_imports, reason = "every test file uses its own part")]

mod fixtures;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use agent_core::{Agent, ChallengerEnd, Effect, Input, Ledger, Orders};
use shared::{
    Digest, Generation, ModelName, ReleaseId, Timestamp,
    artifact::Artifact,
    block::BlockMap,
    challenger::{Challenger, ChallengersDocument, ChallengersKind, Terms},
    manifest::Manifest,
    message::{Assignment, DirectorDocument},
    report::{DeploymentEvent, FailReason, RejectReason, Report, TrialFigures},
    telemetry::Counts,
};

pub use fixtures::{agent, artifact, assignment, device_id, digest_of, director, manifest, model, verified};

pub const PROBATION: Duration = Duration::from_secs(600);

/// How a version behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Nature {
    #[default]
    Good,
    FailsTrial,
    /// Its trial takes longer than the test.
    TrialHangs,
    FailsToLoad,
    KillsRunner,
    FailsInferences,
    EatsMemory,
}

/// How a life of the agent ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    #[default]
    PowerCut,
    /// In order, by a person or the system.
    Stop,
}

pub struct Device {
    pub agent: Agent,
    pub now: Timestamp,
    pub natures: BTreeMap<ReleaseId, Nature>,
    /// What the disk holds.
    pub saved: Ledger,
    revision: u64,
    pub manifests: BTreeMap<Digest, Manifest>,
    pub published: BTreeSet<Digest>,
    /// Published artifacts whose bytes the disk has changed.
    pub damaged: BTreeSet<Digest>,
    pub blocks: BTreeMap<Digest, BTreeSet<u32>>,
    /// Trials that go on; there is room for one.
    pub trials: BTreeSet<ReleaseId>,
    /// What the runner holds.
    pub loaded: BTreeSet<ReleaseId>,
    pub serving: BTreeMap<ModelName, ReleaseId>,
    /// What the server knows.
    pub desired: Option<(DirectorDocument, Vec<Manifest>)>,
    pub named_challengers: Option<(ChallengersDocument, Vec<Manifest>)>,
    /// No manifest of a challenger can be had.
    pub unavailable: bool,
    /// Challengers whose process lives.
    pub challenging: BTreeSet<ReleaseId>,
    /// What its next desired state says of the device, and whether it pins the models.
    pub orders: Orders,
    pub pinned: bool,
    pub received: Vec<Report>,
    pub acknowledges: bool,
    /// What happened.
    pub log: Vec<Effect>,
    inputs: VecDeque<Input>,
    boots: u32,
    connected: bool,
    /// The disk refuses to stage anything.
    pub disk_fails: Option<FailReason>,
    /// The network swallows requests for blocks.
    pub lose_requests: bool,
    /// Power fails after this many effects.
    pub power_for: Option<usize>,
    pub ending: Ending,
}

impl Device {
    pub fn new() -> Self {
        let now = Timestamp(1_700_000_000_000);
        let agent = agent(Ledger::default(), vec![], 0, now);
        let mut device = Self {
            agent,
            now,
            natures: BTreeMap::new(),
            saved: Ledger::default(),
            revision: u64::MAX,
            manifests: BTreeMap::new(),
            published: BTreeSet::new(),
            damaged: BTreeSet::new(),
            blocks: BTreeMap::new(),
            trials: BTreeSet::new(),
            loaded: BTreeSet::new(),
            serving: BTreeMap::new(),
            desired: None,
            named_challengers: None,
            unavailable: false,
            challenging: BTreeSet::new(),
            orders: Orders::default(),
            pinned: false,
            received: vec![],
            acknowledges: true,
            log: vec![],
            inputs: VecDeque::new(),
            boots: 0,
            connected: false,
            disk_fails: None,
            lose_requests: false,
            power_for: None,
            ending: Ending::PowerCut,
        };
        device.connect();
        device
    }

    /// A device on which `release` is committed.
    pub fn running(release: &str) -> Self {
        let mut device = Self::new();
        device.deploy(release);
        device.live_through_probation();
        assert_eq!(device.committed(), Some(release.parse().unwrap()));
        device.log.clear();
        device.received.clear();
        device
    }

    pub fn deploy(&mut self, release: &str) {
        self.desire(&[(release, false)]);
        self.pump();
    }

    /// The server writes a new desired state and the device hears of it.
    pub fn desire(&mut self, releases: &[(&str, bool)]) {
        let generation =
            self.desired.as_ref().map_or(Generation(1), |(director, _)| director.generation.next());
        let manifests: Vec<Manifest> = releases.iter().map(|(release, _)| manifest(release)).collect();
        let assignments =
            releases.iter().zip(&manifests).map(|((_, retry), manifest)| assignment(manifest, *retry));
        let assignments = assignments.map(|named| Assignment { pinned: self.pinned, ..named });
        let mut director = director(generation, assignments.collect());
        director.maintenance = self.orders.maintenance.clone();
        director.quarantine = self.orders.quarantine.clone();
        self.desired = Some((director, manifests));
        if self.connected {
            self.inputs.push_back(Input::DesiredArrived { generation });
        }
    }

    /// The server names challengers, each asked for under this revision, and the device hears of it.
    pub fn challenge(&mut self, releases: &[(&str, Terms)]) {
        let revision = self.named_challengers.as_ref().map_or(1, |(document, _)| document.revision + 1);
        let manifests: Vec<Manifest> = releases.iter().map(|(release, _)| manifest(release)).collect();
        let named = releases.iter().zip(&manifests).map(|((_, terms), manifest)| Challenger {
            release: manifest.release.clone(),
            manifest_digest: digest_of(manifest),
            manifest_size_bytes: 1,
            order: revision,
            terms: *terms,
        });
        let document = ChallengersDocument {
            kind: ChallengersKind::Challengers,
            device: device_id(),
            revision,
            expires_at: Timestamp(u64::MAX),
            challengers: named.collect(),
        };
        self.named_challengers = Some((document, manifests));
        if self.connected {
            self.give(Input::ChallengersArrived { revision });
        }
    }

    /// The same, and what the image repository says of them cannot be had.
    pub fn challenge_unavailable(&mut self, releases: &[(&str, Terms)]) {
        self.unavailable = true;
        self.challenge(releases);
    }

    /// The step of the challenger and its detail.
    pub fn challenger(&self) -> (String, String) {
        let states = self.agent.challenger_states();
        states.into_iter().next().map_or_else(Default::default, |state| (state.step, state.detail))
    }

    pub fn connect(&mut self) {
        self.connected = true;
        self.give(Input::Connected);
        if let Some((director, _)) = &self.desired {
            let generation = director.generation;
            self.inputs.push_back(Input::DesiredArrived { generation });
        }
        if let Some((document, _)) = &self.named_challengers {
            self.inputs.push_back(Input::ChallengersArrived { revision: document.revision });
        }
        self.pump();
    }

    pub fn disconnect(&mut self) {
        self.connected = false;
        self.give(Input::Disconnected);
    }

    pub fn give(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.pump();
    }

    /// Turns until nothing is left to do: inputs, save, perform.
    pub fn pump(&mut self) {
        for _ in 0..10_000 {
            self.save();
            while let Some(effect) = self.agent.poll_effect() {
                if let Some(left) = &mut self.power_for {
                    if *left == 0 {
                        self.power_for = None;
                        return self.end_life();
                    }
                    *left -= 1;
                }
                self.log.push(effect.clone());
                self.perform(effect);
            }
            let Some(input) = self.inputs.pop_front() else { return };
            let _ = self.agent.handle(input, self.now);
        }
        panic!("the device never comes to rest");
    }

    fn end_life(&mut self) {
        match self.ending {
            Ending::PowerCut => self.reboot(),
            Ending::Stop => {
                self.agent.handle(Input::Stopped, self.now).unwrap();
                self.save();
                self.reboot();
            }
        }
    }

    /// Performs effects up to the first that fits, and not that one; it waits for its answer by hand.
    pub fn pump_until(&mut self, wanted: impl Fn(&Effect) -> bool) {
        loop {
            self.save();
            while let Some(effect) = self.agent.poll_effect() {
                if wanted(&effect) {
                    return;
                }
                self.log.push(effect.clone());
                self.perform(effect);
            }
            let Some(input) = self.inputs.pop_front() else { return };
            let _ = self.agent.handle(input, self.now);
        }
    }

    /// The agent is stopped in order and started again.
    pub fn restart_in_order(&mut self) {
        self.give(Input::Stopped);
        self.reboot();
    }

    /// Power is lost and comes back; the first effects wait.
    pub fn reboot_into_silence(&mut self) {
        self.inputs.clear();
        self.trials.clear();
        self.loaded.clear();
        self.serving.clear();
        self.challenging.clear();
        self.boots += 1;
        let json = serde_json::to_vec(&self.saved).unwrap();
        let ledger: Ledger = serde_json::from_slice(&json).unwrap();
        assert_eq!(ledger, self.saved);
        let held =
            ledger.manifests().filter_map(|digest| Some((digest, self.manifests.get(&digest)?.clone())));
        let held = held.collect();
        self.agent = agent(ledger, held, self.boots, self.now);
        self.revision = u64::MAX;
    }

    /// Power is lost and comes back: memory is gone, the disk stays.
    pub fn reboot(&mut self) {
        self.reboot_into_silence();
        if self.connected {
            self.connect();
        } else {
            self.pump();
        }
    }

    /// Requests come and time passes until something is decided, or long enough.
    pub fn live_through_probation(&mut self) {
        for _ in 0..8 {
            self.traffic(20);
            self.pass(PROBATION / 4);
        }
    }

    /// `inferences` requests reach every model.
    pub fn traffic(&mut self, inferences: u64) {
        for release in self.serving.values().cloned().collect::<Vec<_>>() {
            if self.nature(&release) == Nature::EatsMemory {
                let (used_kib, budget_kib) = (3_000, 2_000);
                self.give(Input::MemoryExceeded { release: release.clone(), used_kib, budget_kib });
            }
            let counts = match self.nature(&release) {
                Nature::FailsInferences => Counts { engine_error: inferences, ..Counts::default() },
                _ => Counts { ok: inferences, ..Counts::default() },
            };
            self.give(Input::Observed { release, counts });
        }
    }

    /// Time passes; the device wakes up whenever it asked to.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..1_000 {
            match self.agent.poll_timeout().filter(|(at, _)| *at <= end) {
                Some((at, _)) => self.now = self.now.max(at),
                None => {
                    self.now = end;
                    return self.give(Input::Tick);
                }
            }
            self.give(Input::Tick);
        }
        panic!("the device spins: {:?}", self.agent.poll_timeout());
    }

    pub fn committed(&self) -> Option<ReleaseId> {
        let record = self.agent.ledger().models.get(&model())?;
        Some(record.committed.as_ref()?.release.clone())
    }

    pub fn step(&self) -> String {
        self.agent.model_states().first().map_or("unassigned".into(), |state| state.step.clone())
    }

    pub fn serves(&self) -> Option<String> {
        self.serving.get(&model()).map(ToString::to_string)
    }

    pub fn events(&self) -> Vec<&DeploymentEvent> {
        self.received.iter().map(|report| &report.event).collect()
    }

    pub fn last_event(&self) -> &DeploymentEvent {
        &self.received.last().expect("a report was received").event
    }

    pub fn nature(&self, release: &ReleaseId) -> Nature {
        self.natures.get(release).copied().unwrap_or_default()
    }

    pub fn set_nature(&mut self, release: &str, nature: Nature) {
        self.natures.insert(release.parse().unwrap(), nature);
    }

    pub fn count(&self, wanted: impl Fn(&Effect) -> bool) -> usize {
        self.log.iter().filter(|effect| wanted(effect)).count()
    }

    fn save(&mut self) {
        if self.revision != self.agent.ledger_revision() {
            self.saved = self.agent.ledger().clone();
            self.revision = self.agent.ledger_revision();
        }
        assert_eq!(&self.saved, self.agent.ledger(), "the ledger changed and its revision did not move");
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Verify { .. } => self.verify(),
            Effect::OpenStaging { artifact } => self.open(&artifact),
            Effect::Request { .. } if self.lose_requests => {}
            Effect::Request { packed, runs, .. } => {
                for index in runs.into_iter().flat_map(|run| run.first..run.first + run.count) {
                    self.blocks.entry(packed).or_default().insert(index);
                    self.inputs.push_back(Input::BlockStored { packed, index, bytes: 65_536 });
                }
            }
            Effect::Unpack { artifact } => {
                self.published.insert(artifact.digest);
                self.inputs.push_back(Input::Unpacked { packed: artifact.packed.digest });
            }
            Effect::RunTrial { release, manifest } => self.try_out(release, &manifest),
            Effect::CancelTrial { release } => {
                assert!(self.trials.remove(&release), "no trial of {release} goes on");
            }
            Effect::EnsureRunner => self.inputs.push_back(Input::RunnerReady),
            Effect::StopRunner => self.loaded.clear(),
            Effect::Load { release, manifest } => self.load(release, &manifest),
            Effect::Switch { release } => {
                assert!(self.loaded.contains(&release), "{release} is not loaded");
                self.serving.insert(release.model.clone(), release.clone());
                self.inputs.push_back(Input::Switched { release });
            }
            Effect::Unload { release } => {
                self.loaded.remove(&release);
                self.serving.retain(|_, serving| *serving != release);
            }
            Effect::Send { report } => {
                assert!(self.connected, "a report is sent while offline");
                if self.acknowledges {
                    let (boot, sequence) = (report.boot.clone(), report.sequence);
                    self.inputs.push_back(Input::ReportAcknowledged { boot, sequence });
                }
                self.received.push(report);
            }
            Effect::CollectGarbage { keep } => {
                self.published.retain(|digest| keep.contains(digest));
                self.blocks.retain(|digest, _| keep.contains(digest));
                self.manifests.retain(|digest, _| keep.contains(digest));
            }
            Effect::VerifyChallengers { .. } => self.verify_challengers(),
            Effect::StartChallenger { release, manifest, .. } => self.start_challenger(release, &manifest),
            Effect::StopChallenger { release } => {
                assert!(self.challenging.remove(&release), "{release} has no process");
            }
            Effect::Note(_) => {}
        }
    }

    fn verify_challengers(&mut self) {
        let (document, mut manifests) = self.named_challengers.clone().expect("a document exists");
        if self.unavailable {
            manifests.clear();
        }
        let pairs = document.challengers.iter().cloned().zip(manifests);
        let manifests = pairs.map(|(named, manifest)| {
            let digest = named.manifest_digest;
            self.manifests.insert(digest, manifest.clone());
            (named, digest, verified(manifest))
        });
        let manifests = manifests.collect();
        let document = verified(document);
        self.inputs.push_back(Input::ChallengersVerified { document, manifests, refused: vec![] });
    }

    fn start_challenger(&mut self, release: ReleaseId, manifest: &Manifest) {
        let champion = self.serving.get(&release.model);
        assert!(champion.is_some_and(|champion| *champion != release), "{release} has no champion");
        let digest = manifest.model.digest;
        let ended = |end| Input::ChallengerEnded { release: release.clone(), end };
        let input = match self.nature(&release) {
            _ if self.damaged.contains(&digest) || !self.published.contains(&digest) => {
                ended(ChallengerEnd::Damaged { detail: "the model has the digest 0".into() })
            }
            Nature::FailsToLoad => ended(ChallengerEnd::Refused { detail: "no such operator".into() }),
            Nature::KillsRunner => ended(ChallengerEnd::Crashed { detail: "signal 11".into() }),
            Nature::EatsMemory => ended(ChallengerEnd::Shortage { detail: "3 MiB are left".into() }),
            _ => {
                self.challenging.insert(release.clone());
                Input::ChallengerRuns { release }
            }
        };
        self.inputs.push_back(input);
    }

    /// The process of a challenger dies by itself.
    pub fn kill_challenger(&mut self, release: &str) {
        let release = release.parse().unwrap();
        assert!(self.challenging.remove(&release));
        let end = ChallengerEnd::Crashed { detail: "signal 9".into() };
        self.give(Input::ChallengerEnded { release, end });
    }

    fn verify(&mut self) {
        let (director, manifests) = self.desired.clone().expect("a desired state exists");
        let pairs = director.assignments.iter().cloned().zip(manifests);
        let manifests = pairs.map(|(assignment, manifest)| {
            self.manifests.insert(assignment.manifest_digest, manifest.clone());
            (assignment.clone(), assignment.manifest_digest, verified(manifest))
        });
        let manifests = manifests.collect();
        let input = Input::DesiredVerified { director: verified(director), manifests, refused: vec![] };
        self.inputs.push_back(input);
    }

    fn open(&mut self, artifact: &Artifact) {
        let packed = artifact.packed.digest;
        if self.damaged.remove(&artifact.digest) {
            self.published.remove(&artifact.digest);
        }
        if self.published.contains(&artifact.digest) {
            return self.inputs.push_back(Input::AlreadyHere { packed });
        }
        if let Some(reason) = self.disk_fails.clone() {
            return self.inputs.push_back(Input::StagingFailed { packed, reason });
        }
        let mut here = BlockMap::empty(artifact.packed.block_count());
        self.blocks.entry(packed).or_default().iter().for_each(|&index| here.insert(index));
        self.inputs.push_back(Input::StagingOpened { packed, here });
    }

    fn try_out(&mut self, release: ReleaseId, manifest: &Manifest) {
        assert!(self.trials.is_empty(), "{:?} holds the only place for a trial", self.trials);
        if self.damaged.contains(&manifest.model.digest) {
            let reason = RejectReason::BadArtifact { detail: "the model has the digest 0".into() };
            return self.inputs.push_back(Input::TrialFailed { release, reason });
        }
        let input = match self.nature(&release) {
            Nature::TrialHangs => {
                self.trials.insert(release);
                return;
            }
            Nature::FailsTrial => {
                let reason = RejectReason::GoldenMismatch { case: 0, detail: "y".into() };
                Input::TrialFailed { release, reason }
            }
            _ => Input::TrialPassed { release, figures: TrialFigures::default() },
        };
        self.inputs.push_back(input);
    }

    fn load(&mut self, release: ReleaseId, manifest: &Manifest) {
        let digest = manifest.model.digest;
        if self.damaged.contains(&digest) || !self.published.contains(&digest) {
            let detail = "the model has the digest 0".into();
            return self.inputs.push_back(Input::ArtifactDamaged { release, detail });
        }
        match self.nature(&release) {
            Nature::FailsToLoad => {
                self.inputs.push_back(Input::LoadFailed { release, detail: "no memory".into() });
            }
            Nature::KillsRunner => self.kill_runner(),
            _ => {
                self.loaded.insert(release.clone());
                self.inputs.push_back(Input::Loaded { release, load_ms: 3 });
            }
        }
    }

    pub fn kill_runner(&mut self) {
        self.lose_runner(Input::RunnerExited { detail: "signal 11".into() });
    }

    /// It ended itself for a thread that hung in a version that is gone.
    pub fn replace_runner(&mut self) {
        self.lose_runner(Input::RunnerReplaced);
    }

    fn lose_runner(&mut self, input: Input) {
        self.loaded.clear();
        self.serving.clear();
        self.inputs.push_back(input);
    }
}
