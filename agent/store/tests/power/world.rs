//! A device around the real core, ledger file and store. Network, runner and trial are played; the order of a turn is
//! the daemon's: take inputs, save, perform.

mod perform;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use agent_core::{Agent, Effect, Input, Settings};
use agent_store::{LedgerFile, Room, Store};
use shared::{BootId, ModelName, ReleaseId, Timestamp, telemetry::Counts};

use crate::{
    disk::{SimDisk, Synced},
    facts::{Facts, Saved},
    server::{Nature, Server, device_id},
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
            saved.ledger.manifests().filter_map(|digest| Some((digest, store.manifest(&digest).ok()??)));
        let (manifests, boot) = (manifests.collect(), BootId::new(format!("boot{boots}")).unwrap());
        let settings = Settings { jitter_seed: 7, ..Settings::default() };
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

    /// Goes on until the trial of a version has ended, and tells what was synced by then.
    pub fn give_until_tried(
        &mut self,
        server: &Server,
        input: Input,
    ) -> Result<BTreeMap<Synced, usize>, Violation> {
        self.inputs.push_back(input);
        loop {
            self.save();
            while let Some(effect) = self.agent.poll_effect() {
                let is_trial = matches!(effect, Effect::RunTrial { .. });
                self.perform(server, effect)?;
                if is_trial {
                    return Ok(self.disk.state().syncs.clone());
                }
            }
            let input = self.inputs.pop_front().ok_or("no version was tried")?;
            let _ = self.agent.handle(input, self.now);
        }
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
}
