//! Devices together.

use super::*;

pub(super) fn fleet_rule(threshold: f64) -> FleetRule {
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

/// One check in a fleet whose devices moved by so many bins.
fn checked(fleet: &mut Fleet, at_secs: u64, moved: impl Fn(usize) -> usize) -> Checked {
    let names = names();
    let groups = halls(&names);
    let counts: Vec<_> = (0..names.len()).map(|n| higher(1_000, 4 + moved(n))).collect();
    let batches: Vec<_> = (0..names.len())
        .map(|n| FleetBatch { device: &names[n], groups: &groups[n], counts: &counts[n] })
        .collect();
    fleet.check(&scores(), &fleet_rule(1e7), &batches, at_secs).unwrap()
}

/// A fleet that has learnt, and its findings when the devices chosen move by so many bins.
fn found(moved: impl Fn(usize) -> usize) -> (Fleet, Vec<Finding>) {
    let mut fleet = Fleet::new(&scores(), "brightness");
    let mut findings = vec![];
    for at_secs in 1..=30 {
        let by = |n| if at_secs > 20 { moved(n) } else { 0 };
        findings.extend(checked(&mut fleet, at_secs, by).findings);
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
    assert_eq!(fleet, empty);
}

/// As many groups as are watched, of one device.
fn serials() -> Vec<Group> {
    let serial = |n: usize| Group::Stratum { key: "a-serial".to_owned(), value: n.to_string() };
    (0..MAX_GROUPS).map(serial).collect()
}

/// What is found when hall 2 moves in a fleet that has seen so many groups already, and what each check left out.
fn hall_moves(fleet: &mut Fleet) -> (Vec<Scope>, Vec<LeftOut>) {
    let hall = |at_secs: u64| move |n: usize| if at_secs > 20 && n / 10 == 2 { 5 } else { 0 };
    let checks = (2..=30).map(|at_secs| checked(fleet, at_secs, hall(at_secs)));
    let (findings, left_out): (Vec<_>, Vec<_>) = checks.map(|check| (check.findings, check.left_out)).unzip();
    (scopes(&findings.concat()), left_out)
}

#[test]
fn groups_that_nobody_is_in_any_more_make_room_for_new_ones() {
    let (scores, counts, serials) = (scores(), higher(100, 0), serials());
    let mut fleet = Fleet::new(&scores, "brightness");
    let batch = FleetBatch { device: "a", groups: &serials, counts: &counts };
    let first = fleet.check(&scores, &fleet_rule(1e7), &[batch], 1).unwrap();
    assert_eq!(first.left_out, LeftOut::default());
    fleet.forget("a");
    let (scopes, left_out) = hall_moves(&mut fleet);
    assert_eq!(scopes, [Scope::Stratum { key: "hall".to_owned(), value: "2".to_owned() }]);
    assert!(left_out.iter().all(|left_out| *left_out == LeftOut::default()));
    let kept = serde_json::to_string(&fleet).unwrap();
    assert!(!kept.contains("a-serial"), "what is kept of groups has an end");
}

#[test]
fn groups_beyond_the_bound_are_named_and_halls_are_watched_before_serial_numbers() {
    let (scores, counts, serials) = (scores(), higher(100, 0), serials());
    let mut fleet = Fleet::new(&scores, "brightness");
    let batch = FleetBatch { device: "a", groups: &serials, counts: &counts };
    fleet.check(&scores, &fleet_rule(1e7), &[batch], 1).unwrap();
    let (scopes, left_out) = hall_moves(&mut fleet);
    assert_eq!(scopes, [Scope::Stratum { key: "hall".to_owned(), value: "2".to_owned() }]);
    for LeftOut { devices, groups } in left_out {
        assert!(devices.is_empty() && groups.len() == 6, "four halls and two models are watched: {groups:?}");
        assert!(groups.iter().all(|group| serials.contains(group)), "{groups:?}");
    }
}

#[test]
fn a_device_too_many_is_named_and_the_others_are_counted() {
    let scores = Scores::numeric(&[10, 2_000, 10]).unwrap();
    let names: Vec<_> = (0..=MAX_DEVICES).map(|n| format!("camera-{n:05}")).collect();
    let batch = |name| FleetBatch { device: name, groups: &[], counts: &[0, 10, 0] };
    let batches: Vec<_> = names.iter().map(|name| batch(name.as_str())).collect();
    let mut fleet = Fleet::new(&scores, "brightness");
    let full = fleet.check(&scores, &fleet_rule(1e6), &batches, 1).unwrap();
    let last = names[MAX_DEVICES].as_str();
    assert_eq!(full.left_out, LeftOut { devices: vec![last.to_owned()], groups: vec![] });
    let counted = |watch: &DeviceWatch| matches!(watch, DeviceWatch::Learning { counts } if counts[1] == 10);
    assert_eq!(fleet.devices().filter(|(_, watch)| counted(watch)).count(), MAX_DEVICES);
    fleet.forget("camera-00000");
    fleet.forget("camera-00001");
    let refilled = fleet.check(&scores, &fleet_rule(1e6), &batches[1..], 2).unwrap();
    assert_eq!(refilled.left_out, LeftOut::default());
    assert!(fleet.devices().any(|(name, _)| name == last));
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
