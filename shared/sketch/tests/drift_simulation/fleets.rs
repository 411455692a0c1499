//! A hundred unlike devices, checked every hour, each against its own first thousand samples.

use muster_sketch::detector::{
    DeviceWatch, Finding, FleetRule, Group, Rule, Scope, Threshold, Watched, Zone,
};

use crate::{
    long,
    population::{
        DEVICES, DIRECTIONS, Fault, HOURS_A_YEAR, PAIRS, Population, Single, checked, stratum, ten_years,
    },
    summary::Delays,
};

/// Hours after which an incident counts as not found.
const GIVEN_UP: u64 = 72;

#[test]
fn a_fleet_without_drift_is_silent_for_more_than_a_million_device_hours() {
    let (fleets, hours) = (24 * long(4), 560);
    let mut found = vec![];
    for seed in 1..=fleets {
        let mut population = Population::draw(seed);
        for hour in 1..=hours {
            found.extend(population.advance(&ten_years()).into_iter().map(|finding| (seed, hour, finding)));
        }
    }
    let (fleet_hours, device_hours) = (fleets * hours, fleets * hours * DEVICES as u64);
    println!(
        "no drift: {} false alarms in {fleet_hours} fleet-hours, {device_hours} device-hours",
        found.len()
    );
    assert!(found.is_empty(), "(seed, hour, finding): {found:?}");
}

/// Only with `MUSTER_LONG=1`: the ten years that the threshold is for. With a check every six hours, as it takes long.
#[test]
fn ten_years_of_a_fleet_without_drift() {
    if long(2) == 1 {
        return;
    }
    let usual = checked(HOURS_A_YEAR / 6.0);
    let narrow = FleetRule { device_zone: Zone::default(), group_zone: Zone::default(), ..usual };
    for rule in [usual, narrow] {
        let (mut sensors, mut others) = (0, 0);
        for seed in 1..=4 {
            let mut population = Population::draw(seed);
            for _ in 0..(10.0 * HOURS_A_YEAR / 6.0) as u64 {
                for finding in population.advance_by(6, &rule) {
                    match finding.scope {
                        Scope::Sensor { .. } => sensors += 1,
                        Scope::Stratum { .. } | Scope::Model | Scope::World => others += 1,
                    }
                }
            }
            println!(
                "fleets 1 to {seed} for ten years each, zones of {:.2} and {:.2} standard errors: {sensors} false alarms \
                 of single devices, {others} of groups",
                rule.device_zone.standard_errors(),
                rule.group_zone.standard_errors(),
            );
        }
        assert!(rule != usual || sensors + others <= 4, "at most one in ten years each, on average");
    }
}

#[test]
fn a_change_of_the_traffic_mix_is_no_drift() {
    let mut found = 0;
    for seed in 1..=8 {
        let mut population = Population::warm(seed, &ten_years());
        population.change_mix();
        found += (0..240).map(|_| population.advance(&ten_years()).len()).sum::<usize>();
    }
    println!("devices above the mean send 4 times as much: {found} alarms in 1,920 fleet-hours");
    assert_eq!(found, 0, "seeds 1 to 8");
}

/// The morning is not a drift if whole days are checked: what counts is the mean of a batch.
#[test]
fn a_daily_cycle_is_a_drift_every_hour_and_none_when_whole_days_are_checked() {
    let (days, daily) = (60, checked(HOURS_A_YEAR / 24.0));
    let (mut by_hour, mut by_day, mut later) = (0, 0, vec![]);
    for seed in 1..=3 {
        let mut population = Population::draw(seed);
        population.daily_level = 0.3;
        let mut hourly = population.clone();
        by_hour += (0..days * 24).map(|_| hourly.advance(&ten_years()).len()).sum::<usize>();
        by_day += (0..days).map(|_| population.advance_by(24, &daily).len()).sum::<usize>();
        population.shift_all(0.1);
        later.push((1..=30).find(|_| !population.advance_by(24, &daily).is_empty()));
    }
    println!(
        "level moves by 0.3 s within a day, 3 fleets of 60 days: {by_hour} findings of hours, {by_day} of days"
    );
    let later = Delays::print("then the world moves by 0.1 s", "days", later.into_iter());
    assert!(by_hour > 0 && by_day == 0 && later.most() <= 3, "seeds 1 to 3");
}

struct Incident {
    name: &'static str,
    hit: fn(&mut Population) -> Scope,
}

fn sensor(population: &mut Population, fault: Fault) -> Scope {
    let device = population.random().below(DEVICES);
    // A device without a baseline has nothing to differ from.
    let name = Population::name(device);
    let knows = population.fleet.devices().any(|(known, watch)| known == name && watch.baseline().is_some());
    if !knows {
        return sensor(population, fault);
    }
    population.break_device(device, fault);
    Scope::Sensor { device: name }
}

fn many(population: &mut Population, group: Option<Group>, by: f64, scope: Scope) -> Scope {
    population
        .break_devices(|groups| group.as_ref().is_none_or(|group| groups.contains(group)), Fault::Shift(by));
    scope
}

fn site(population: &mut Population, by: f64) -> Scope {
    let scope = Scope::Stratum { key: "site".to_owned(), value: "hall-2".to_owned() };
    many(population, Some(stratum("site", "hall-2")), by, scope)
}

const INCIDENTS: [Incident; 10] = [
    Incident { name: "one sensor +2 s", hit: |fleet| sensor(fleet, Fault::Shift(2.0)) },
    Incident { name: "one sensor -2 s", hit: |fleet| sensor(fleet, Fault::Shift(-2.0)) },
    Incident { name: "one camera frozen", hit: |fleet| sensor(fleet, Fault::Frozen) },
    Incident { name: "world +0.1 s", hit: |fleet| many(fleet, None, 0.1, Scope::World) },
    Incident { name: "world +0.25 s", hit: |fleet| many(fleet, None, 0.25, Scope::World) },
    Incident { name: "world +1 s", hit: |fleet| many(fleet, None, 1.0, Scope::World) },
    Incident { name: "one of four sites +0.25 s", hit: |fleet| site(fleet, 0.25) },
    Incident { name: "one of four sites +1 s", hit: |fleet| site(fleet, 1.0) },
    Incident {
        name: "new model +0.25 s (20 devices)",
        hit: |fleet| many(fleet, Some(Group::Treated), 0.25, Scope::Model),
    },
    Incident {
        name: "new model +1 s (20 devices)",
        hit: |fleet| many(fleet, Some(Group::Treated), 1.0, Scope::Model),
    },
];

#[derive(Default)]
struct Seen {
    hours: Vec<Option<u64>>,
    samples: Vec<Option<u64>>,
    right: u64,
    wrong: Vec<(u64, Vec<Finding>)>,
}

impl Seen {
    /// The first finding is the one that people act on.
    fn look(&mut self, seed: u64, mut population: Population, incident: &Incident) {
        let expected = (incident.hit)(&mut population);
        let device = match &expected {
            Scope::Sensor { device } => device.trim_start_matches("camera-").parse().unwrap_or(0),
            Scope::Stratum { .. } | Scope::Model | Scope::World => 0,
        };
        let mut samples = 0;
        for hour in 1..=GIVEN_UP {
            let findings = population.advance(&ten_years());
            samples += population.samples[device];
            if findings.is_empty() {
                continue;
            }
            self.hours.push(Some(hour));
            self.samples.push(Some(samples));
            if findings.iter().all(|finding| finding.scope == expected) {
                self.right += 1;
            } else {
                self.wrong.push((seed, findings));
            }
            return;
        }
        self.hours.push(None);
        self.samples.push(None);
    }
}

#[test]
fn a_broken_sensor_and_a_changed_world_are_told_apart() {
    let mut seen: [Seen; INCIDENTS.len()] = Default::default();
    for seed in 1..=40 * long(5) {
        let population = Population::warm(seed, &ten_years());
        for (number, (incident, seen)) in INCIDENTS.iter().zip(&mut seen).enumerate() {
            seen.look(seed, population.branch(number as u64), incident);
        }
    }
    let (mut right, mut all) = (0, 0);
    for (incident, seen) in INCIDENTS.iter().zip(&seen) {
        println!("{}: {} of {} scopes right", incident.name, seen.right, seen.hours.len());
        Delays::print("", "hours", seen.hours.iter().copied());
        Delays::print("", "samples of one device", seen.samples.iter().copied());
        for (seed, findings) in &seen.wrong {
            println!("  seed {seed}: {findings:?}");
        }
        right += seen.right;
        all += seen.hours.len() as u64;
    }
    assert!(right * 100 >= all * 99, "{right} of {all} right");
    let world = Delays::print("world +0.1 s", "hours", seen[3].hours.iter().copied());
    assert!(world.most() <= 7, "hours until 0.1 s in the whole fleet is found");
    // The aim is 125 samples of its own. A check an hour sees no fewer than the device counts in that hour, so what is found at the
    // first check is as early as can be.
    for sensors in &seen[..3] {
        let both = sensors.hours.iter().zip(&sensors.samples);
        let late = both.filter(|(hours, samples)| **hours > Some(1) && **samples > Some(125)).count();
        assert_eq!(late, 0, "of sensors that broke");
    }
}

/// Without waiting for the hour: a device that looks every ten samples, at a threshold for as many looks.
#[test]
fn a_frozen_camera_is_found_by_its_own_next_samples() {
    let rule = Rule {
        zone: Zone::for_baselines(DEVICES as u64, DIRECTIONS, 0.0).unwrap(),
        threshold: Threshold::one_false_alarm_in(10.0, 5.0 * HOURS_A_YEAR, PAIRS).unwrap(),
        suppress_secs: 0,
    };
    let mut delays = [vec![], vec![]];
    for seed in 1..=300 {
        for (fault, delays) in [Fault::Frozen, Fault::Shift(2.0)].into_iter().zip(&mut delays) {
            let mut device = Single::draw(seed);
            let baseline = device.counts(1_000);
            let mut watch = DeviceWatch::new(&device.scores);
            watch.observe(&device.scores, &rule, &baseline, 0).unwrap();
            device.break_it(fault);
            let looks = (1..=100_u64).map(|look| 10 * look);
            delays.push({ looks }.find(|&samples| {
                let counts = device.counts(10);
                let watched = watch.observe(&device.scores, &rule, &counts, samples).unwrap();
                matches!(watched, Watched::Counted { alarm: Some(_), .. })
            }));
        }
    }
    let [frozen, shifted] = delays;
    let frozen =
        Delays::print("one camera frozen, looked at every 10 samples", "samples", frozen.into_iter());
    let shifted =
        Delays::print("one sensor +2 s, looked at every 10 samples", "samples", shifted.into_iter());
    assert!(frozen.most() <= 125 && shifted.most() <= 125, "seeds 1 to 300");
}
