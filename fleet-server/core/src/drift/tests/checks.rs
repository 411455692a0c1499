use muster_sketch::window::MISSING;

use super::*;

fn drifts(outcome: &Outcome) -> usize {
    outcome.found.iter().filter(|found| found.cause.word() == "drift").count()
}

#[test]
fn nothing_is_found_while_nothing_moves() {
    for seed in 1..4 {
        let mut plant = Plant::learnt(seed);
        for check in 0..30 {
            assert_eq!(plant.quiet(), vec![], "seed {seed}, check {check}");
        }
    }
}

#[test]
fn who_moved_is_named_with_all_that_speaks_for_it() {
    let cases: [(&Twist, Scope, usize); 3] = [
        (&|device, value| if device == "a-3" { value + 3.0 } else { value }, sensor("a-3"), 1),
        (&|_, value| value + 0.8, Scope::World, 12),
        (&|device, value| if device.starts_with('b') { value + 0.8 } else { value }, site("b"), 6),
    ];
    for (twist, scope, devices) in cases {
        let mut plant = Plant::learnt(7);
        let found = plant.until_drift(6, twist);
        assert_eq!(found.scope, scope);
        let evidence = found.evidence.as_ref().unwrap();
        assert_eq!((evidence.devices, evidence.counts.rows()), (devices, 300 * devices as u64));
        let Some(Distances::Numeric(distances)) = evidence.distances else { panic!("{evidence:?}") };
        assert!(distances.wasserstein.reportable && distances.wasserstein.value > 0.5, "{distances:?}");
        let Cause::Drift { finding, .. } = &found.cause else { panic!("{found:?}") };
        assert!(finding.alarm.evidence >= finding.alarm.threshold && finding.alarm.shift > 0.0);
    }
}

#[test]
fn what_is_found_is_silent_and_a_new_baseline_ends_it() {
    let mut plant = Plant::learnt(3);
    let broken: &Twist = &|device, value| if device == "b-1" { value - 2.0 } else { value };
    plant.until_drift(3, broken);
    for _ in 0..23 {
        let outcome = plant.check(&[], broken);
        assert_eq!((drifts(&outcome), outcome.status.suppressed), (0, 1), "a day is not over");
    }
    assert_eq!(plant.until_drift(3, broken).scope, sensor("b-1"), "and then it is told again");
    let relearn = Order::Relearn { feature: None, whom: Whom::Device("b-1".into()) };
    let outcome = plant.check(&[relearn], broken);
    assert_eq!((outcome.status.learning, outcome.status.watching), (1, 11));
    for _ in 0..40 {
        assert_eq!(drifts(&plant.check(&[], broken)), 0);
    }
}

#[test]
fn everybody_learns_anew_when_that_is_ordered_of_this_feature() {
    let mut plant = Plant::learnt(4);
    let moved: &Twist = &|_, value| value + 1.0;
    plant.until_drift(2, moved);
    let relearn = |feature: &str| Order::Relearn { feature: Some(feature.into()), whom: Whom::Everyone };
    assert_eq!(plant.check(&[relearn("other")], moved).status.learning, 0);
    assert_eq!(plant.check(&[relearn("level")], moved).status.learning, 12);
    for _ in 0..30 {
        assert_eq!(drifts(&plant.check(&[], moved)), 0);
    }
    assert_eq!(plant.until_drift(3, &|_, value| value).scope, Scope::World, "back is a drift now");
}

#[test]
fn devices_of_a_stratum_learn_anew_together() {
    let mut plant = Plant::learnt(4);
    let whom = Whom::Stratum { key: "site".into(), value: "a".into() };
    let outcome = plant.check(&[Order::Relearn { feature: None, whom }], &|_, value| value);
    assert_eq!((outcome.status.learning, outcome.status.watching), (6, 6));
}

#[test]
fn who_is_not_known_any_more_is_forgotten_and_who_takes_the_name_learns() {
    let mut plant = Plant::learnt(5);
    let left = plant.groups.remove("a-0").unwrap();
    let counted: Vec<_> = vec![("a-0".to_owned(), plant.count("a-0", 300, &|_, value| value))];
    let outcome = plant.check_counts(&[], &counted);
    assert_eq!(
        (outcome.status.watching, outcome.status.devices),
        (11, 0),
        "and what it still sends is nobody's"
    );
    plant.groups.insert("a-0".into(), left);
    assert_eq!(plant.check(&[], &|_, value| value).status.learning, 1);
    let forget = Order::Forget { device: "b-0".into() };
    assert_eq!(plant.check(&[forget], &|_, value| value).status.learning, 2);
}

#[test]
fn broken_data_are_told_once_for_all_that_have_the_cause_in_common() {
    let missing = |is: fn(&str) -> bool| {
        move |device: &str, value: f32| if is(device) && value > 1.0 { MISSING } else { value }
    };
    let cases: [(&Twist, Scope, usize); 3] = [
        (&missing(|device| device == "a-2"), sensor("a-2"), 1),
        (&missing(|_| true), Scope::World, 12),
        (&missing(|device| device.starts_with('b')), site("b"), 6),
    ];
    for (twist, scope, concerned) in cases {
        let mut plant = Plant::new(11);
        let found = plant.check(&[], twist).found;
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((&found.scope, found.cause.word()), (&scope, "missing"));
        let Cause::Quality { finding, devices } = found.cause else { panic!("{found:?}") };
        assert_eq!((devices, finding.rows), (concerned, 300 * concerned as u64));
        assert!(finding.share > 0.05 && finding.expected == 0.0);
        assert_eq!(found.evidence.as_ref().unwrap().devices, concerned);
    }
}

#[test]
fn a_device_that_is_odd_from_its_first_day_is_told_once_and_again_when_it_learns_anew() {
    let mut plant = Plant::new(12);
    let frozen: &Twist = &|device, value| if device == "a-1" { 0.3 } else { value };
    let odd = |outcome: Outcome| -> Vec<Scope> {
        let odd = outcome.found.into_iter().filter(|found| found.cause.word() == "odd_baseline");
        odd.map(|found| found.scope).collect()
    };
    let mut told: Vec<_> = (0..20).flat_map(|_| odd(plant.check(&[], frozen))).collect();
    assert_eq!(told, [sensor("a-1")]);
    let relearn = Order::Relearn { feature: None, whom: Whom::Device("a-1".into()) };
    told.extend(odd(plant.check(&[relearn], frozen)));
    told.extend((0..4).flat_map(|_| odd(plant.check(&[], frozen))));
    assert_eq!(told.len(), 2);
}

#[test]
fn more_odd_devices_than_are_told_at_once_are_told_at_the_checks_after() {
    let mut plant = Plant::new(60);
    let others: Vec<_> = (0..30).map(|n| (format!("c-{n}"), plant.groups["a-0"].clone())).collect();
    plant.groups.extend(others);
    let frozen: &Twist = &|device, value| if device.starts_with('c') { value } else { 0.3 };
    let told = |outcome: Outcome| outcome.found.iter().filter(|f| f.cause.word() == "odd_baseline").count();
    let mut told: Vec<_> = (0..30).map(|_| told(plant.check(&[], frozen))).collect();
    told.retain(|count| *count > 0);
    assert_eq!(told, [10, 2], "each of the twelve is told once");
}

#[test]
fn a_state_that_was_stored_goes_on_to_the_bit() {
    let (mut one, mut other) = (Plant::learnt(6), Plant::learnt(6));
    for _ in 0..6 {
        other.state = serde_json::from_str(&serde_json::to_string(&other.state).unwrap()).unwrap();
        let twist: &Twist = &|device, value| if device == "a-5" { value + 0.4 } else { value };
        assert_eq!(one.check(&[], twist), other.check(&[], twist));
        assert_eq!(one.state, other.state);
    }
}

/// Two versions, each on twelve devices.
fn two_versions(seed: u64) -> [Plant; 2] {
    [Plant::learnt(seed), Plant::learnt(seed + 100)]
}

fn check_both(plants: &mut [Plant; 2], twists: [&Twist; 2]) -> Vec<Found> {
    check_all(plants, &twists, Company::Complete)
}

fn check_all(plants: &mut [Plant], twists: &[&Twist], company: Company) -> Vec<Found> {
    let counted: Vec<Vec<_>> = plants
        .iter_mut()
        .zip(twists)
        .map(|(plant, &twist)| {
            plant.now = Timestamp(plant.now.as_millis() + 1_000 * CHECK_SECS);
            let devices: Vec<_> = plant.groups.keys().cloned().collect();
            devices.into_iter().map(|device| (plant.count(&device, 300, twist), device)).collect()
        })
        .collect();
    let brought: Vec<Vec<_>> = counted
        .iter()
        .map(|counted| {
            let one = |(counts, device)| Brought { device, from_ms: 0, to_ms: 1, counts };
            counted.iter().map(|(counts, device)| one((counts, device.as_str()))).collect()
        })
        .collect();
    let versions = plants.iter().zip(&brought).map(|(plant, brought)| Version {
        look: Look {
            feature: &plant.reference.features()[0],
            scores: &plant.scores[0],
            rule: &plant.rule,
            groups: &plant.groups,
            now: plant.now,
        },
        state: Some(plant.state.clone()),
        orders: &[],
        brought,
    });
    let checked = check_versions(versions.collect(), company);
    for (plant, checked) in plants.iter_mut().zip(&checked) {
        plant.state = checked.state.clone();
        assert_eq!(checked.lost, None);
    }
    checked.into_iter().flat_map(|checked| checked.outcome.unwrap().found).collect()
}

#[test]
fn what_one_version_does_is_not_taken_for_the_world() {
    let (plain, moved): (&Twist, &Twist) = (&|_, value| value, &|_, value| value + 0.8);
    let first = |twists| {
        let mut plants = two_versions(21);
        (0..3).map(|_| check_both(&mut plants, twists)).find(|found| !found.is_empty()).unwrap()
    };
    let found = first([plain, moved]);
    assert_eq!(found.iter().map(|found| &found.scope).collect::<Vec<_>>(), [&Scope::Model]);
    assert!(matches!(found[0].cause, Cause::Drift { others: 12, .. }));
    assert_eq!(found[0].evidence.as_ref().unwrap().devices, 12);
    let found = first([moved, moved]);
    assert_eq!(found.iter().map(|found| &found.scope).collect::<Vec<_>>(), [&Scope::World, &Scope::World]);
}

#[test]
fn a_drift_of_the_world_beside_a_version_that_cannot_be_read_is_not_one_that_nobody_explains() {
    let moved: &Twist = &|_, value| value + 0.8;
    for (company, told) in [(Company::Complete, false), (Company::Incomplete, true)] {
        let mut alone = [Plant::learnt(21)];
        let found = (0..3).map(|_| check_all(&mut alone, &[moved], company)).find(|found| !found.is_empty());
        let found = found.unwrap().remove(0);
        assert_eq!(found.scope, Scope::World);
        let Cause::Drift { others, uncounted, .. } = found.cause else { panic!("{found:?}") };
        assert_eq!((others, uncounted), (0, told), "{company:?}");
    }
    let mut both = two_versions(21);
    let plain: &Twist = &|_, value| value;
    let mut check = || check_all(&mut both, &[plain, moved], Company::Incomplete);
    let found = [check(), check(), check()].concat();
    assert_eq!(found[0].scope, Scope::Model, "those who are there and did not move still say so");
}

#[test]
fn what_was_known_under_other_scores_is_given_up_and_devices_learn_anew() {
    let mut plant = Plant::learnt(8);
    let counted = [("a-0".to_owned(), plant.count("a-0", 300, &|_, value| value))];
    let constant = NumericReference::from_sample("level", &[1.0; 2_000]).unwrap();
    let other = FeatureReference { name: "level".into(), values: ReferenceValues::Numeric(constant) };
    let look = Look {
        feature: &plant.reference.features()[0],
        scores: &plant.scores[0],
        rule: &plant.rule,
        groups: &plant.groups,
        now: plant.now,
    };
    let scores = Scores::numeric(other.values.bins()).unwrap();
    let of_other = FeatureState::new(&Look { feature: &other, scores: &scores, ..look });
    let mut of_other = of_other;
    let counts = FeatureCounts::empty(&other.values);
    let brought = [Brought { device: "a-0", from_ms: 0, to_ms: 1, counts: &counts }];
    of_other.check(&Look { feature: &other, scores: &scores, ..look }, &[], &brought).unwrap();
    let brought = counted.iter().map(|(device, counts)| Brought { device, from_ms: 0, to_ms: 1, counts });
    let brought: Vec<_> = brought.collect();
    let version = Version { look, state: Some(of_other), orders: &[], brought: &brought };
    let checked = check_versions(vec![version], Company::Complete).remove(0);
    assert!(checked.lost.is_some());
    assert_eq!(checked.outcome.unwrap().status.learning, 1);
}
