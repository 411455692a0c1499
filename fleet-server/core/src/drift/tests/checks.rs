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
        let Cause::Drift { finding } = &found.cause else { panic!("{found:?}") };
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
fn a_state_that_was_stored_goes_on_to_the_bit() {
    let (mut one, mut other) = (Plant::learnt(6), Plant::learnt(6));
    for _ in 0..6 {
        other.state = serde_json::from_str(&serde_json::to_string(&other.state).unwrap()).unwrap();
        let twist: &Twist = &|device, value| if device == "a-5" { value + 0.4 } else { value };
        assert_eq!(one.check(&[], twist), other.check(&[], twist));
        assert_eq!(one.state, other.state);
    }
}
