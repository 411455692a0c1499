//! Seeded fleets whose canaries are no worse, or worse by a known amount.
//!
//! 100 unlike devices, the first ten are the canaries: latency differs between devices by a standard deviation of 30 %,
//! error rates are about 1 % and differ by 50 %. Ten inferences a minute, so 50 in a look of five minutes, each with a
//! latency that varies by 30 %; a day of history, then a day of looks. Everybody is a tenth slower at noon.

#![allow(dead_code, reason = "the test and the example each leave something out")]

use std::f64::consts::TAU;

use fleet_core::verdict::{Cohorts, Figures, Look, Metric};
use muster_sketch::canary::Sample;
use shared::DeviceId;

/// Devices of a fleet.
pub const DEVICES: usize = 100;
/// Of them canaries.
pub const CANARIES: usize = 10;
/// Looks of a day.
pub const DAY: u64 = 288;
/// Minutes of a look.
pub const LOOK_MINUTES: u64 = 5;
/// Inferences of a device in a look.
const INFERENCES: u32 = 50;
/// Deviation of one inference's latency.
pub const LATENCY_NOISE: f64 = 0.3;
/// A standard deviation of 50 % of a lognormal rate, as one of its logarithm.
const ERRORS_LOG_DEVIATION: f64 = 0.472_38;

/// What happens when the candidate comes.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// Factors of the canaries.
    pub latency: f64,
    pub errors: f64,
    /// Added to the confidence of the canaries.
    pub confidence: f64,
    /// Factors of everybody.
    pub latency_everywhere: f64,
    pub errors_everywhere: f64,
    /// How far the latency of each device moves away from its history by itself: a deviation.
    pub restless: f64,
    /// How much of that it keeps from look to look; 1 is for good.
    pub memory: f64,
    /// The factor of the latency of so many canaries, the last ones.
    pub harmed: (usize, f64),
    /// The factor of the latency of the last control, in the first look and from look to look.
    pub odd_control: (f64, f64),
}

/// Nothing happens.
pub const UNCHANGED: Scenario = Scenario {
    name: "A/A",
    latency: 1.0,
    errors: 1.0,
    confidence: 0.0,
    latency_everywhere: 1.0,
    errors_everywhere: 1.0,
    restless: 0.0,
    memory: 1.0,
    harmed: (0, 1.0),
    odd_control: (1.0, 1.0),
};

/// What a cohort did in a look, as the rules of others see it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pooled {
    pub inferences: f64,
    pub latency: f64,
    pub latency_squares: f64,
    pub errors: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Device {
    latency: f64,
    errors: f64,
    confidence: f64,
    restless: f64,
}

/// One fleet after the other; buffers are kept.
pub struct Simulation {
    scenario: Scenario,
    /// The share of looks in which half of a device's inferences fail, in history and since: a camera behind a lorry.
    pub bursts: f64,
    /// Deviation of one inference's latency.
    pub noise: f64,
    canaries: usize,
    random: Random,
    /// Where the numbers stood when the history was written: every scenario of a fleet goes on from there.
    after_history: Random,
    devices: Vec<Device>,
    after_history_devices: Vec<Device>,
    pub history: Vec<Look>,
    pub look: Look,
}

impl Simulation {
    pub fn new() -> Self {
        Self::of(CANARIES, DEVICES - CANARIES)
    }

    pub fn of(canaries: usize, controls: usize) -> Self {
        let figures: Figures = [Metric::Latency, Metric::Errors, Metric::Confidence]
            .map(|metric| (metric, Sample { sum: 0.0, count: u64::from(INFERENCES) }))
            .into();
        let devices = (0..canaries + controls).map(|n| (id(n), figures.clone())).collect();
        let look = Look { number: 0, devices };
        let history = (0..DAY).map(|number| Look { number, ..look.clone() }).collect();
        let (random, after_history) = (Random(0), Random(0));
        let devices = vec![Device::default(); canaries + controls];
        Self {
            scenario: UNCHANGED,
            bursts: 0.0,
            noise: LATENCY_NOISE,
            canaries,
            random,
            after_history,
            after_history_devices: devices.clone(),
            devices,
            history,
            look,
        }
    }

    /// Draws a fleet and its history.
    pub fn restart(&mut self, seed: u64) {
        self.random = Random::new(seed);
        for device in &mut self.devices {
            *device = self.random.device();
        }
        for look in &mut self.history {
            fill(&mut self.random, look, &self.devices, self.noise, &UNCHANGED, 0);
            burst(&mut self.random, look, self.bursts);
        }
        self.after_history = self.random.clone();
        self.after_history_devices.clone_from(&self.devices);
    }

    /// The candidate comes, to the fleet and the history that are there.
    pub fn begin(&mut self, scenario: Scenario) {
        self.scenario = scenario;
        self.random = self.after_history.clone();
        self.devices.clone_from(&self.after_history_devices);
        self.look.number = DAY - 1;
    }

    /// Draws the next look.
    pub fn advance(&mut self) {
        self.look.number += 1;
        self.wander();
        fill(&mut self.random, &mut self.look, &self.devices, self.noise, &self.scenario, self.canaries);
        self.break_control();
        burst(&mut self.random, &mut self.look, self.bursts);
    }

    /// Looks since the candidate came, from 1.
    pub fn looks(&self) -> u64 {
        self.look.number - DAY + 1
    }

    pub fn cohorts(&self) -> Cohorts {
        let (canaries, devices) = (self.canaries, self.devices.len());
        Cohorts { canaries: (0..canaries).map(id).collect(), controls: (canaries..devices).map(id).collect() }
    }

    /// Each device forgets some of where it is and moves a little, so the deviation stays what it was.
    fn wander(&mut self) {
        let kept = self.scenario.memory;
        if kept < 1.0 {
            for device in &mut self.devices {
                device.restless = kept * device.restless + (1.0 - kept * kept).sqrt() * self.random.normal();
            }
        }
    }

    fn break_control(&mut self) {
        let (first, from_look_to_look) = self.scenario.odd_control;
        let factor = first * from_look_to_look.powf((self.looks() - 1) as f64);
        if let Some(figures) = self.look.devices.values_mut().next_back() {
            figures.entry(Metric::Latency).and_modify(|latency| latency.sum *= factor);
        }
    }

    /// Canaries and controls of the last look.
    pub fn pooled(&self) -> (Pooled, Pooled) {
        let mut sides = (Pooled::default(), Pooled::default());
        for (index, figures) in self.look.devices.values().enumerate() {
            let side = if index < self.canaries { &mut sides.0 } else { &mut sides.1 };
            let (latency, errors) = (figures[&Metric::Latency], figures[&Metric::Errors]);
            let (inferences, mean) = (latency.count as f64, latency.sum / latency.count as f64);
            side.inferences += inferences;
            side.latency += latency.sum;
            side.latency_squares += inferences * mean * mean * (1.0 + LATENCY_NOISE * LATENCY_NOISE);
            side.errors += errors.sum;
        }
        sides
    }
}

fn id(number: usize) -> DeviceId {
    DeviceId::new(format!("d{number:03}")).expect("a letter and digits are a device's name")
}

/// One look, whose first devices are `canaries`.
fn fill(
    random: &mut Random,
    look: &mut Look,
    devices: &[Device],
    noise: f64,
    scenario: &Scenario,
    canaries: usize,
) {
    let noon = 1.0 - 0.1 * (TAU * (look.number % DAY) as f64 / DAY as f64).cos();
    let n = f64::from(INFERENCES);
    let unharmed = canaries - scenario.harmed.0.min(canaries);
    for (index, (figures, device)) in look.devices.values_mut().zip(devices).enumerate() {
        let moved = (1.0 + scenario.restless * device.restless).max(0.1);
        let mut latency = device.latency * noon * scenario.latency_everywhere * moved;
        let mut errors = device.errors * scenario.errors_everywhere;
        let mut confidence = device.confidence;
        if index < canaries {
            latency *= scenario.latency * if index < unharmed { 1.0 } else { scenario.harmed.1 };
            errors *= scenario.errors;
            confidence += scenario.confidence;
        }
        let latency = latency * (1.0 + noise / n.sqrt() * random.normal());
        let confidence = confidence + 0.15 / n.sqrt() * random.normal();
        let failed = f64::from(random.binomial(INFERENCES, errors.min(0.9)));
        let sums = [latency * n, failed, confidence * n];
        for (sample, sum) in figures.values_mut().zip(sums) {
            sample.sum = sum;
        }
    }
}

fn burst(random: &mut Random, look: &mut Look, share: f64) {
    if share == 0.0 {
        return;
    }
    for figures in look.devices.values_mut() {
        if let Some(errors) = figures.get_mut(&Metric::Errors).filter(|_| random.uniform() <= share) {
            errors.sum = f64::from(INFERENCES / 2);
        }
    }
}

/// Numbers that look random and are the same in every run of a seed (SplitMix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    fn uniform(&mut self) -> f64 {
        ((self.number() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly a standard normal: the ones among 64 fair bits, smoothed. Cut off at eight deviations.
    pub fn normal(&mut self) -> f64 {
        let ones = f64::from(self.number().count_ones()) - 32.0;
        (ones + self.uniform() - 0.5) / (16.0_f64 + 1.0 / 12.0).sqrt()
    }

    /// Events among `n` of probability `p` below 1, by walking up the distribution.
    fn binomial(&mut self, n: u32, p: f64) -> u32 {
        let (odds, mut rest) = (p / (1.0 - p), self.uniform());
        let mut chance = (1.0 - p).powi(n.cast_signed());
        for events in 0..n {
            if rest <= chance {
                return events;
            }
            rest -= chance;
            chance *= odds * f64::from(n - events) / f64::from(events + 1);
        }
        n
    }

    fn device(&mut self) -> Device {
        let shift = ERRORS_LOG_DEVIATION * ERRORS_LOG_DEVIATION / 2.0;
        Device {
            latency: 20.0 * (0.3 * self.normal()).exp(),
            errors: 0.01 * (ERRORS_LOG_DEVIATION * self.normal() - shift).exp(),
            confidence: 0.85 + 0.03 * self.normal(),
            restless: self.normal(),
        }
    }
}
