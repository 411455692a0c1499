use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    categories::CategoryWindow,
    reference::{CategoryReference, FeatureReference, NumericReference, Reference, ReferenceValues},
};

pub(super) fn numeric(step: f32) -> NumericReference {
    let sample: Vec<f32> = (0..2_000_u16).map(|row| (f32::from(row % 400) - 150.0) * step).collect();
    NumericReference::from_sample("a", &sample).unwrap()
}

/// Two numeric features and one with categories between them.
pub(super) fn reference() -> Arc<Reference> {
    let counts = vec![("cat".to_owned(), 900), ("dog".to_owned(), 300)];
    let animal = CategoryReference::from_counts("animal", counts, 0).unwrap();
    let features = [
        ("speed", ReferenceValues::Numeric(numeric(0.1))),
        ("animal", ReferenceValues::Category(animal)),
        ("load", ReferenceValues::Numeric(numeric(7.0))),
    ];
    let features = features.map(|(name, values)| FeatureReference { name: name.to_owned(), values });
    Arc::new(Reference::new(features.to_vec()).unwrap())
}

/// Values of every kind: usual, on edges, far out, odd ones, and repeats.
pub(super) fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -20.0_f32..30.0,
        2 => (-200_i16..300).prop_map(|value| f32::from(value) * 0.1),
        2 => Just(1.5),
        1 => any::<f32>(),
        1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, MISSING, 0.0, -0.0, f32::MAX, f32::MIN, 1e-40]),
    ]
}

pub(super) type Row = ([f32; 2], Option<&'static str>);

pub(super) fn any_row() -> impl Strategy<Value = Row> {
    let animal = prop::sample::select(vec![Some("cat"), Some("dog"), Some("unicorn"), None]);
    ([any_value(), any_value()], animal)
}

pub(super) fn window(reference: &Arc<Reference>, origin: (u8, u8), sequence: u64, rows: &[Row]) -> Window {
    let mut recorder = FeatureWindow::new(Arc::clone(reference));
    rows.iter().for_each(|(numbers, animal)| recorder.record(numbers, &[*animal]).unwrap());
    Window {
        reference: reference.id(),
        origin: Origin { device: format!("device-{}", origin.0), boot: format!("boot-{}", origin.1) },
        sequence,
        from_ms: 1_000 * sequence,
        to_ms: 1_000 * sequence + 999,
        stride: 1,
        features: recorder.seal().unwrap(),
    }
}

/// The same by searching, one value after the other.
fn counted_plainly(
    reference: &NumericReference,
    values: &[f32],
) -> (Vec<u64>, u64, u64, u64, Option<(f32, f32)>) {
    let mut bins = vec![0; reference.edges().bins()];
    let (mut non_finite, mut missing, mut run, mut longest) = (0, 0, 0, 0);
    let mut last = f32::NAN;
    for &value in values {
        match value.is_finite() {
            true => bins[reference.edges().bin_of(value)] += 1,
            false if is_missing(value) => missing += 1,
            false => non_finite += 1,
        }
        run = if value.is_finite() && value == last { run + 1 } else { u64::from(value.is_finite()) };
        longest = longest.max(run);
        last = value;
    }
    let finite: Vec<f32> =
        values.iter().copied().filter(|value| value.is_finite()).map(|value| value + 0.0).collect();
    let lowest = finite.iter().copied().reduce(f32::min);
    let range = lowest.zip(finite.iter().copied().reduce(f32::max));
    (bins, non_finite, missing, longest, range)
}

/// Sums of powers as they are defined: halves of a block onto each other, then rounded to a unit.
fn summed_plainly(reference: &NumericReference, values: &[f32]) -> [i128; 4] {
    let mut sums = [0; 4];
    for part in values.chunks(128) {
        let mut block = [[0.0_f32; 128]; 4];
        for (place, &value) in part.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let deviation = (value - reference.centre()) * reference.scale().recip();
            let deviation = deviation.clamp(-CLIP, CLIP);
            let square = deviation * deviation;
            let powers = [deviation, square, square * deviation, square * square];
            (0..4).for_each(|power| block[power][place] = powers[power]);
        }
        for (sum, powers) in sums.iter_mut().zip(&mut block) {
            for half in [64, 32, 16, 8, 4, 2, 1] {
                (0..half).for_each(|place| powers[place] += powers[place + half]);
            }
            *sum += (f64::from(powers[0]) * UNITS_PER_ONE as f64).round_ties_even() as i128;
        }
    }
    sums
}

fn recorded(reference: &NumericReference, values: &[f32]) -> NumericCounts {
    let mut window = NumericWindow::new(reference);
    window.record_all(values).unwrap();
    window.seal()
}

proptest! {
    #[test]
    fn counting_by_edges_is_counting_by_search(values in prop::collection::vec(any_value(), 0..700)) {
        let reference = numeric(0.1);
        let counts = recorded(&reference, &values);
        let (bins, non_finite, missing, longest_run, range) = counted_plainly(&reference, &values);
        prop_assert_eq!(counts.bins(), bins);
        prop_assert_eq!((counts.non_finite(), counts.missing(), counts.longest_run()), (non_finite, missing, longest_run));
        prop_assert_eq!(counts.range().map(|(low, high)| (low.to_bits(), high.to_bits())), range.map(|(low, high)| (low.to_bits(), high.to_bits())));
        prop_assert_eq!(counts.rows(), values.len() as u64);
        prop_assert_eq!(counts.check(reference.edges()), Ok(values.len() as u64));
    }

    #[test]
    fn sums_have_the_bits_of_their_definition(values in prop::collection::vec(any_value(), 0..700)) {
        let reference = numeric(0.1);
        prop_assert_eq!(recorded(&reference, &values).moments().sums(), summed_plainly(&reference, &values));
    }

    #[test]
    fn how_values_are_cut_into_calls_changes_no_bit(values in prop::collection::vec(any_value(), 0..700), cuts in prop::collection::vec(0_usize..700, 0..8)) {
        let reference = numeric(0.1);
        let whole = recorded(&reference, &values);
        let mut one_by_one = NumericWindow::new(&reference);
        values.iter().for_each(|&value| one_by_one.record(value).unwrap());
        prop_assert_eq!(&one_by_one.seal(), &whole);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(values.len())).chain([0, values.len()]).collect();
        cuts.sort_unstable();
        let mut in_parts = NumericWindow::new(&reference);
        cuts.windows(2).for_each(|pair| in_parts.record_all(&values[pair[0]..pair[1]]).unwrap());
        prop_assert_eq!(&in_parts.seal(), &whole);
        prop_assert_eq!(in_parts.seal(), NumericCounts::empty(reference.edges().bins()), "sealing starts over");
    }

    #[test]
    fn features_side_by_side_are_features_alone(rows in prop::collection::vec(prop::collection::vec(any_value(), 11), 0..300)) {
        let references: Vec<NumericReference> = (1..=11_u8).map(|step| numeric(f32::from(step))).collect();
        let mut window = RowWindow::new(&references);
        rows.iter().for_each(|row| window.record(row).unwrap());
        for (feature, counts) in window.seal().iter().enumerate() {
            let column: Vec<f32> = rows.iter().map(|row| row[feature]).collect();
            prop_assert_eq!(counts, &recorded(&references[feature], &column));
        }
    }

    #[test]
    fn moments_are_those_of_the_values(values in prop::collection::vec(-60.0_f32..60.0, 20..700)) {
        let reference = numeric(0.1);
        let counts = recorded(&reference, &values);
        let count = values.len() as f64;
        let z: Vec<f64> = values.iter().map(|&value| f64::from((value - reference.centre()) / reference.scale())).collect();
        let mean = z.iter().sum::<f64>() / count;
        let central = |power| z.iter().map(|z| (z - mean).powi(power)).sum::<f64>() / count;
        let (moments, finite) = (counts.moments(), counts.finite());
        let close = |found: Option<f64>, truth: f64| (found.unwrap() - truth).abs() < 0.01;
        prop_assert!(close(moments.mean(finite), mean));
        prop_assert!(close(moments.standard_deviation(finite), central(2).sqrt()));
        prop_assert!(close(moments.skewness(finite), central(3) / central(2).powf(1.5)));
        prop_assert!(close(moments.kurtosis(finite), central(4) / central(2).powi(2)));
    }

    #[test]
    fn a_total_is_exact_and_stops_at_the_end(bins in prop::collection::vec((any::<u64>(), 0_u32..64), 0..40)) {
        let bins: Vec<u64> = bins.iter().map(|(count, shift)| count >> shift).collect();
        let exact = bins.iter().map(|&count| u128::from(count)).sum::<u128>();
        prop_assert_eq!(total(&bins), u64::try_from(exact).unwrap_or(u64::MAX));
    }

    #[test]
    fn windows_add_up_to_the_same_bits_in_any_order(
        parts in prop::collection::vec((0_u8..3, 0_u8..2, prop::collection::vec(any_row(), 20..60)), 1..8),
        order in any::<prop::sample::Index>(),
        split in any::<prop::sample::Index>(),
    ) {
        let reference = reference();
        let windows: Vec<Window> = (1..).zip(&parts).map(|(sequence, (device, boot, rows))| window(&reference, (*device, *boot), sequence, rows)).collect();
        let sum = |windows: &[Window]| {
            let mut sum = MergedWindows::new(Arc::clone(&reference), 100);
            windows.iter().for_each(|window| { sum.add(window).unwrap(); });
            sum
        };
        let whole = sum(&windows);
        let mut turned = windows.clone();
        turned.rotate_left(order.index(windows.len()));
        turned.reverse();
        prop_assert_eq!(&sum(&turned), &whole);
        // Twice each, and once more at the end.
        let repeated: Vec<Window> = turned.iter().flat_map(|window| [window.clone(), window.clone()]).chain(windows.clone()).collect();
        prop_assert_eq!(&sum(&repeated), &whole);
        // In two parts, either way round, and again.
        let (left, right) = windows.split_at(split.index(windows.len()));
        let (mut left_first, mut right_first) = (sum(left), sum(right));
        left_first.merge(&sum(right)).unwrap();
        right_first.merge(&sum(left)).unwrap();
        prop_assert_eq!(&left_first, &whole);
        prop_assert_eq!(&right_first, &whole);
        left_first.merge(&right_first).unwrap();
        left_first.merge(&sum(left)).unwrap();
        prop_assert_eq!(&left_first, &whole);
        // In three parts, grouped either way.
        let (middle, last) = right.split_at(right.len() / 2);
        let mut nested = sum(middle);
        nested.merge(&sum(last)).unwrap();
        let mut grouped = sum(left);
        grouped.merge(&nested).unwrap();
        prop_assert_eq!(&grouped, &whole);
    }
}

fn rows(count: usize) -> Vec<Row> {
    (0..count).map(|row| ([row as f32 * 0.1, 3.0], Some("cat"))).collect()
}

#[test]
fn a_stuck_sensor_shows_in_its_longest_run() {
    let reference = numeric(0.1);
    let mut values: Vec<f32> = (0..300_u16).map(f32::from).collect();
    values[100..260].fill(7.0);
    assert_eq!(recorded(&reference, &values).longest_run(), 160, "over the end of a block");
    values[150] = f32::NAN;
    assert_eq!(recorded(&reference, &values).longest_run(), 109, "NaN ends a run");
    assert_eq!(recorded(&reference, &[f32::NAN; 300]).longest_run(), 0);
    assert_eq!(recorded(&reference, &[0.0, -0.0, 0.0]).longest_run(), 3);
}

#[test]
fn one_broken_value_does_not_drown_a_mean() {
    let reference = numeric(0.1);
    let counts = recorded(&reference, &[&[reference.centre(); 99][..], &[f32::MAX]].concat());
    assert!((counts.moments().mean(100).unwrap() - 0.16).abs() < 1e-3, "it counts as 16 standard deviations");
    assert_eq!(counts.outside(), 1);
}

#[test]
fn nothing_recorded_is_nothing_known() {
    let reference = numeric(0.1);
    let counts = NumericWindow::new(&reference).seal();
    assert_eq!(counts, NumericCounts::empty(reference.edges().bins()));
    assert_eq!((counts.range(), counts.moments().mean(0), counts.moments().kurtosis(0)), (None, None, None));
}

#[test]
fn missing_is_a_nan_of_its_own() {
    assert!(MISSING.is_nan() && is_missing(MISSING) && !is_missing(f32::NAN));
    assert!(!is_missing(0.0));
}

#[test]
fn a_row_of_another_length_is_refused_and_counts_nowhere() {
    let mut recorder = FeatureWindow::new(reference());
    let short = recorder.record(&[1.0], &[None]).unwrap_err();
    assert_eq!(short, RecordError::WrongLength { given: 1, features: 2 });
    let without_category = recorder.record(&[1.0, 2.0], &[]).unwrap_err();
    assert_eq!(without_category, RecordError::WrongLength { given: 0, features: 1 });
    assert_eq!(recorder.rows(), 0);
}

#[test]
fn a_window_of_a_few_rows_stays_open() {
    let mut recorder = FeatureWindow::new(reference());
    for row in 1..=MIN_WINDOW_ROWS {
        assert_eq!(recorder.seal(), None, "{row} rows tell single values");
        recorder.record(&[1.0, MISSING], &[Some("unicorn")]).unwrap();
    }
    let features = recorder.seal().unwrap();
    assert_eq!(features.iter().map(FeatureCounts::rows).collect::<Vec<_>>(), [20, 20, 20]);
    assert_eq!(features[1].bins(), [0, 0, 20], "what the reference has no name for is counted");
    assert_eq!(recorder.seal(), None, "and it starts over");
}

#[test]
fn counts_of_another_reference_are_refused() {
    let (ours, theirs) =
        (reference(), Arc::new(Reference::new(reference().features()[..1].to_vec()).unwrap()));
    let mut sum = MergedWindows::new(Arc::clone(&theirs), 10);
    let error = sum.add(&window(&ours, (1, 1), 1, &rows(30))).unwrap_err();
    assert_eq!(error, MergeError::OtherReference { ours: theirs.id(), theirs: ours.id() });
    assert!(sum.merge(&MergedWindows::new(Arc::clone(&ours), 10)).is_err());
    let mut forged = window(&ours, (1, 1), 1, &rows(30));
    forged.reference = theirs.id();
    assert!(matches!(sum.add(&forged), Err(MergeError::OtherFeatures { sequence: 1, .. })));
    assert_eq!(sum, MergedWindows::new(theirs, 10));
}

#[test]
fn sums_that_share_some_windows_are_not_added() {
    let reference = reference();
    let of = |sequences: &[u64]| {
        let mut sum = MergedWindows::new(Arc::clone(&reference), 10);
        for &sequence in sequences {
            sum.add(&window(&reference, (1, 1), sequence, &rows(30))).unwrap();
        }
        sum
    };
    let mut sum = of(&[1, 2, 3]);
    let error = sum.merge(&of(&[3, 4])).unwrap_err();
    assert_eq!(error, MergeError::Overlap { device: "device-1".to_owned(), sequence: 3 });
    assert_eq!(sum, of(&[1, 2, 3]));
    sum.merge(&of(&[1, 2, 3, 4])).unwrap();
    assert_eq!(sum, of(&[4, 3, 2, 1]), "a sum that has everything and more takes its place");
}

#[test]
fn what_a_sum_remembers_has_a_bound() {
    let reference = reference();
    let of = |device, boot| window(&reference, (device, boot), 1, &rows(30));
    let mut sum = MergedWindows::new(Arc::clone(&reference), 2);
    sum.add(&of(1, 1)).unwrap();
    sum.add(&of(2, 1)).unwrap();
    assert!(matches!(sum.add(&of(3, 1)), Err(MergeError::TooManyOrigins { max_origins: 2, .. })));
    assert_eq!(sum.add(&of(1, 1)), Ok(Added::SeenBefore), "known ones go on");
    let mut other = MergedWindows::new(Arc::clone(&reference), 2);
    other.add(&of(3, 1)).unwrap();
    assert!(matches!(sum.merge(&other), Err(MergeError::TooManyOrigins { .. })));
    assert_eq!((sum.windows(), sum.origins()), (2, 2));
}

#[test]
fn a_device_that_invents_boots_takes_no_room_from_the_others() {
    let reference = reference();
    let mut sum = MergedWindows::new(Arc::clone(&reference), 1_000);
    for boot in 0..64 {
        sum.add(&window(&reference, (1, boot), 1, &rows(20))).unwrap();
    }
    let one_more = window(&reference, (1, 64), 1, &rows(20));
    assert!(matches!(sum.add(&one_more), Err(MergeError::TooManyBoots { .. })));
    let mut other = MergedWindows::new(Arc::clone(&reference), 1_000);
    other.add(&one_more).unwrap();
    assert!(matches!(sum.merge(&other), Err(MergeError::TooManyBoots { .. })));
    assert_eq!(sum.add(&window(&reference, (2, 64), 1, &rows(20))), Ok(Added::Counted));
}

#[test]
fn a_class_beyond_the_last_is_unseen() {
    let reference = CategoryReference::from_counts("a", vec![("x".to_owned(), 1_000)], 0).unwrap();
    let mut window = CategoryWindow::new(&reference);
    window.record_class(5).unwrap();
    assert_eq!(window.seal().unseen(), 1);
}

#[test]
fn counts_of_one_feature_are_added_and_others_refused() {
    let reference = reference();
    let [speed, animal, load] = [0, 1, 2].map(|place| &reference.features()[place].values);
    let rows: Vec<Row> = (0..40_u8).map(|row| ([f32::from(row), 1.0], Some("cat"))).collect();
    let features = window(&reference, (0, 0), 1, &rows).features;
    let (mut sum, before) = (features[0].clone(), features[0].clone());
    assert_eq!(sum.merge(&features[1]), Err(CountsError::OtherReference));
    let constant = NumericReference::from_sample("b", &[1.0; 1_000]).unwrap();
    let other = FeatureCounts::empty(&ReferenceValues::Numeric(constant));
    assert_eq!(sum.merge(&other), Err(CountsError::OtherReference));
    assert_eq!(sum, before, "what is refused changes nothing");
    sum.merge(&before).unwrap();
    assert_eq!((sum.rows(), sum.check(speed)), (80, Ok(())));
    assert_eq!(sum.check(animal), Err(CountsError::OtherReference));
    assert!(matches!(sum.check(load), Err(CountsError::Implausible { .. })), "other values are in its bins");
}

#[test]
fn sums_may_have_more_rows_than_a_window_and_nothing_else_that_none_has() {
    let reference = reference();
    let [speed, animal] = [0, 1].map(|place| &reference.features()[place].values);
    let rows: Vec<Row> = (0..40_u8).map(|row| ([f32::from(row), 1.0], Some("dog"))).collect();
    let features = window(&reference, (0, 0), 1, &rows).features;
    let mut sums = [features[0].clone(), features[1].clone()];
    for sum in &mut sums {
        (0..30).for_each(|_| sum.merge(&sum.clone()).unwrap());
        assert!(sum.rows() > MAX_WINDOW_ROWS);
    }
    let [numbers, animals] = &sums;
    assert_eq!((numbers.check(speed), animals.check(animal)), (Ok(()), Ok(())));
    assert!(numbers.check_window(speed).is_err() && animals.check_window(animal).is_err());
    let stored = serde_json::to_string(numbers).unwrap();
    for (from, to) in [
        (r#""longest_run":1"#, r#""longest_run":0"#),
        (r#""bins":[0"#, r#""bins":[7"#),
        (r#""moments":["#, r#""moments":[9"#),
        (r#""range":""#, r#""range":"AAAAAAAA"#),
        (r#""bins":[0,"#, r#""bins":["#),
    ] {
        assert!(stored.contains(from), "{from} is not in {stored}");
        let damaged = serde_json::from_str::<FeatureCounts>(&stored.replacen(from, to, 1));
        assert!(damaged.map_or(true, |damaged| damaged.check(speed).is_err()), "{to} was taken");
    }
}
