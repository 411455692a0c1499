//! Devices together.

use super::*;

fn fleet_rule(threshold: f64) -> FleetRule {
    let Rule { zone, threshold, suppress_secs } = rule(threshold);
    FleetRule { device_zone: zone, group_zone: zone, threshold, suppress_secs }
}

fn names() -> Vec<String> {
    (0..40).map(|n| format!("camera-{n:02}")).collect()
}

fn halls(names: &[String]) -> Vec<Vec<Group>> {
    let hall = |n: usize| Group::Stratum { key: "hall".to_owned(), value: (n / 10).to_string() };
    let model = |n: usize| if n.is_multiple_of(2) { Group::Treated } else { Group::Untreated };
    (0..names.len()).map(|n| vec![hall(n), model(n)]).collect()
}

/// A fleet that has learnt, and its findings when the devices chosen move by so many bins.
fn found(moved: impl Fn(usize) -> usize) -> (Fleet, Vec<Finding>) {
    let (scores, names) = (scores(), names());
    let groups = halls(&names);
    let mut fleet = Fleet::new(&scores, "brightness");
    let mut findings = vec![];
    for at_secs in 1..=30 {
        let counts: Vec<_> =
            (0..names.len()).map(|n| higher(1_000, 4 + if at_secs > 20 { moved(n) } else { 0 })).collect();
        let batches: Vec<_> = (0..names.len())
            .map(|n| FleetBatch { device: &names[n], groups: &groups[n], counts: &counts[n] })
            .collect();
        findings.extend(fleet.check(&scores, &fleet_rule(1e7), &batches, at_secs).unwrap());
        let text = serde_json::to_string(&fleet).unwrap();
        assert_eq!(serde_json::from_str::<Fleet>(&text).unwrap(), fleet, "stored fleets come back");
    }
    (fleet, findings)
}

fn scopes(findings: &[Finding]) -> Vec<Scope> {
    findings.iter().map(|finding| finding.scope.clone()).collect()
}

#[test]
fn who_moved_is_said_once() {
    assert_eq!(scopes(&found(|_| 0).1), []);
    let camera = Scope::Sensor { device: "camera-07".to_owned() };
    assert_eq!(scopes(&found(|n| if n == 7 { 9 } else { 0 }).1), [camera]);
    let hall = Scope::Stratum { key: "hall".to_owned(), value: "2".to_owned() };
    assert_eq!(scopes(&found(|n| if n / 10 == 2 { 5 } else { 0 }).1), [hall]);
    assert_eq!(scopes(&found(|n| if n % 2 == 0 { 5 } else { 0 }).1), [Scope::Model]);
    assert_eq!(scopes(&found(|_| 5).1), [Scope::World]);
}

#[test]
fn a_finding_carries_its_evidence() {
    let (_, findings) = found(|n| if n / 10 == 2 { 3 } else { 0 });
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.feature.as_str(), finding.devices >= 10), ("brightness", true));
    assert_eq!(finding.alarm.direction.sign, Sign::Up);
    assert_eq!(finding.alarm.since_secs, 20);
    let contrast = finding.contrast.expect("the hall was held against the others");
    assert!(contrast.inside > 0.2 && contrast.outside.abs() < 0.05, "{contrast:?}");
}

#[test]
fn a_broken_sensor_does_not_hide_that_a_hall_moves_later() {
    let broken = |n: usize| if n == 7 { 9 } else { 0 };
    let (_, first) = found(broken);
    let (_, both) = found(|n| broken(n).max(if n / 10 == 2 { 5 } else { 0 }));
    assert_eq!((first.len(), both.len()), (1, 2), "{:?}", scopes(&both));
}

#[test]
fn the_strongest_device_adds_nothing_to_its_group_and_its_losses_count() {
    let scores = scores();
    let baseline = Baseline::of(&scores, &reference()).unwrap();
    let payoff = |by| Payoff::of(&scores, &baseline, &higher(1_000, by)).unwrap();
    let (usual, broken) = (payoff(0), payoff(12));
    let mut devices = vec![&usual; 20];
    let without = Payoff::product(&devices).unwrap();
    devices[11] = &broken;
    let with = Payoff::product(&devices).unwrap();
    for (bet, (with, without)) in with.gains.iter().zip(&without.gains).enumerate() {
        assert!(*with <= without.max(0.0) + 1e-9, "bet {bet}: {with} with the broken one, {without} without");
    }
    let all = usual.gains.iter().zip(&without.gains);
    assert!(
        all.into_iter().all(|(one, product)| *product <= 20.0 * one.min(0.0) + 19.0 * one.max(0.0) + 1e-9)
    );
}

#[test]
fn a_check_that_is_refused_counts_nothing() {
    let scores = scores();
    let mut fleet = Fleet::new(&scores, "brightness");
    let empty = fleet.clone();
    let (counts, short) = (reference(), vec![1; 31]);
    let batch = FleetBatch { device: "a", groups: &[], counts: &counts };
    let twice = fleet.check(&scores, &fleet_rule(1e6), &[batch, batch], 1);
    assert_eq!(twice, Err(FleetError::Twice("a".to_owned())));
    let other = FleetBatch { device: "b", counts: &short, ..batch };
    let refused = fleet.check(&scores, &fleet_rule(1e6), &[batch, other], 1);
    assert!(matches!(refused, Err(FleetError::Device { device, .. }) if device == "b"));
    let groups: Vec<_> =
        (0..=MAX_GROUPS).map(|n| Group::Stratum { key: n.to_string(), value: String::new() }).collect();
    let many = FleetBatch { groups: &groups, ..batch };
    assert_eq!(fleet.check(&scores, &fleet_rule(1e6), &[many], 1), Err(FleetError::TooMany));
    assert_eq!(fleet, empty);
}

#[test]
fn a_device_that_is_forgotten_or_learns_anew_starts_at_nothing() {
    let scores = scores();
    let (mut fleet, _) = found(|_| 0);
    fleet.relearn(&scores, "camera-03");
    fleet.forget("camera-04");
    let known: Vec<_> = fleet.devices().map(|(name, watch)| (name, watch.baseline().is_some())).collect();
    assert_eq!(known.len(), 39);
    assert_eq!(known.iter().filter(|(_, complete)| !complete).collect::<Vec<_>>(), [&("camera-03", false)]);
}
