//! A device without a device: the machine of the agent with a shell that performs its effects in virtual time.
//!
//! It knows no clock, network or disk. Whoever drives it says what time it is, hands it the messages that came and
//! carries away those that go out, so the same device lives in a simulated world and, with a small shell around it,
//! before a real server:
//!
//! ```text
//! connected · receive(message, now) · wake(now) ─▶ poll_message until None ─▶ poll_timeout: when to wake
//! ```
//!
//! A shell before a real server connects and renews the session, verifies desired states and the digests of blocks
//! ([`block_digest`](VirtualDevice::block_digest)), signs reports, and wakes the device in time; it needs no catalog, for a release
//! that stands in none is good.
//!
//! What its models do is decided by the [`Nature`] of each release; whether a version is kept, by the agent's own judge,
//! which is fed with made-up inferences.

mod disk;
mod fate;
mod inbox;
mod performer;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use agent_core::{Agent, Input, Settings};
use shared::{
    BootId, DeviceId, Generation, ModelName, ReleaseId, Timestamp,
    artifact::Artifact,
    device::Inventory,
    maintenance::MaintenanceWindows,
    message::{DirectorDocument, Hello},
    trust::Verified,
};

use crate::{catalog::Catalog, nature::Nature, random::Random, wire::Up};

use disk::Disk;
use inbox::Verifying;

/// Turns without time passing after which a device is said to spin.
const MAX_TURNS: usize = 10_000;

/// How a device of a story is built.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub id: DeviceId,
    /// What it tells of itself.
    pub inventory: Inventory,
    /// What it keeps before its first start.
    pub runs: Option<ReleaseId>,
    /// Requests that reach its model in a minute.
    pub traffic_per_minute: u32,
    /// How often a version on probation tells what it answered: whole seconds, from one up.
    pub tells_every: Duration,
    /// How far its clock is ahead, in milliseconds.
    pub clock_ahead_ms: i64,
    /// When new versions may begin to answer, by its own settings.
    pub maintenance: Option<MaintenanceWindows>,
    /// How far its local time is ahead of UTC, in seconds.
    pub utc_offset_secs: i32,
    /// Decides its chances.
    pub seed: u64,
}

/// How a life of the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Power fails: what is not on the disk is gone.
    PowerCut,
    /// In order.
    Stopped,
}

/// A device.
#[derive(Debug)]
pub struct VirtualDevice {
    // Who it is.
    profile: Profile,
    catalog: Arc<Catalog>,
    random: Random,

    // State.
    agent: Agent,
    disk: Disk,
    /// The moment of this turn, by the clock of the world.
    now: Timestamp,
    clock_ahead_ms: i64,
    boots: u32,
    power: Power,
    online: bool,
    /// The generation of the last hello of this session.
    announced: Option<Generation>,
    /// The newest desired state that came in this session or before.
    desired: Option<Verified<DirectorDocument>>,
    verifying: Option<Verifying>,
    staging: BTreeMap<[u8; 8], Artifact>,
    loaded: BTreeSet<ReleaseId>,
    serving: BTreeMap<ModelName, ReleaseId>,

    // Outputs.
    jobs: BTreeMap<(Timestamp, u64), Job>,
    jobs_made: u64,
    messages: VecDeque<Up>,
}

/// Whether it has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// It fails after this many effects.
    FailsAfter(u32),
    Off,
}

/// Something that comes to its end later.
#[derive(Debug)]
enum Job {
    /// Work of the shell ends with this.
    Answer(Box<Input>),
    /// Requests have reached a version.
    Traffic(ReleaseId),
    /// Metadata did not come.
    MetadataOverdue(Generation),
}

impl VirtualDevice {
    /// Switches a new device on.
    #[must_use]
    pub fn new(profile: Profile, catalog: Arc<Catalog>, now: Timestamp) -> Self {
        let disk = Disk::new(profile.runs.as_ref().and_then(|release| catalog.get(release)));
        let clock_ahead_ms = profile.clock_ahead_ms;
        let agent = boot(&profile, &disk, 0, shifted(now, clock_ahead_ms));
        let mut device = Self {
            random: Random::new(profile.seed),
            profile,
            catalog,
            agent,
            disk,
            now,
            clock_ahead_ms,
            boots: 0,
            power: Power::On,
            online: false,
            announced: None,
            desired: None,
            verifying: None,
            staging: BTreeMap::new(),
            loaded: BTreeSet::new(),
            serving: BTreeMap::new(),
            jobs: BTreeMap::new(),
            jobs_made: 0,
            messages: VecDeque::new(),
        };
        device.pump();
        device
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &DeviceId {
        &self.profile.id
    }

    /// This life of the agent, as its hello and its reports name it.
    #[must_use]
    pub fn boot(&self) -> BootId {
        boot_id(self.boots)
    }

    /// The machine of its agent.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// False between a power cut and [`restart`](Self::restart).
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.power != Power::Off
    }

    /// True while it has a session.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// The version of a model that requests reach.
    #[must_use]
    pub fn serves(&self, model: &ModelName) -> Option<&ReleaseId> {
        self.serving.get(model)
    }

    /// The session with the server stands: it says hello and sends what waits.
    pub fn connected(&mut self, now: Timestamp) {
        if !self.is_on() {
            return;
        }
        self.now = now;
        self.online = true;
        self.say_hello();
        self.give(Input::Connected);
    }

    /// The session is gone.
    pub fn disconnected(&mut self, now: Timestamp) {
        if !self.online {
            return;
        }
        self.now = now;
        self.online = false;
        self.announced = None;
        self.messages.clear();
        self.give_up_verifying();
        self.give(Input::Disconnected);
    }

    /// Time has passed; due at [`poll_timeout`](Self::poll_timeout), harmless at any other moment.
    pub fn wake(&mut self, now: Timestamp) {
        if self.is_on() {
            self.now = now;
            self.give(Input::Tick);
        }
    }

    /// When to wake it; `None` when nothing of its own will happen.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if !self.is_on() {
            return None;
        }
        let job = self.jobs.keys().next().map(|(at, _)| *at);
        let agent = self.agent.poll_timeout().map(|(at, _)| shifted(at, -self.clock_ahead_ms));
        [job, agent].into_iter().flatten().min().map(|at| at.max(self.now))
    }

    /// The next message to carry to the server.
    pub fn poll_message(&mut self) -> Option<Up> {
        self.messages.pop_front()
    }

    /// Once a newer desired state is in the ledger the server may know, also when nothing follows from it that would be
    /// reported.
    fn announce_generation(&mut self) {
        if self.online && self.announced != Some(self.agent.ledger().generation) {
            self.say_hello();
        }
    }

    fn say_hello(&mut self) {
        self.announced = Some(self.agent.ledger().generation);
        let hello = Hello {
            boot: boot_id(self.boots),
            at: self.device_time(),
            generation: self.agent.ledger().generation,
            inventory: self.profile.inventory.clone(),
            models: self.agent.model_states(),
            limits_revision: 0,
            challengers_revision: 0,
        };
        self.messages.push_back(Up::Hello(Box::new(hello)));
    }

    /// How a release behaves here.
    #[must_use]
    pub fn nature_of(&self, release: &ReleaseId) -> Nature {
        self.catalog.nature(release, &self.profile.id)
    }

    /// What its clock says at the moment `now` of the world.
    #[must_use]
    pub fn clock_at(&self, now: Timestamp) -> Timestamp {
        shifted(now, self.clock_ahead_ms)
    }

    fn device_time(&self) -> Timestamp {
        self.clock_at(self.now)
    }

    fn lose_memory(&mut self) {
        self.power = Power::Off;
        self.online = false;
        self.announced = None;
        self.jobs.clear();
        self.messages.clear();
        self.desired = None;
        self.verifying = None;
        self.staging.clear();
        self.loaded.clear();
        self.serving.clear();
    }

    fn give(&mut self, input: Input) {
        // An input that does not fit is refused and counted by the core, which is what it is for.
        let _ = self.agent.handle(input, self.device_time());
        self.pump();
    }

    /// Saves, performs, and goes on with what is over by now, until nothing is left to do.
    fn pump(&mut self) {
        for _ in 0..MAX_TURNS {
            self.perform_effects();
            self.announce_generation();
            let Some(job) = self.next_job() else { return };
            match job {
                Job::Answer(input) => {
                    let _ = self.agent.handle(*input, self.device_time());
                }
                Job::Traffic(release) => self.answer_requests(&release),
                Job::MetadataOverdue(generation) => self.metadata_overdue(generation),
            }
        }
    }

    fn perform_effects(&mut self) {
        self.disk.save(&self.agent);
        while self.is_on() {
            let Some(effect) = self.agent.poll_effect() else { return };
            match self.power {
                Power::FailsAfter(0) => return self.lose_memory(),
                Power::FailsAfter(more) => self.power = Power::FailsAfter(more - 1),
                Power::On | Power::Off => {}
            }
            self.perform(effect);
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        let (&key, _) = self.jobs.first_key_value().filter(|((at, _), _)| *at <= self.now)?;
        self.jobs.remove(&key)
    }

    fn after(&mut self, time: Duration, job: Job) {
        self.jobs_made += 1;
        self.jobs.insert((self.now + time, self.jobs_made), job);
    }

    fn answer(&mut self, after_ms: u64, input: Input) {
        self.after(Duration::from_millis(after_ms), Job::Answer(Box::new(input)));
    }
}

fn boot(profile: &Profile, disk: &Disk, boots: u32, now: Timestamp) -> Agent {
    let settings = Settings {
        jitter_seed: profile.seed,
        maintenance: profile.maintenance.clone(),
        utc_offset_secs: profile.utc_offset_secs,
    };
    let (ledger, manifests) = disk.read();
    Agent::new(profile.id.clone(), boot_id(boots), ledger, manifests, settings, now)
}

fn boot_id(boots: u32) -> BootId {
    BootId::new(format!("boot{boots}")).expect("letters and digits are allowed in names")
}

/// A moment on a clock that is ahead.
fn shifted(at: Timestamp, ahead_ms: i64) -> Timestamp {
    Timestamp(at.as_millis().saturating_add_signed(ahead_ms))
}
