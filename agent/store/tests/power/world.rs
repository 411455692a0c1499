//! A device around the real core, ledger file and store. Network, runner and trial are played; the order of a turn is
//! the daemon's: take inputs, save, perform.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use agent_core::{Agent, Effect, Input, Phase, Settings};
use agent_store::{BlockFate, LedgerFile, Opened, Room, Store, StoreError};
use shared::{
    BootId, Digest, ModelName, ReleaseId, Timestamp,
    artifact::Artifact,
    manifest::Manifest,
    report::{DeploymentEvent, FailReason, RejectReason, TrialFigures},
    telemetry::Counts,
};

use crate::{
    disk::SimDisk,
    facts::{Facts, Saved},
    server::{Nature, Server, device_id, verified},
};

const PROBATION: Duration = Duration::from_secs(600);
const ROOM: Room = Room { quota_bytes: 1 << 20, spare_bytes: 0 };

/// Room of a copy of the ledger: small, so that copies grow in a story.
pub const LEDGER_ROOM: u64 = 4_096;

/// Turns until rest; more is a device that spins.
const MAX_TURNS: usize = 20_000;

/// What must not be.
pub type Violation = String;

/// A device that is switched on.
pub struct World {
    pub disk: SimDisk<Facts>,
    pub facts: Facts,
    pub agent: Agent,
    ledger: LedgerFile<SimDisk<Facts>>,
    store: Store<SimDisk<Facts>>,
    pub now: Timestamp,
    pub boots: u32,
    revision: Option<u64>,
    connected: bool,
    pub acknowledges: bool,
    loaded: BTreeSet<ReleaseId>,
    serving: BTreeMap<ModelName, ReleaseId>,
    inputs: VecDeque<Input>,
}

impl World {
    /// Starts the agent on what the disk holds. `None` when the process was killed meanwhile.
    pub fn start(
        disk: SimDisk<Facts>,
        boots: u32,
        now: Timestamp,
        acknowledges: bool,
    ) -> Result<Option<Self>, Violation> {
        disk.state().starts = true;
        let opened = LedgerFile::open_with_room::<Saved>(disk.clone(), "".into(), LEDGER_ROOM);
        disk.state().starts = false;
        let store = Store::open(disk.clone(), "".as_ref(), ROOM);
        if disk.is_dead() {
            return Ok(None);
        }
        let (ledger, saved) = opened.map_err(|error| format!("I1: the agent does not start: {error}"))?;
        let store = store.map_err(|error| format!("I1: the agent does not start: {error}"))?;
        let saved = saved.unwrap_or_default();
        let mut facts = disk.state().facts.as_ref().clone();
        (facts.saved, facts.saving) = (Arc::new(saved.clone()), None);
        disk.learn(facts.clone());
        let manifests =
            saved.ledger.manifests().filter_map(|digest| Some((digest, store.manifest(&digest)?)));
        let (manifests, boot) = (manifests.collect(), BootId::new(format!("boot{boots}")).unwrap());
        let settings = Settings { jitter_seed: 7 };
        let agent = Agent::new(device_id(), boot, saved.ledger.clone(), manifests, settings, now);
        Ok(Some(Self {
            disk,
            facts,
            agent,
            ledger,
            store,
            now,
            boots,
            revision: None,
            connected: false,
            acknowledges,
            loaded: BTreeSet::new(),
            serving: BTreeMap::new(),
            inputs: VecDeque::new(),
        }))
    }

    pub fn connect(&mut self, server: &Server) -> Result<(), Violation> {
        self.connected = true;
        self.inputs.push_back(Input::Connected);
        self.inputs.push_back(Input::DesiredArrived { generation: server.generation });
        self.pump(server)
    }

    pub fn disconnect(&mut self, server: &Server) -> Result<(), Violation> {
        self.connected = false;
        self.give(server, Input::Disconnected)
    }

    pub fn give(&mut self, server: &Server, input: Input) -> Result<(), Violation> {
        self.inputs.push_back(input);
        self.pump(server)
    }

    /// Turns until nothing is left to do, the process was killed, or a save failed.
    pub fn pump(&mut self, server: &Server) -> Result<(), Violation> {
        for _ in 0..MAX_TURNS {
            if !self.save() || self.disk.is_dead() {
                return Ok(());
            }
            while let Some(effect) = self.agent.poll_effect() {
                self.perform(server, effect)?;
                if self.disk.is_dead() {
                    return Ok(());
                }
            }
            let Some(input) = self.inputs.pop_front() else { return Ok(()) };
            let _ = self.agent.handle(input, self.now);
        }
        Err("I8: the device never comes to rest".into())
    }

    /// Requests come and time passes until something is decided, or long enough.
    pub fn live(&mut self, server: &Server) -> Result<(), Violation> {
        for _ in 0..8 {
            for release in self.serving.values().cloned().collect::<Vec<_>>() {
                let counts = match server.releases[&release].nature {
                    Nature::FailsInferences => Counts { engine_error: 20, ..Counts::default() },
                    _ => Counts { ok: 20, ..Counts::default() },
                };
                self.give(server, Input::Observed { release, counts })?;
            }
            self.pass(server, PROBATION / 4)?;
        }
        Ok(())
    }

    fn pass(&mut self, server: &Server, time: Duration) -> Result<(), Violation> {
        let end = self.now + time;
        while let Some((at, _)) = self.agent.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.give(server, Input::Tick)?;
            if self.disk.is_dead() {
                return Ok(());
            }
        }
        self.now = end;
        self.give(server, Input::Tick)
    }

    /// False when the disk failed; the turn then ends before any effect.
    fn save(&mut self) -> bool {
        let revision = self.agent.ledger_revision();
        if self.revision == Some(revision) {
            return true;
        }
        let ledger = self.agent.ledger().clone();
        let floor = self.facts.saved.floor.max(ledger.generation.0 * 10);
        let saving = Arc::new(Saved { ledger, floor });
        self.facts.saving = Some(saving.clone());
        self.disk.learn(self.facts.clone());
        if self.ledger.save(&*saving).is_err() {
            return false;
        }
        (self.facts.saved, self.facts.saving) = (saving, None);
        self.disk.learn(self.facts.clone());
        self.revision = Some(revision);
        true
    }

    fn perform(&mut self, server: &Server, effect: Effect) -> Result<(), Violation> {
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
            Effect::Note(_) => {}
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

    /// True when a report that may be an old one still holds.
    fn keeps(&self, release: &ReleaseId) -> bool {
        let record = self.agent.ledger().models.get(&release.model);
        record.and_then(|record| record.committed.as_ref()).is_some_and(|kept| kept.release == *release)
    }

    /// The generation that asked for a candidate; `None` for another version.
    fn generation_of(&self, release: &ReleaseId) -> Option<shared::Generation> {
        let candidate = self.agent.ledger().models.get(&release.model)?.candidate.as_ref()?;
        let is_tried = !matches!(candidate.phase, Phase::Transferring);
        (candidate.installed.release == *release && is_tried).then_some(candidate.generation)
    }
}

fn failed(packed: Digest, error: &StoreError) -> Input {
    Input::StagingFailed { packed, reason: FailReason::Storage { detail: error.to_string() } }
}
