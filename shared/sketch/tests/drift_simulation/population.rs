//! Fleets of unlike devices: their level differs by a standard deviation of 0.3 s, their spread by 10 %, their traffic is
//! lognormal (deviation of the logarithm 0.5) around 50 samples an hour with a daily cycle of half of it. The reference is of 10,000
//! rows from a hundred other devices of the same population.

use std::f64::consts::TAU;

use muster_sketch::detector::{Finding, Fleet, FleetBatch, FleetRule, FleetSize, Group, Scores};

use crate::{
    bins::{Bins, Reference},
    random::Random,
};

pub const DEVICES: usize = 100;
/// Of them the last run another model.
const TREATED: usize = 20;
const SITES: usize = 4;
/// Sites, two revisions, and those with the model.
const GROUPS: u64 = 7;
/// Devices, groups and the fleet.
pub const PAIRS: u64 = 108;
/// What is looked at of the one feature.
pub const DIRECTIONS: u64 = 24;
pub const HOURS_A_YEAR: f64 = 8_766.0;
/// Hours until nearly every device has its thousand samples; the slowest ones take a week.
const WARM_UP: u64 = 72;
const SUPPRESS_SECS: u64 = 7 * 86_400;

/// What happens to a device.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Its values rise by so many standard deviations of the population.
    Shift(f64),
    /// It repeats one value that it had.
    Frozen,
}

#[derive(Clone)]
struct Device {
    name: String,
    groups: Vec<Group>,
    level: f64,
    spread: f64,
    traffic: f64,
    bins: Bins,
}

/// A fleet with what is known of it.
#[derive(Clone)]
pub struct Population {
    random: Random,
    reference: Reference,
    scores: Scores,
    devices: Vec<Device>,
    pub fleet: Fleet,
    hour: u64,
    /// How far every device's level rises and falls within a day.
    pub daily_level: f64,
    /// Samples of each device in the last hour.
    pub samples: Vec<u64>,
}

/// One false alarm in ten years, over all pairs, checked every hour.
pub fn ten_years() -> FleetRule {
    checked(HOURS_A_YEAR)
}

/// The same with other checks.
pub fn checked(checks_per_year: f64) -> FleetRule {
    let size = FleetSize { features: 1, directions: DIRECTIONS, devices: DEVICES as u64, groups: GROUPS };
    FleetRule::one_false_alarm_in(10.0, checks_per_year, size, SUPPRESS_SECS).unwrap()
}

fn drawn(random: &mut Random) -> (f64, f64) {
    (0.3 * random.normal(), (0.1 * random.normal()).exp())
}

impl Population {
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let others: Vec<_> = (0..100).map(|_| drawn(&mut random)).collect();
        let row = |n: usize, random: &mut Random| others[n % 100].0 + others[n % 100].1 * random.normal();
        let reference = Reference::of((0..10_000).map(|n| row(n, &mut random)).collect());
        let scores = Scores::numeric(&reference.counts).unwrap();
        assert_eq!(scores.directions().len() as u64, DIRECTIONS);
        let devices = (0..DEVICES).map(|n| Device::draw(n, &mut random, &reference)).collect();
        let fleet = Fleet::new(&scores, "brightness");
        Self {
            random,
            reference,
            fleet,
            scores,
            devices,
            hour: 0,
            daily_level: 0.0,
            samples: vec![0; DEVICES],
        }
    }

    /// A fleet that knows nearly all of its devices.
    pub fn warm(seed: u64, rule: &FleetRule) -> Self {
        let mut population = Self::draw(seed);
        for _ in 0..WARM_UP {
            let findings = population.advance(rule);
            assert!(findings.is_empty(), "seed {seed}: {findings:?}");
        }
        population
    }

    /// Other numbers from here on.
    pub fn branch(&self, number: u64) -> Self {
        let mut branch = self.clone();
        let seed = (branch.random.uniform() * 1e9) as u64;
        branch.random = Random::new(seed ^ (number << 40));
        branch
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// An hour of every device, and the check at its end.
    pub fn advance(&mut self, rule: &FleetRule) -> Vec<Finding> {
        let counts = self.count_an_hour();
        self.check(rule, &counts)
    }

    /// Several hours of every device, and one check at their end.
    pub fn advance_by(&mut self, hours: u64, rule: &FleetRule) -> Vec<Finding> {
        let mut all = self.count_an_hour();
        for _ in 1..hours {
            let hour = self.count_an_hour();
            let devices = all.iter_mut().zip(hour);
            devices.for_each(|(all, hour)| all.iter_mut().zip(hour).for_each(|(sum, count)| *sum += count));
        }
        self.check(rule, &all)
    }

    fn count_an_hour(&mut self) -> Vec<Vec<u64>> {
        self.hour += 1;
        let daily = (TAU * self.hour as f64 / 24.0).sin();
        let mut counts = Vec::with_capacity(DEVICES);
        for (device, samples) in self.devices.iter().zip(&mut self.samples) {
            *samples = self.random.poisson(device.traffic * (1.0 + 0.5 * daily));
            let moved = (self.daily_level != 0.0)
                .then(|| self.reference.normal_bins(device.level + self.daily_level * daily, device.spread));
            counts.push(moved.as_ref().unwrap_or(&device.bins).counts(&mut self.random, *samples));
        }
        counts
    }

    fn check(&mut self, rule: &FleetRule, counts: &[Vec<u64>]) -> Vec<Finding> {
        let batches = self.devices.iter().zip(counts).map(|(device, counts)| FleetBatch {
            device: &device.name,
            groups: &device.groups,
            counts,
        });
        let batches: Vec<_> = batches.collect();
        self.fleet.check(&self.scores, rule, &batches, self.hour * 3_600).unwrap().findings
    }

    pub fn break_device(&mut self, device: usize, fault: Fault) {
        self.devices[device].break_it(fault, &mut self.random, &self.reference);
    }

    /// Only these devices, by number and groups.
    pub fn keep(&mut self, which: impl Fn(usize, &[Group]) -> bool) {
        let mut number = 0..;
        self.devices.retain(|device| number.next().is_some_and(|number| which(number, &device.groups)));
    }

    pub fn break_devices(&mut self, which: impl Fn(&[Group]) -> bool, fault: Fault) {
        let hit: Vec<_> = (0..self.devices.len()).filter(|&n| which(&self.devices[n].groups)).collect();
        hit.into_iter().for_each(|device| self.break_device(device, fault));
    }

    /// Also where the level moves within a day.
    pub fn shift_all(&mut self, by: f64) {
        self.devices.iter_mut().for_each(|device| device.level += by);
    }

    /// Those with a positive level send four times as much.
    pub fn change_mix(&mut self) {
        self.devices.iter_mut().filter(|device| device.level > 0.0).for_each(|device| device.traffic *= 4.0);
    }

    /// Counts of a thousand samples of each device.
    pub fn beginnings(&mut self) -> Vec<Vec<u64>> {
        self.devices.iter().map(|device| device.bins.counts(&mut self.random, 1_000)).collect()
    }

    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    pub fn name(device: usize) -> String {
        format!("camera-{device:03}")
    }
}

impl Device {
    fn draw(number: usize, random: &mut Random, reference: &Reference) -> Self {
        let (level, spread) = drawn(random);
        let traffic = 50.0 * (0.5 * random.normal() - 0.125).exp();
        let treated = if number >= DEVICES - TREATED { Group::Treated } else { Group::Untreated };
        let site = stratum("site", &format!("hall-{}", number % SITES));
        let revision = stratum("revision", if (number / SITES).is_multiple_of(3) { "b" } else { "a" });
        Self {
            name: Population::name(number),
            groups: vec![site, revision, treated],
            level,
            spread,
            traffic,
            bins: reference.normal_bins(level, spread),
        }
    }
}

impl Device {
    fn break_it(&mut self, fault: Fault, random: &mut Random, reference: &Reference) {
        self.bins = match fault {
            Fault::Shift(by) => reference.normal_bins(self.level + by, self.spread),
            Fault::Frozen => {
                let stuck = reference.bin_of(self.level + self.spread * random.normal());
                Bins::of((0..reference.counts.len()).map(|bin| f64::from(bin == stuck)).collect())
            }
        };
    }
}

/// One device of such a fleet.
pub struct Single {
    random: Random,
    reference: Reference,
    pub scores: Scores,
    device: Device,
}

impl Single {
    pub fn draw(seed: u64) -> Self {
        let Population { mut random, reference, scores, devices, .. } = Population::draw(seed);
        let device = devices[random.below(DEVICES)].clone();
        Self { random, reference, scores, device }
    }

    pub fn counts(&mut self, samples: u64) -> Vec<u64> {
        self.device.bins.counts(&mut self.random, samples)
    }

    pub fn break_it(&mut self, fault: Fault) {
        self.device.break_it(fault, &mut self.random, &self.reference);
    }

    /// Values of the device one after the other, each correlated with the last.
    pub fn correlated(&self, correlation: f64, seed: u64) -> impl Iterator<Item = f64> + use<> {
        let (level, spread) = (self.device.level, self.device.spread);
        let mut random = Random::new(seed);
        let mut state = random.normal();
        std::iter::repeat_with(move || {
            state = correlation * state + (1.0 - correlation * correlation).sqrt() * random.normal();
            level + spread * state
        })
    }

    pub fn bin(&self, values: impl Iterator<Item = f64>) -> Vec<u64> {
        let mut counts = vec![0; self.reference.counts.len()];
        values.for_each(|value| counts[self.reference.bin_of(value)] += 1);
        counts
    }
}

pub fn stratum(key: &str, value: &str) -> Group {
    Group::Stratum { key: key.to_owned(), value: value.to_owned() }
}
