//! Versions side by side, each with its own reference.

use super::{fleet::fleet_rule, *};

/// The reference of another version: other edges, so other counts in as many bins.
fn coarse() -> Vec<u64> {
    let mut counts = vec![0; 14];
    counts[1..13].fill(800);
    counts
}

struct Version {
    scores: Scores,
    usual: Vec<u64>,
    fleet: Fleet,
    devices: std::ops::Range<usize>,
}

impl Version {
    fn of(reference: Vec<u64>, devices: std::ops::Range<usize>) -> Self {
        let scores = Scores::numeric(&reference).unwrap();
        let fleet = Fleet::new(&scores, "brightness");
        Self { scores, usual: reference, fleet, devices }
    }

    /// One check, with every device's values higher by a part of the bins.
    fn check(&mut self, at_secs: u64, moved: impl Fn(usize) -> f64) -> Vec<Finding> {
        let bins = self.usual.len();
        let devices: Vec<_> = self
            .devices
            .clone()
            .map(|n| (format!("camera-{n:02}"), halls(n), higher(&self.usual, moved(n))))
            .collect();
        assert!(devices.iter().all(|(_, _, counts)| counts.len() == bins));
        let batches: Vec<_> = devices
            .iter()
            .map(|(name, groups, counts)| FleetBatch { device: name, groups, counts })
            .collect();
        self.fleet.check(&self.scores, &fleet_rule(1e7), &batches, at_secs).unwrap().findings
    }
}

fn halls(n: usize) -> Vec<Group> {
    let hall = if n < 20 { "new" } else { "old" };
    vec![Group::Stratum { key: "hall".to_owned(), value: hall.to_owned() }]
}

/// A tenth of the reference's rows, this part of the inner ones half of the bins higher.
fn higher(reference: &[u64], part: f64) -> Vec<u64> {
    let (bins, mut counts) = (reference.len(), vec![0; reference.len()]);
    for (bin, &count) in reference.iter().enumerate() {
        let moved = (count as f64 * part) as u64;
        counts[bin] += count - moved;
        counts[(bin + bins / 2).min(bins - 2).max(bin)] += moved;
    }
    counts.iter_mut().for_each(|count| *count /= 10);
    counts
}

/// What each of two versions finds first after it has learnt, held against the other. The new one runs on the devices below 10.
fn first_scopes(moved: impl Fn(bool, usize) -> f64) -> [Option<Scope>; 2] {
    let (mut new, mut old) = (Version::of(coarse(), 0..10), Version::of(reference(), 10..40));
    let mut first = [None, None];
    for at_secs in 1..=20 {
        let by = |is_new, n| if at_secs > 10 { moved(is_new, n) } else { 0.0 };
        let found = [new.check(at_secs, |n| by(true, n)), old.check(at_secs, |n| by(false, n))];
        let sides = [(&new, &old), (&old, &new)];
        for ((first, found), (own, other)) in first.iter_mut().zip(found).zip(sides) {
            let mut held =
                found.iter().map(|it| own.fleet.against(it, &[(&other.scores, &other.fleet)]).scope);
            *first = first.take().or(held.next_back());
        }
    }
    first
}

#[test]
fn a_change_of_one_version_alone_is_the_models() {
    assert_eq!(first_scopes(|_, _| 0.0), [None, None]);
    assert_eq!(first_scopes(|is_new, _| if is_new { 0.3 } else { 0.0 }), [Some(Scope::Model), None]);
    assert_eq!(first_scopes(|is_new, _| if is_new { 0.0 } else { 0.3 }), [None, Some(Scope::Model)]);
    for everybody in [0.1, 0.3] {
        assert_eq!(first_scopes(|_, _| everybody), [Some(Scope::World), Some(Scope::World)]);
    }
}

#[test]
fn a_hall_with_all_devices_of_a_version_is_not_taken_for_the_version() {
    let hall = Scope::Stratum { key: "hall".to_owned(), value: "new".to_owned() };
    assert_eq!(first_scopes(|_, n| if n < 20 { 0.3 } else { 0.0 }), [Some(Scope::World), Some(hall)]);
}

#[test]
fn without_enough_devices_to_compare_with_a_finding_stays_the_worlds() {
    for others in [0, 4, 5] {
        let mut new = Version::of(coarse(), 0..10);
        let mut old = Version::of(reference(), 20..20 + others);
        let mut found = vec![];
        for at_secs in 1..=20 {
            let findings = new.check(at_secs, |_| if at_secs > 10 { 0.3 } else { 0.0 });
            old.check(at_secs, |_| 0.0);
            let all = [(&old.scores, &old.fleet)];
            found.extend(findings.iter().map(|finding| new.fleet.against(finding, &all)));
        }
        let expected = if others < MIN_GROUP_DEVICES { Scope::World } else { Scope::Model };
        assert_eq!(found.first().map(|finding| &finding.scope), Some(&expected), "{others} others");
        assert_eq!(found[0].contrast.is_some(), others >= MIN_GROUP_DEVICES);
        assert!(found[0].moved.is_some_and(|moved| moved.by > 0.2 && moved.error < 0.1), "{found:?}");
    }
}

#[test]
fn what_is_not_the_worlds_is_not_touched() {
    let mut old = Version::of(reference(), 10..40);
    let mut found = vec![];
    for at_secs in 1..=12 {
        found.extend(old.check(at_secs, |n| if at_secs > 10 && n == 33 { 0.9 } else { 0.0 }));
    }
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(&old.fleet.against(finding, &[(&old.scores, &old.fleet)]), finding);
    assert_eq!((&finding.scope, finding.moved), (&Scope::Sensor { device: "camera-33".to_owned() }, None));
}
