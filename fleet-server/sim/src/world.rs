//! One virtual clock, one queue of events, a bad network, and everybody who lives with them.

mod acts;
mod liar;
mod links;
mod net;
mod people;
mod standing;
mod telemetry;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shared::{DeviceId, ModelName, RolloutId, Timestamp};

use crate::{
    catalog::Catalog,
    device::VirtualDevice,
    oracle::{Oracle, Violation},
    random::Random,
    server::{Flaw, Server, Told},
    story::{BEGIN, Character, Moment, Network, Story},
    transcript::{Detail, Transcript, tell_counts},
    wire::{Down, Up},
};

use links::Flap;
use people::population;

pub use standing::Standing;

/// Devices that have not confirmed their desired state are told again this often, as the server does.
const REDRIVE_EVERY: Duration = Duration::from_secs(30);

/// Events after which a world is said to spin. The busiest honest ones stay below a hundredth of it.
const MAX_EVENTS: u64 = 20_000_000;

/// Chances in a million that the machines are written down and read back in a turn.
const REWRITE_PPM: u32 = 20_000;

/// A world.
pub struct World {
    story: Story,
    random: Random,
    network: Network,

    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    made: u64,
    redrive_at: Option<Timestamp>,

    server: Server,
    office: Office,
    fleet: BTreeMap<DeviceId, Inhabitant>,
    oracle: Oracle,
    /// What every version did on every device since the beginning.
    told: BTreeMap<ModelName, Told>,
    /// How rollouts stood when they were over.
    over: BTreeMap<RolloutId, Standing>,
    transcript: Transcript,
    violation: Option<Violation>,
    events: u64,
}

/// How the server is.
#[derive(Debug, Default)]
struct Office {
    /// It is away.
    closed: bool,
    /// How far its clock is ahead, in milliseconds, and how far it will be after its next start.
    ahead_ms: i64,
    next_ahead_ms: i64,
    /// It dies in the next turn that changes anything.
    dies: Option<Death>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    BeforeCommit,
    AfterCommit,
}

/// A device and what surrounds it.
struct Inhabitant {
    device: VirtualDevice,
    character: Character,
    link: Link,
    /// When it wants to be woken.
    due: Option<Timestamp>,
    /// Never heard of again.
    dead: bool,
    lies: u64,
}

/// The link of a device.
#[derive(Debug, Default)]
struct Link {
    /// Number of the session that stands, or of the last one.
    session: u64,
    up: bool,
    /// Broken by the story until it says otherwise.
    cut: bool,
    /// A connect is on its way.
    dialling: bool,
    /// Number of the order by which it breaks again and again; older orders are void.
    flaps: u64,
    bytes_per_sec: u64,
    /// When the last block that was sent will have come.
    busy_until: Timestamp,
}

/// Something that will happen.
enum Happening {
    Act(usize),
    SwitchOn(DeviceId),
    Dial(DeviceId),
    Break { device: DeviceId, session: u64 },
    BrokerNotices { device: DeviceId, session: u64 },
    Flap { device: DeviceId, flap: Flap },
    PowerBack(DeviceId),
    Up { device: DeviceId, message: Box<Up> },
    Down { device: DeviceId, session: u64, message: Box<Down> },
    Lie(DeviceId),
    ServerBack,
    Look,
    Calm,
}

/// How a world ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Events that happened.
    pub events: u64,
    /// Where each rollout stood, in a word.
    pub words: Vec<String>,
}

/// Tells a story to its end, with a flawed server if `flaw` says so.
///
/// # Errors
/// When something happened that may never be, or did not come to pass although it must.
pub fn tell(story: &Story, flaw: Option<Flaw>, detail: Detail) -> (Result<End, Violation>, Transcript) {
    let mut world = World::new(story.clone(), flaw, detail);
    let end = world.run();
    (end, world.transcript)
}

impl World {
    /// A world in which nothing has happened yet.
    #[must_use]
    pub fn new(story: Story, flaw: Option<Flaw>, detail: Detail) -> Self {
        let catalog = Arc::new(Catalog::new(&story.releases));
        let mut random = Random::new(story.seed);
        let mut server = Server::new(catalog.clone(), flaw);
        let fleet = population(&story, &catalog, &mut server, &mut random);
        let mut world = Self {
            network: story.network,
            random,
            now: BEGIN,
            queue: BTreeMap::new(),
            made: 0,
            redrive_at: None,
            oracle: Oracle::new(&server, fleet.iter().map(|(id, it)| (id, &it.device, it.character))),
            server,
            office: Office::default(),
            fleet,
            told: BTreeMap::new(),
            over: BTreeMap::new(),
            transcript: Transcript::new(detail),
            violation: None,
            events: 0,
            story,
        };
        world.plan_ahead();
        world
    }

    /// Goes on until the story is over.
    ///
    /// # Errors
    /// As [`tell`].
    pub fn run(&mut self) -> Result<End, Violation> {
        self.go_on(self.story.end)?;
        let fleet = self.fleet.values().map(|it| (&it.device, it.is_reachable()));
        self.oracle.check_end(&self.server, fleet)?;
        Ok(End { events: self.events, words: self.tell_end() })
    }

    /// Goes on until a moment of the story. What must have come to pass in the end is not asked.
    ///
    /// # Errors
    /// When something happened that may never be.
    pub fn go_on(&mut self, until: Moment) -> Result<(), Violation> {
        let until = until.on_clock();
        while let Some(next) = self.next_moment().filter(|next| *next <= until) {
            self.events += 1;
            self.now = self.now.max(next);
            self.step();
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            if self.events > MAX_EVENTS {
                return Err(Violation::new("a world comes to its end", "it spins".into()));
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// What was written down so far.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    fn plan_ahead(&mut self) {
        for (at, moment) in
            self.story.acts.iter().map(|timed| timed.at.on_clock()).enumerate().collect::<Vec<_>>()
        {
            self.at(moment, Happening::Act(at));
        }
        if let Some(calm) = self.story.calm {
            self.at(calm.on_clock(), Happening::Calm);
        }
        if self.story.compares_metrics() {
            self.after(self.look_every(), Happening::Look);
        }
        let switched = people::switching_on(&self.story);
        for (device, moment) in switched {
            self.at(moment, Happening::SwitchOn(device));
        }
    }

    fn next_moment(&self) -> Option<Timestamp> {
        let queue = self.queue.keys().next().map(|(at, _)| *at);
        let devices = self.fleet.values().filter_map(|it| it.due).min();
        let tick = self.server_tick();
        [queue, devices, tick, self.redrive_at].into_iter().flatten().min()
    }

    /// One thing happens.
    fn step(&mut self) {
        let now = self.now;
        if let Some((&key, _)) = self.queue.first_key_value().filter(|((at, _), _)| *at <= now) {
            if let Some(happening) = self.queue.remove(&key) {
                self.happen(happening);
            }
        } else if let Some(device) = self.fleet.iter().find(|(_, it)| it.due.is_some_and(|due| due <= now)) {
            let id = device.0.clone();
            self.with_device(&id, |device, now| device.wake(now));
        } else if self.server_tick().is_some_and(|at| at <= now) {
            self.server_turn(|server, now| server.tick(now));
        } else if self.redrive_at.is_some_and(|at| at <= now) {
            self.redrive_at = None;
            self.server_turn(|server, _| {
                server.redrive();
                server.ask_while_paused();
            });
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Act(at) => self.act(at),
            Happening::SwitchOn(device) | Happening::PowerBack(device) => self.switch_on(&device),
            Happening::Dial(device) => self.dial(&device),
            Happening::Break { device, session } => self.break_link(&device, session),
            Happening::BrokerNotices { device, session } => self.broker_notices(&device, session),
            Happening::Flap { device, flap } => self.flap(&device, flap),
            Happening::Up { device, message } => self.arrive(&device, *message),
            Happening::Down { device, session, message } => self.deliver(&device, session, *message),
            Happening::Lie(device) => self.lie(&device),
            Happening::ServerBack => self.open_office(),
            Happening::Look => self.look(),
            Happening::Calm => self.calm(),
        }
    }

    fn at(&mut self, at: Timestamp, happening: Happening) {
        self.made += 1;
        self.queue.insert((at.max(self.now), self.made), happening);
    }

    fn after(&mut self, wait: Duration, happening: Happening) {
        self.at(self.now + wait, happening);
    }

    fn after_secs(&mut self, low: u64, high: u64, happening: Happening) {
        let wait = Duration::from_secs(self.random.between(low, high));
        self.after(wait, happening);
    }

    fn note(&mut self, detail: Detail, line: impl FnOnce() -> String) {
        self.transcript.write(detail, self.now, line);
    }

    fn tell_end(&mut self) -> Vec<String> {
        for rollout in self.server.rollouts() {
            let reason = rollout.state().reason().map(|reason| format!(", {reason}")).unwrap_or_default();
            let counts = tell_counts(&rollout.counts());
            let line = || format!("{} is {}{reason}: {counts}", rollout.id(), rollout.state().word());
            self.transcript.write(Detail::Milestones, self.now, line);
        }
        self.server.rollouts().map(|rollout| rollout.state().word().to_owned()).collect()
    }
}
