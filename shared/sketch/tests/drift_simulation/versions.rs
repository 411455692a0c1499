//! Two versions of a model on one fleet, twenty devices with the new one. Each version has its own reference and so a detector of its own.

use muster_sketch::detector::{Finding, FleetRule, FleetSize, Scope};

use crate::{
    long,
    population::{DEVICES, DIRECTIONS, Fault, HOURS_A_YEAR, Population, stratum},
    summary::Delays,
};

const NEW: usize = 20;
/// Hours until both have learnt, and after which an incident counts as not found.
const WARM_UP: u64 = 72;
const GIVEN_UP: u64 = 72;
const SUPPRESS_SECS: u64 = 7 * 86_400;

/// One false alarm in ten years over both versions: a device is watched under one, the groups under both.
fn rule() -> FleetRule {
    let size = FleetSize { features: 1, directions: DIRECTIONS, devices: DEVICES as u64, groups: 15 };
    FleetRule::one_false_alarm_in(10.0, HOURS_A_YEAR, size, SUPPRESS_SECS).unwrap()
}

#[derive(Clone)]
struct Versions {
    new: Population,
    old: Population,
}

impl Versions {
    /// The new version is on twenty devices anywhere, or on twenty of one hall.
    fn warm(seed: u64, in_one_hall: bool) -> Self {
        let (mut new, mut old) = (Population::draw(seed + 1_000_000), Population::draw(seed));
        let hall = stratum("site", "hall-2");
        if in_one_hall {
            new.keep(|number, groups| number < 4 * NEW && groups.contains(&hall));
        } else {
            new.keep(|number, _| number < NEW);
        }
        old.keep(|number, _| number >= NEW);
        let mut versions = Self { new, old };
        for _ in 0..WARM_UP {
            let found = versions.advance();
            assert!(found.iter().all(Vec::is_empty), "seed {seed}: {found:?}");
        }
        versions
    }

    /// An hour of both, and what each found, held against the other: new version first.
    fn advance(&mut self) -> [Vec<Finding>; 2] {
        let found = [self.new.advance(&rule()), self.old.advance(&rule())];
        let held = |found: &[Finding], own: &Population, other: &Population| {
            let others = [(other.scores(), &other.fleet)];
            found.iter().map(|finding| own.fleet.against(finding, &others)).collect()
        };
        [held(&found[0], &self.new, &self.old), held(&found[1], &self.old, &self.new)]
    }
}

struct Incident {
    name: &'static str,
    in_one_hall: bool,
    hit: fn(&mut Versions),
    /// What the new version's first finding says, and the old one's.
    expected: [Option<fn() -> Scope>; 2],
}

fn shift(population: &mut Population, by: f64) {
    population.break_devices(|_| true, Fault::Shift(by));
}

fn shift_both(versions: &mut Versions, by: f64) {
    shift(&mut versions.new, by);
    shift(&mut versions.old, by);
}

fn hall() -> Scope {
    Scope::Stratum { key: "site".to_owned(), value: "hall-2".to_owned() }
}

fn shift_hall(versions: &mut Versions, by: f64) {
    let hall = stratum("site", "hall-2");
    for population in [&mut versions.new, &mut versions.old] {
        population.break_devices(|groups| groups.contains(&hall), Fault::Shift(by));
    }
}

const MODEL: [Option<fn() -> Scope>; 2] = [Some(|| Scope::Model), None];
const WORLD: [Option<fn() -> Scope>; 2] = [Some(|| Scope::World), Some(|| Scope::World)];
/// What the new version finds is not taken for its own doing, and the old one says where it is.
const HALL: [Option<fn() -> Scope>; 2] = [Some(|| Scope::World), Some(hall)];

const INCIDENTS: [Incident; 8] = [
    Incident {
        name: "new version +0.25 s",
        in_one_hall: false,
        hit: |it| shift(&mut it.new, 0.25),
        expected: MODEL,
    },
    Incident {
        name: "new version +1 s",
        in_one_hall: false,
        hit: |it| shift(&mut it.new, 1.0),
        expected: MODEL,
    },
    Incident {
        name: "new version +0.25 s, all in one hall",
        in_one_hall: true,
        hit: |it| shift(&mut it.new, 0.25),
        expected: MODEL,
    },
    Incident { name: "everybody +0.1 s", in_one_hall: false, hit: |it| shift_both(it, 0.1), expected: WORLD },
    Incident {
        name: "everybody +0.25 s",
        in_one_hall: false,
        hit: |it| shift_both(it, 0.25),
        expected: WORLD,
    },
    Incident { name: "everybody +1 s", in_one_hall: false, hit: |it| shift_both(it, 1.0), expected: WORLD },
    Incident {
        name: "the new version's hall +0.25 s",
        in_one_hall: true,
        hit: |it| shift_hall(it, 0.25),
        expected: HALL,
    },
    Incident {
        name: "the new version's hall +1 s",
        in_one_hall: true,
        hit: |it| shift_hall(it, 1.0),
        expected: HALL,
    },
];

#[derive(Default)]
struct Seen {
    hours: Vec<Option<u64>>,
    right: usize,
    wrong: Vec<(u64, [Option<Finding>; 2])>,
}

impl Seen {
    /// The first finding of each version; the hour is that of the first of both.
    fn look(&mut self, seed: u64, mut versions: Versions, incident: &Incident) {
        (incident.hit)(&mut versions);
        let mut first: [Option<Finding>; 2] = [None, None];
        let mut found_at = None;
        for hour in 1..=GIVEN_UP {
            for (first, found) in first.iter_mut().zip(versions.advance()) {
                *first = first.take().or_else(|| found.into_iter().next());
            }
            found_at = found_at.or_else(|| first.iter().any(Option::is_some).then_some(hour));
            let missing =
                first.iter().zip(&incident.expected).any(|(first, it)| first.is_none() && it.is_some());
            if !missing && Some(hour) > found_at.map(|at| at + 6) {
                break;
            }
        }
        self.hours.push(found_at);
        let scopes = first.each_ref().map(|first| first.as_ref().map(|finding| finding.scope.clone()));
        if scopes == incident.expected.map(|scope| scope.map(|scope| scope())) {
            self.right += 1;
        } else {
            self.wrong.push((seed, first));
        }
    }
}

#[test]
fn what_a_new_version_does_is_told_from_what_the_world_and_its_hall_do() {
    let mut seen: [Seen; INCIDENTS.len()] = Default::default();
    for seed in 1..=40 * long(5) {
        let versions = [false, true].map(|in_one_hall| Versions::warm(seed, in_one_hall));
        for (number, (incident, seen)) in INCIDENTS.iter().zip(&mut seen).enumerate() {
            let Versions { new, old } = &versions[usize::from(incident.in_one_hall)];
            let branch = Versions { new: new.branch(number as u64), old: old.branch(number as u64) };
            seen.look(seed, branch, incident);
        }
    }
    let (mut right, mut all) = (0, 0);
    for (incident, seen) in INCIDENTS.iter().zip(&seen) {
        println!("{}: {} of {} right", incident.name, seen.right, seen.hours.len());
        Delays::print("", "hours", seen.hours.iter().copied());
        for (seed, first) in &seen.wrong {
            println!("  seed {seed}: {first:?}");
        }
        right += seen.right;
        all += seen.hours.len();
    }
    assert!(right * 100 >= all * 99, "{right} of {all} right");
}
