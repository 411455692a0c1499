//! A story: what happens to one device, by chance that a seed repeats, with every crash state on the way checked.

mod scripted;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use agent_core::Input;
use shared::Timestamp;

use crate::{
    check::{converges, recovers},
    crash::{choices, image_after},
    disk::{Moment, SimDisk, Synced},
    facts::Facts,
    image::Image,
    rng::Rng,
    server::{MODELS, Nature, Server, VERSIONS},
    world::{Violation, World},
};

/// Things that happen in a story.
const STEPS: usize = 14;

/// Contents that are tried at every moment: few, so that many stories are told.
const CHOICES: usize = 12;

/// Of so many crash states one is crashed again in its recovery, and one lives on to the end.
const AGAIN: usize = 8;
const LIVES_ON: usize = 64;

/// Crash states that were checked.
#[derive(Debug, Default)]
pub struct Tally {
    /// Fingerprints of the contents.
    pub distinct: Mutex<HashSet<u64>>,
}

impl Tally {
    pub fn count(&self) -> usize {
        self.distinct.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn add(&self, image: u64) {
        self.distinct.lock().unwrap_or_else(PoisonError::into_inner).insert(image);
    }
}

pub struct Story<'a> {
    pub seed: u64,
    tally: &'a Tally,
    rng: Rng,
    server: Server,
    world: World,
    /// Contents that were checked against the same facts.
    seen: HashSet<(u64, u64)>,
    swallowed: Option<Synced>,
    pub checked: usize,
    pub syncs: std::collections::BTreeMap<Synced, usize>,
}

impl<'a> Story<'a> {
    pub fn new(seed: u64, tally: &'a Tally, swallowed: Option<Synced>) -> Self {
        let mut rng = Rng::new(seed);
        let salt = rng.next();
        Self::with_natures(rng, seed, tally, swallowed, |model, version| nature(salt, model, version))
    }

    /// A story in which every version is good.
    pub fn of_good_versions(seed: u64, tally: &'a Tally, swallowed: Option<Synced>) -> Self {
        Self::with_natures(Rng::new(seed), seed, tally, swallowed, |_, _| Nature::Good)
    }

    fn with_natures(
        rng: Rng,
        seed: u64,
        tally: &'a Tally,
        swallowed: Option<Synced>,
        nature: impl Fn(&str, u32) -> Nature,
    ) -> Self {
        let server = Server::new(nature);
        let disk = SimDisk::new(Image::empty(), Arc::new(Facts::default()));
        disk.state().swallowed = swallowed;
        let world = World::start(disk, 0, Timestamp(1_700_000_000_000), true);
        let world = world.expect("an empty disk is enough").expect("nobody was killed");
        let (seen, syncs) = (HashSet::new(), std::collections::BTreeMap::new());
        Self { seed, tally, rng, server, world, seen, swallowed, checked: 0, syncs }
    }

    /// Tells the whole story.
    pub fn tell(&mut self) -> Result<(), Violation> {
        self.guarded(0, |story| story.world.connect(&story.server))?;
        for step in 1..=STEPS {
            self.step(step)?;
        }
        Ok(())
    }

    fn order(&mut self, releases: &[&str]) -> Result<(), Violation> {
        self.server.desire(releases.iter().map(|release| release.parse().expect("a release")).collect());
        let generation = self.server.generation;
        self.world.give(&self.server, Input::DesiredArrived { generation })
    }

    fn restart(&mut self, disk: SimDisk<Facts>) -> Result<(), Violation> {
        disk.state().dies_after = None;
        let (boots, now, acknowledges) = (self.world.boots + 1, self.world.now, self.world.acknowledges);
        let world = World::start(disk, boots, now, acknowledges)?;
        self.world = world.ok_or("nobody was killed")?;
        Ok(())
    }

    fn step(&mut self, step: usize) -> Result<(), Violation> {
        // In half of the steps the process dies after some operation.
        if self.rng.below(2) == 0 {
            let operations = 1 + self.rng.below(60);
            self.world.disk.state().dies_after = Some(operations);
        }
        match self.rng.below(8) {
            0..=2 => self.guarded(step, Self::desire)?,
            3 | 4 => self.guarded(step, |story| story.world.live(&story.server))?,
            5 => {
                self.world.acknowledges = !self.world.acknowledges;
                self.guarded(step, |story| story.world.disconnect(&story.server))?;
                self.guarded(step, |story| story.world.connect(&story.server))?;
            }
            6 => self.end_process(step)?,
            _ => {
                self.guarded(step, |story| story.world.give(&story.server, Input::Tick))?;
                self.end_process(step)?;
            }
        }
        if self.world.disk.is_dead() { self.end_process(step) } else { Ok(()) }
    }

    fn desire(&mut self) -> Result<(), Violation> {
        let mut releases = Vec::new();
        for model in MODELS {
            let version = self.rng.below(VERSIONS as usize + 1);
            if version > 0 {
                releases.push(format!("{model}@{version}"));
            }
        }
        self.order(&releases.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The process ends: it is killed and the disk goes on, or the power fails. Then it starts again.
    fn end_process(&mut self, step: usize) -> Result<(), Violation> {
        let power = self.rng.below(2) == 0;
        self.check_moments(step)?;
        let disk = self.world.disk.clone();
        let disk = if power { self.cut(&disk) } else { disk };
        self.restart(disk)?;
        self.guarded(step, |story| story.world.connect(&story.server))
    }

    /// The disk as a power cut now leaves it.
    fn cut(&mut self, disk: &SimDisk<Facts>) -> SimDisk<Facts> {
        let moment = disk.state().moment();
        let mut all = choices(&moment.pending, CHOICES, &mut self.rng);
        let choice = all.swap_remove(self.rng.below(all.len()));
        let image = image_after(&moment.durable, &moment.pending, &choice);
        self.note_syncs();
        let disk = SimDisk::new(image, moment.facts);
        disk.state().swallowed = self.swallowed;
        disk
    }

    fn note_syncs(&mut self) {
        for (sync, count) in std::mem::take(&mut self.world.disk.state().syncs) {
            *self.syncs.entry(sync).or_default() += count;
        }
    }

    fn guarded(
        &mut self,
        step: usize,
        act: impl FnOnce(&mut Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let acted = act(self);
        self.note_syncs();
        acted.map_err(|violation| self.explain(step, &violation, "while it ran", None))?;
        self.check_moments(step)
    }

    fn check_moments(&mut self, step: usize) -> Result<(), Violation> {
        let moments = std::mem::take(&mut self.world.disk.state().moments);
        for moment in &moments {
            self.check_moment(step, moment)?;
        }
        Ok(())
    }

    fn check_moment(&mut self, step: usize, moment: &Moment<Facts>) -> Result<(), Violation> {
        for choice in choices(&moment.pending, CHOICES, &mut self.rng) {
            let image = image_after(&moment.durable, &moment.pending, &choice);
            let fingerprint = image.fingerprint();
            if !self.seen.insert((moment.known, fingerprint)) {
                continue;
            }
            self.tally.add(fingerprint);
            self.checked += 1;
            let checked = self.check_image(&image, &moment.facts);
            checked.map_err(|violation| {
                self.explain(step, &violation, &format!("{choice:?} of {:?}", moment.pending), Some(moment))
            })?;
        }
        Ok(())
    }

    fn check_image(&mut self, image: &Image, facts: &Arc<Facts>) -> Result<(), Violation> {
        let again = self.rng.below(AGAIN) == 0;
        let mut world = recovers(image, facts, &self.server, again)?;
        if again {
            self.crash_again(&world)?;
        }
        if self.rng.below(LIVES_ON) == 0 {
            world.disk.state().records = false;
            converges(&mut world, &self.server)?;
        }
        Ok(())
    }

    /// The power fails in the recovery as well.
    fn crash_again(&mut self, world: &World) -> Result<(), Violation> {
        let moments = std::mem::take(&mut world.disk.state().moments);
        for moment in moments {
            for choice in choices(&moment.pending, 4, &mut self.rng) {
                let image = image_after(&moment.durable, &moment.pending, &choice);
                let fingerprint = image.fingerprint();
                if self.seen.insert((moment.known, fingerprint)) {
                    self.tally.add(fingerprint);
                    self.checked += 1;
                    recovers(&image, &moment.facts, &self.server, false).map_err(|violation| {
                        format!("{violation}, after a second power cut in the recovery")
                    })?;
                }
            }
        }
        Ok(())
    }

    fn explain(
        &self,
        step: usize,
        violation: &str,
        choice: &str,
        moment: Option<&Moment<Facts>>,
    ) -> Violation {
        let state = self.world.disk.state();
        let end = moment.map_or(state.log.len(), |moment| moment.operations);
        let last = state.log[end.saturating_sub(40)..end].join("\n  ");
        let mut choice = choice.to_owned();
        choice.truncate(choice.floor_char_boundary(2_000));
        let seed = self.seed;
        format!(
            "{violation}\nseed {seed}, step {step}, power fails after operation {end}\nkept: {choice}\noperations:\n  {last}"
        )
    }
}

/// Half of the versions are good.
fn nature(salt: u64, model: &str, version: u32) -> Nature {
    let seed = salt ^ u64::from(version) << 8 ^ model.len() as u64;
    match Rng::new(seed).below(8) {
        0 => Nature::FailsTrial,
        1 => Nature::FailsToLoad,
        2 => Nature::KillsRunner,
        3 => Nature::FailsInferences,
        _ => Nature::Good,
    }
}
