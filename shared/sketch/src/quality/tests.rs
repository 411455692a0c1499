mod bounds;
mod categories;

use proptest::prelude::*;

use super::*;
use crate::window::{MISSING, NumericWindow};

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

    fn below(&mut self, n: u16) -> u16 {
        (self.uniform() * f64::from(n)) as u16
    }

    fn binomial(&mut self, rows: u32, share: f64) -> f64 {
        f64::from((0..rows).map(|_| u32::from(self.uniform() < share)).sum::<u32>())
    }
}

/// What a sound feature may be like.
type Source = fn(&mut Random) -> f32;

const SOURCES: [(&str, Source); 7] = [
    ("continuous", |random| (random.uniform() + random.uniform() + random.uniform()) as f32),
    ("heavy tails", |random| (1.0 / (1e-6 + random.uniform())) as f32),
    ("integers", |random| f32::from(random.below(12))),
    ("zeros and ones", |random| f32::from(random.below(4) / 3)),
    ("mostly zero", |random| if random.below(100) == 0 { random.uniform() as f32 } else { 0.0 }),
    ("constant", |_| 5.5),
    ("gaps", |random| match random.below(100) {
        0..5 => MISSING,
        5..7 => f32::NAN,
        _ => random.uniform() as f32,
    }),
];

fn rows(random: &mut Random, source: Source, rows: usize) -> Vec<f32> {
    (0..rows).map(|_| source(random)).collect()
}

fn reference(sample: &[f32]) -> NumericReference {
    NumericReference::from_sample("a", sample).unwrap()
}

fn counted(reference: &NumericReference, values: &[f32]) -> FeatureCounts {
    let mut window = NumericWindow::new(reference);
    window.record_all(values).unwrap();
    FeatureCounts::Numeric(window.seal())
}

fn found(reference: &NumericReference, values: &[f32]) -> Vec<QualityFinding> {
    findings(&ReferenceValues::Numeric(reference.clone()), &counted(reference, values)).unwrap()
}

fn kinds(findings: &[QualityFinding]) -> Vec<QualityKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn nothing_is_found_in_what_is_like_the_reference() {
    let mut random = Random(1);
    for (name, source) in SOURCES {
        for run in 0..20 {
            let reference = reference(&rows(&mut random, source, if run % 2 == 0 { 1_300 } else { 5_000 }));
            let values = ReferenceValues::Numeric(reference.clone());
            let mut sum = FeatureCounts::empty(&values);
            assert_eq!(findings(&values, &sum), Ok(vec![]), "{name}");
            for look in 0..20 {
                let window = rows(&mut random, source, [1, 20, 100, 1_500][look % 4]);
                assert_eq!(found(&reference, &window), vec![], "{name}, run {run}, look {look}");
                sum.merge(&counted(&reference, &window)).unwrap();
                assert_eq!(findings(&values, &sum), Ok(vec![]), "{name}, run {run}, sum of {look}");
            }
        }
    }
}

#[test]
fn what_is_broken_is_found_and_nothing_else() {
    let mut random = Random(2);
    let [continuous, _, integers, switch, .., gaps] = SOURCES.map(|(_, source)| source);
    let broken: [(&str, Source, Source, usize, QualityKind); 8] = [
        (
            "2 % missing",
            continuous,
            |it| if it.below(50) == 0 { MISSING } else { continuous_value(it) },
            2_000,
            QualityKind::Missing,
        ),
        ("nothing is left", continuous, |_| MISSING, 3, QualityKind::Missing),
        (
            "5 % missing before, 15 % now",
            gaps,
            |it| if it.below(10) == 0 { MISSING } else { gaps_value(it) },
            2_000,
            QualityKind::Missing,
        ),
        (
            "2 % infinite",
            continuous,
            |it| if it.below(50) == 0 { f32::INFINITY } else { continuous_value(it) },
            2_000,
            QualityKind::NonFinite,
        ),
        (
            "2 % NaN before, 10 % now",
            gaps,
            |it| if it.below(12) == 0 { f32::NAN } else { gaps_value(it) },
            2_000,
            QualityKind::NonFinite,
        ),
        (
            "2 % in another unit",
            continuous,
            |it| if it.below(50) == 0 { 1_000.0 } else { continuous_value(it) },
            2_000,
            QualityKind::OutOfRange,
        ),
        (
            "2 % in an integer that never was",
            integers,
            |it| if it.below(50) == 0 { -1.0 } else { f32::from(it.below(12)) },
            2_000,
            QualityKind::OutOfRange,
        ),
        (
            "a third value of a switch",
            switch,
            |it| if it.below(50) == 0 { 2.0 } else { f32::from(it.below(4) / 3) },
            2_000,
            QualityKind::OutOfRange,
        ),
    ];
    for (name, before, now, window, kind) in broken {
        for run in 0..20 {
            let reference = reference(&rows(&mut random, before, 10_000));
            let values = rows(&mut random, now, window);
            let found = found(&reference, &values);
            assert_eq!(kinds(&found), [kind], "{name}, run {run}: {found:?}");
            assert!(found[0].share > found[0].expected && found[0].count <= found[0].rows, "{found:?}");
        }
    }
}

fn continuous_value(random: &mut Random) -> f32 {
    SOURCES[0].1(random)
}

fn gaps_value(random: &mut Random) -> f32 {
    SOURCES[6].1(random)
}

#[test]
fn a_sensor_is_stuck_when_chance_does_not_repeat_a_value_so_often() {
    let mut random = Random(3);
    for (name, source, longest) in [
        ("continuous", SOURCES[0].1, 100),
        ("integers", SOURCES[2].1, 100),
        ("zeros and ones", SOURCES[3].1, 150),
    ] {
        let sample = rows(&mut random, source, 10_000);
        let reference = reference(&sample);
        let mut values = rows(&mut random, source, 5_000);
        let repeated = sample.iter().copied().fold(f32::NAN, f32::min);
        values[1_000..1_000 + longest].fill(repeated);
        let found = found(&reference, &values);
        assert_eq!(kinds(&found), [QualityKind::Stuck], "{name}");
        assert!(found[0].count >= longest as u64 && found[0].rows == 5_000, "{name}: {found:?}");
    }
}

#[test]
fn what_hardly_ever_changes_is_not_stuck() {
    let mut random = Random(4);
    let constant = reference(&[5.5; 1_000]);
    assert_eq!(found(&constant, &[5.5; 1_000_000]), vec![]);
    let mostly_zero = reference(&rows(&mut random, SOURCES[4].1, 10_000));
    assert_eq!(found(&mostly_zero, &[0.0; 1_000]), vec![], "a run of a thousand is likely there");
    assert_eq!(kinds(&found(&mostly_zero, &[0.0; 100_000])), [QualityKind::Stuck]);
    // In its order, the reference shows how long values stay.
    let slow: Vec<f32> = (0..10_000_u16).map(|row| f32::from(row / 90 % 12)).collect();
    assert_eq!(found(&reference(&slow), &[5.0; 150]), vec![]);
    assert_eq!(kinds(&found(&reference(&slow), &[5.0; 200])), [QualityKind::Stuck]);
}

#[test]
fn what_is_certain_but_small_is_not_told() {
    let mut random = Random(5);
    let reference = reference(&rows(&mut random, SOURCES[0].1, 10_000));
    let mut values = vec![1.5; 1_000_000];
    values.iter_mut().enumerate().for_each(|(row, value)| *value += (row % 2) as f32 * 0.1);
    values[..900].fill(MISSING);
    assert_eq!(found(&reference, &values), vec![]);
    values[..3_000].fill(MISSING);
    assert_eq!(kinds(&found(&reference, &values)), [QualityKind::Missing]);
}

#[test]
fn a_merge_of_more_rows_than_any_fleet_sends_is_judged_by_its_shares() {
    let reference = reference(&rows(&mut Random(6), SOURCES[6].1, 10_000));
    let values = ReferenceValues::Numeric(reference.clone());
    let at_scale = |sample: &[f32]| {
        let mut sum = counted(&reference, sample);
        (0..45).for_each(|_| sum.merge(&sum.clone()).unwrap());
        assert!(sum.rows() > 1 << 58);
        findings(&values, &sum).unwrap()
    };
    assert_eq!(at_scale(&rows(&mut Random(7), SOURCES[6].1, 100_000)), vec![]);
    let broken: Vec<f32> =
        rows(&mut Random(8), |it| if it.below(20) == 0 { MISSING } else { gaps_value(it) }, 100_000);
    assert_eq!(kinds(&at_scale(&broken)), [QualityKind::Missing]);
}

#[test]
fn counts_of_something_else_are_refused() {
    let numbers = reference(&rows(&mut Random(11), SOURCES[0].1, 1_000));
    let constant = reference(&[5.5; 1_000]);
    let counts = counted(&constant, &[5.5; 20]);
    let refused = findings(&ReferenceValues::Numeric(numbers.clone()), &counts);
    assert_eq!(refused, Err(CountsError::OtherReference));
    let colours = categories::categories(&categories::names(&mut Random(12), 2, 1_000));
    assert_eq!(findings(&ReferenceValues::Category(colours), &counts), Err(CountsError::OtherReference));
    let stored = serde_json::to_string(&counts).unwrap();
    let damaged = stored.replace(r#""longest_run":20"#, r#""longest_run":21"#);
    let damaged: FeatureCounts = serde_json::from_str(&damaged).unwrap();
    let refused = findings(&ReferenceValues::Numeric(constant), &damaged);
    assert!(matches!(refused, Err(CountsError::Implausible { .. })), "{refused:?}");
}

proptest! {
    #[test]
    fn whatever_was_counted_has_findings_in_range(values in prop::collection::vec(prop_oneof![Just(MISSING), Just(f32::INFINITY), any::<f32>(), Just(0.5_f32)], 0..400), times in 0_u32..50) {
        let reference = reference(&rows(&mut Random(15), SOURCES[0].1, 1_000));
        let mut sum = counted(&reference, &values);
        (0..times).for_each(|_| sum.merge(&sum.clone()).unwrap());
        for finding in findings(&ReferenceValues::Numeric(reference.clone()), &sum).unwrap() {
            prop_assert!(finding.count <= finding.rows && finding.count > 0);
            prop_assert!((0.0..=1.0).contains(&finding.share) && (0.0..=1.0).contains(&finding.expected));
        }
    }
}
