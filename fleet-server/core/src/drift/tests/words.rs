//! What people read of findings.

use muster_sketch::{
    detector::{Alarm, Direction, ScoreName, Sign, Vocabulary},
    reference::CategoryReference,
};

use super::*;

/// What a check finds of devices whose classes are counted like this, and in the reference half as often `cat` as `dog`.
fn of_classes(state: &mut Option<FeatureState>, hours: u64, counts: &dyn Fn(&str) -> [u64; 2]) -> Vec<Found> {
    let plant = Plant::new(1);
    let names = vec![("dog".to_owned(), 6_000), ("cat".to_owned(), 3_000)];
    let values = ReferenceValues::Category(CategoryReference::from_counts("class", names, 0).unwrap());
    let reference =
        Arc::new(Reference::new(vec![FeatureReference { name: "class".into(), values }]).unwrap());
    let feature = &reference.features()[0];
    let scores = Scores::categorical(feature.values.bins(), Vocabulary::Closed).unwrap();
    let now = Timestamp(START.as_millis() + hours * 3_600_000);
    let look = Look { feature, scores: &scores, rule: &plant.rule, groups: &plant.groups, now };
    let count = |device: &String| {
        let mut window = FeatureWindow::new(reference.clone());
        for (place, rows) in counts(device).into_iter().enumerate() {
            (0..rows).for_each(|_| window.record_places(&[], &[Some(place)]).unwrap());
        }
        (device.clone(), window.seal().unwrap().remove(0))
    };
    let counted: Vec<_> = plant.groups.keys().map(count).collect();
    let brought = counted.iter().map(|(device, counts)| Brought { device, from_ms: 0, to_ms: 1, counts });
    let brought: Vec<_> = brought.collect();
    let state = state.get_or_insert_with(|| FeatureState::new(&look));
    state.check(&look, &[], &brought).unwrap().found
}

fn by_device(score: ScoreName) -> Found {
    let alarm = Alarm {
        direction: Direction { score, sign: Sign::Up },
        evidence: 2.5e7,
        threshold: 2e6,
        at_secs: 1,
        since_secs: 0,
        checks: 1,
        samples: 300,
        shift: 90.0,
    };
    Found::by_device("a-1", "level", alarm)
}

fn level(reference: [f64; 2], counted: [f64; 2]) -> String {
    let of = |[mean, deviation]: [f64; 2]| MeanAndDeviation { mean, deviation };
    Level { counted: of(counted), reference: of(reference), is_cut: false }.to_string()
}

#[test]
fn a_drift_tells_how_large_the_values_are_and_are_in_the_reference() {
    let mut plant = Plant::learnt(7);
    let text = plant.until_drift(6, &|_, value| value / 2.0 + 8.0).to_string();
    let figures = "level of all devices: more at the upper end: mean 8.0 ± 0.5, 0.0 ± 1.0 in the reference (its score 6.";
    assert!(text.starts_with(figures), "{text}");
    let mut plant = Plant::learnt(7);
    let text = plant.until_drift(6, &|_, value| value + 1_000.0).to_string();
    assert!(text.contains(": mean 16.0 ± 0.0, far values cut, 0.0 ± 1.0 in the reference"), "{text}");
}

#[test]
fn figures_have_the_places_that_the_reference_makes_sense_of() {
    let cases = [
        ([0.4812, 0.0493], [0.2104, 0.06], "mean 0.210 ± 0.060, 0.481 ± 0.049 in the reference"),
        ([1_013.2, 31.0], [-0.01, 0.0], "mean 0 ± 0, 1013 ± 31 in the reference"),
        ([0.0, 0.0], [0.25, 0.0], "mean 0.25 ± 0.00, 0.00 ± 0.00 in the reference"),
        ([3e-9, 1e-9], [5e12, 0.0], "mean 5.000e12 ± 0.000e0, 3.000e-9 ± 1.000e-9 in the reference"),
    ];
    for (reference, counted, text) in cases {
        assert_eq!(level(reference, counted), text);
    }
}

#[test]
fn without_counts_only_the_score_is_known_and_named_as_such() {
    assert_eq!(
        by_device(ScoreName::OutsideRange).to_string(),
        "level of a-1: more outside of the range by 90.00 standard deviations of its score \
         (evidence 2.5e7, alarm at 2.0e6), as the device says"
    );
    let text = by_device(ScoreName::Region(2)).to_string();
    assert!(text.contains("more in eighth 3 of the reference by"), "{text}");
    assert!(by_device(ScoreName::Category(3)).to_string().contains("more of category 4 by"));
}

#[test]
fn what_a_device_says_is_not_told_with_figures_that_the_server_counted_before() {
    let mut plant = Plant::learnt(7);
    let broken: &Twist = &|device, value| if device == "a-1" { value + 3.0 } else { value };
    let found = plant.until_drift(6, broken);
    assert!(found.to_string().contains(": mean "));
    let mut alarm = FleetAlarm::open(1, "digits@1".parse().unwrap(), found, START);
    alarm.repeat(by_device(ScoreName::Location), START);
    assert!(alarm.found.evidence.is_some());
    assert!(alarm.found.to_string().contains("larger by 90.00 standard deviations of its score"));
}

#[test]
fn categories_are_told_by_the_names_that_the_reference_gives_them() {
    let mut state = None;
    let usual = |_: &str| [200, 100];
    (0..5).for_each(|hours| assert_eq!(of_classes(&mut state, hours, &usual), []));
    let found = (5..9).flat_map(|hours| of_classes(&mut state, hours, &|_| [120, 180])).next().unwrap();
    assert!(found.category.is_some());
    let text = found.to_string();
    assert!(text.contains("more of 'cat' by") || text.contains("less of 'dog' by"), "{text}");

    let mut state = None;
    let stuck = |device: &str| if device == "a-1" { [300, 0] } else { [200, 100] };
    let found: Vec<_> = (0..5).flat_map(|hours| of_classes(&mut state, hours, &stuck)).collect();
    let text = found[0].to_string();
    assert!(text.starts_with("class of a-1: its share of 'cat' is odd from the first day"), "{text}");
}

#[test]
fn alarms_that_were_stored_without_names_and_figures_are_read_as_before() {
    let mut plant = Plant::learnt(7);
    let found = plant.until_drift(6, &|_, value| value + 0.8);
    let mut stored = serde_json::to_value(&found).unwrap();
    assert!(stored.get("category").is_none());
    assert!(stored["evidence"].as_object_mut().unwrap().remove("level").is_some());
    let read: Found = serde_json::from_value(stored).unwrap();
    assert_eq!(read.evidence.as_ref().unwrap().level, None);
    assert!(read.to_string().contains("standard deviations of its score"));
}
