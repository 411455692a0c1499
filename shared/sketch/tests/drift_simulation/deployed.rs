//! One device under the rule that a server makes for a small fleet: against its own first thousand samples, with the zone that so many
//! baselines need, and the threshold of ten years over all pairs. A check an hour, in which the device counts 50 samples.
//!
//! Ten devices at two sites, with one processor and one version of the agent, and eight features, as an image classifier has: mean,
//! deviation, sharpness, gradient and saturation of the image, confidence, entropy and class of the answer. One of the features is drawn.

use muster_sketch::detector::{DeviceWatch, FleetRule, FleetSize, Rule, Scope, Watched};

use crate::{
    long,
    population::{DIRECTIONS, Fault, HOURS_A_YEAR, Population, Single},
    summary::Delays,
};

const FEATURES: u64 = 8;
const DEVICES: u64 = 10;
/// Two sites, a processor, a version of the agent.
const GROUPS: u64 = 4;
const BASELINE: u64 = 1_000;
const SAMPLES: u64 = 50;
/// Checks without drift before the change.
const BEFORE: u64 = 20;
/// Samples after which a drift counts as not found: half a year.
const GIVEN_UP: u64 = 200_000;

fn fleet_rule() -> FleetRule {
    let directions = FEATURES * DIRECTIONS;
    let size = FleetSize { features: FEATURES, directions, devices: DEVICES, groups: GROUPS };
    FleetRule::one_false_alarm_in(10.0, HOURS_A_YEAR, size, 0).unwrap()
}

fn rule() -> Rule {
    let FleetRule { device_zone: zone, threshold, suppress_secs, .. } = fleet_rule();
    Rule { zone, threshold, suppress_secs }
}

/// A device that knows what it was like, and what holds it against that.
struct Watching {
    device: Single,
    watch: DeviceWatch,
    rule: Rule,
    checks: u64,
}

impl Watching {
    fn draw(seed: u64) -> Self {
        let (mut device, rule) = (Single::draw(seed), rule());
        let mut watch = DeviceWatch::new(&device.scores);
        let baseline = device.counts(BASELINE);
        watch.observe(&device.scores, &rule, &baseline, 0).unwrap();
        Self { device, watch, rule, checks: 0 }
    }

    fn alarms(&mut self) -> bool {
        self.checks += 1;
        let counts = self.device.counts(SAMPLES);
        let watched = self.watch.observe(&self.device.scores, &self.rule, &counts, self.checks).unwrap();
        matches!(watched, Watched::Counted { alarm: Some(_), .. })
    }
}

fn delays(name: &str, runs: u64, fault: Fault) -> Delays {
    let delays = (1..=runs).map(|seed| {
        let mut watching = Watching::draw(seed);
        for _ in 0..BEFORE {
            watching.alarms();
        }
        watching.device.break_it(fault);
        let samples = (1..=GIVEN_UP / SAMPLES).map(|check| check * SAMPLES);
        { samples }.find(|_| watching.alarms())
    });
    Delays::print(&format!("{name}, own baseline, fleet of {DEVICES}"), "samples", delays)
}

#[test]
fn one_device_of_a_small_fleet_finds_a_shift_as_late_as_the_documentation_says() {
    let (zone, threshold) = (rule().zone.standard_errors(), rule().threshold.value());
    println!("one device of {DEVICES}: zone of {zone:.2} standard errors, threshold {threshold:.3e}");
    let fifth = delays("+0.2 s", 100, Fault::Shift(0.2));
    let quarter = delays("+0.25 s", 200, Fault::Shift(0.25));
    println!("found within {GIVEN_UP}: +0.2 s {} of 100, +0.25 s {} of 200", fifth.found(), quarter.found());
    let half = delays("+0.5 s", 200, Fault::Shift(0.5));
    let whole = delays("+1 s", 200, Fault::Shift(1.0));
    let frozen = delays("frozen", 200, Fault::Frozen);
    assert!((60..=85).contains(&fifth.found()), "seeds 1 to 100");
    assert!(quarter.median() <= 7_000 && quarter.found() >= 193, "seeds 1 to 200");
    assert!(half.median() <= 550 && whole.median() <= 150 && frozen.most() <= 100, "seeds 1 to 200");
}

/// What one device finds in days, ten find in hours.
#[test]
fn a_small_fleet_finds_what_all_its_devices_share_long_before_one_of_them_does() {
    let rule = fleet_rule();
    let delays = (1..=40).map(|seed| {
        let mut fleet = Population::draw(seed);
        fleet.keep(|number, _| number < DEVICES as usize);
        for _ in 0..72 {
            assert!(fleet.advance(&rule).is_empty(), "seed {seed}");
        }
        fleet.break_devices(|_| true, Fault::Shift(0.25));
        (1..=72).find(|_| fleet.advance(&rule).iter().any(|found| found.scope == Scope::World))
    });
    let all = Delays::print("all of ten devices +0.25 s", "hours", delays);
    assert!(all.median() <= 6 && all.most() <= 12, "seeds 1 to 40");
}

#[test]
fn one_device_of_a_small_fleet_is_silent_without_drift() {
    let (devices, checks) = (200 * long(10), 1_000);
    let alarms: usize = (1..=devices)
        .map(|seed| {
            let mut watching = Watching::draw(seed);
            (0..checks).filter(|_| watching.alarms()).count()
        })
        .sum();
    println!("no drift: {alarms} false alarms in {} device-hours", devices * checks);
    assert_eq!(alarms, 0, "seeds 1 to {devices}");
}
