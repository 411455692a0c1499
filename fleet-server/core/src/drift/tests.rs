//! A small plant of devices whose values are drawn from a normal distribution, checked as the server does.

mod checks;
mod sums;
mod telling;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use muster_sketch::{
    detector::{FleetRule, Group, Scope, Scores},
    reference::{FeatureReference, NumericReference, Reference, ReferenceValues},
    window::{FeatureCounts, FeatureWindow},
};
use shared::Timestamp;

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);
const CHECK_SECS: u64 = 3_600;

/// SplitMix64 (Steele, Lea & Flood 2014).
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A standard normal value (Box & Muller 1958).
    fn normal(&mut self) -> f32 {
        let (u, v) = (self.uniform().max(1e-300), self.uniform());
        ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    }
}

/// What is different about the devices that it is asked for.
type Twist = dyn Fn(&str, f32) -> f32;

/// Devices `a-0` to `a-5` at the site `a`, and as many at `b`.
struct Plant {
    random: Random,
    reference: Arc<Reference>,
    scores: Vec<Scores>,
    rule: FleetRule,
    groups: BTreeMap<String, Vec<Group>>,
    state: FeatureState,
    now: Timestamp,
}

impl Plant {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let sample: Vec<f32> = (0..10_000).map(|_| random.normal()).collect();
        let values = ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap());
        let reference = Reference::new(vec![FeatureReference { name: "level".into(), values }]).unwrap();
        let scores = vec![Scores::numeric(reference.features()[0].values.bins()).unwrap()];
        let settings =
            DriftSettings { one_false_alarm_in_years: 10.0, suppress_secs: 86_400, relearn: Relearn::Never };
        let rule =
            rule(&settings, &scores, Watched { devices: 12, groups: 2, versions: 1 }, CHECK_SECS).unwrap();
        let site = |site: &str| vec![Group::Stratum { key: "site".into(), value: site.into() }];
        let devices = ["a", "b"].into_iter().flat_map(|s| (0..6).map(move |n| (format!("{s}-{n}"), site(s))));
        let groups: BTreeMap<_, _> = devices.collect();
        let look = Look {
            feature: &reference.features()[0],
            scores: &scores[0],
            rule: &rule,
            groups: &groups,
            now: START,
        };
        let state = FeatureState::new(&look);
        Self { random, reference: Arc::new(reference), scores, rule, groups, state, now: START }
    }

    /// A plant whose devices have all learnt what they are like.
    fn learnt(seed: u64) -> Self {
        let mut plant = Self::new(seed);
        for _ in 0..4 {
            assert_eq!(plant.quiet(), vec![], "seed {seed}");
        }
        plant
    }

    fn quiet(&mut self) -> Vec<Found> {
        self.check(&[], &|_, value| value).found
    }

    /// The next check, to which every device brings three hundred rows.
    fn check(&mut self, orders: &[Order], twist: &Twist) -> Outcome {
        let devices: Vec<_> = self.groups.keys().cloned().collect();
        let counted: Vec<_> =
            devices.iter().map(|device| (device.clone(), self.count(device, 300, twist))).collect();
        self.check_counts(orders, &counted)
    }

    fn check_counts(&mut self, orders: &[Order], counted: &[(String, FeatureCounts)]) -> Outcome {
        self.now = Timestamp(self.now.as_millis() + 1_000 * CHECK_SECS);
        let to_ms = self.now.as_millis();
        let from_ms = to_ms - 1_000 * CHECK_SECS;
        let brought = counted.iter().map(|(device, counts)| Brought { device, from_ms, to_ms, counts });
        let brought: Vec<_> = brought.collect();
        let look = Look {
            feature: &self.reference.features()[0],
            scores: &self.scores[0],
            rule: &self.rule,
            groups: &self.groups,
            now: self.now,
        };
        self.state.check(&look, orders, &brought).unwrap()
    }

    fn count(&mut self, device: &str, rows: usize, twist: &Twist) -> FeatureCounts {
        let mut window = FeatureWindow::new(self.reference.clone());
        for _ in 0..rows {
            let value = self.random.normal();
            window.record(&[twist(device, value)], &[]).unwrap();
        }
        window.seal().unwrap().remove(0)
    }

    /// The first drift of the checks that follow, at most so many.
    fn until_drift(&mut self, checks: usize, twist: &Twist) -> Found {
        for _ in 0..checks {
            let found = self.check(&[], twist).found;
            if let Some(found) = found.into_iter().find(|found| found.cause.word() == "drift") {
                return found;
            }
        }
        panic!("no drift in {checks} checks");
    }
}

fn sensor(device: &str) -> Scope {
    Scope::Sensor { device: device.into() }
}

fn site(site: &str) -> Scope {
    Scope::Stratum { key: "site".into(), value: site.into() }
}
