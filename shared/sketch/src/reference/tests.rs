use proptest::prelude::*;

use super::*;
use crate::window::MISSING;

fn numeric(sample: &[f32]) -> NumericReference {
    NumericReference::from_sample("speed", sample).unwrap()
}

fn ramp(rows: u16) -> Vec<f32> {
    (0..rows).map(f32::from).collect()
}

fn feature(name: &str, sample: &[f32]) -> FeatureReference {
    FeatureReference { name: name.to_owned(), values: ReferenceValues::Numeric(numeric(sample)) }
}

fn colours(feature: &str) -> FeatureReference {
    let sample = (0..1_200).map(|row| [Some("red"), Some("green"), None][row % 3]).chain([Some("blue"); 300]);
    let values = CategoryReference::from_sample(feature, sample).unwrap();
    FeatureReference { name: feature.to_owned(), values: ReferenceValues::Category(values) }
}

fn mixed() -> Reference {
    let lumpy: Vec<f32> = (0..1_000_u16).map(|row| f32::from(row % 7) * 0.1).collect();
    Reference::new(vec![feature("a", &ramp(2_000)), colours("colour"), feature("b", &lumpy)]).unwrap()
}

#[test]
fn the_middle_has_equal_parts_and_the_tails_small_ones() {
    let reference = numeric(&ramp(10_000));
    let expected: Vec<u64> = [0, 10, 40, 150].into_iter().chain([400; 24]).chain([150, 40, 10, 0]).collect();
    assert_eq!(reference.counts().bins(), expected);
}

#[test]
fn a_value_on_an_edge_belongs_to_the_bin_above_it() {
    let reference = numeric(&ramp(10_000));
    let edges = reference.edges();
    for (place, &edge) in edges.as_slice().iter().enumerate() {
        assert_eq!((edges.bin_of(edge), edges.bin_of(edge.next_down())), (place + 1, place));
    }
}

#[test]
fn a_constant_feature_has_its_value_and_both_sides() {
    let reference = numeric(&[5.5; 1_000]);
    assert_eq!(reference.edges().as_slice(), [5.5, 5.5_f32.next_up()]);
    assert_eq!(reference.counts().bins(), [0, 1_000, 0]);
    assert_eq!((reference.centre(), reference.scale()), (5.5, 1.0));
}

#[test]
fn zeros_and_ones_have_a_bin_each() {
    let sample: Vec<f32> = (0..1_000_u16).map(|row| f32::from(row % 4 / 3)).collect();
    let reference = numeric(&sample);
    assert_eq!(reference.edges().as_slice(), [0.0, 1.0, 1.0_f32.next_up()]);
    assert_eq!(reference.counts().bins(), [0, 750, 250, 0]);
}

#[test]
fn integers_share_bins_only_where_there_are_more_than_bins() {
    let few: Vec<f32> = (0..3_000_u16).map(|row| f32::from(row % 12)).collect();
    let inner = numeric(&few).counts().bins().to_vec();
    assert_eq!(inner, [vec![0], vec![250; 12], vec![0]].concat());
}

#[test]
fn a_zero_with_a_sign_is_a_zero() {
    let with_sign: Vec<f32> = (0..1_000_u16).map(|row| if row % 2 == 0 { -0.0 } else { 0.0 }).collect();
    let without = numeric(&[0.0; 1_000]);
    assert_eq!(numeric(&with_sign), without);
    assert_eq!(without.edges().as_slice()[1].to_bits(), 1, "the next number is the smallest subnormal");
}

#[test]
fn subnormal_features_keep_their_order() {
    let sample: Vec<f32> = (1..=2_000_u32).map(f32::from_bits).collect();
    let reference = numeric(&sample);
    assert_eq!(reference.edges().bins(), 32);
    assert_eq!(reference.scale(), 1.0, "one over such a deviation is not a number");
    assert_eq!(reference.edges().bin_of(0.0), 0);
}

#[test]
fn the_largest_numbers_have_bins_too() {
    let sample: Vec<f32> = (0..1_000_u16).map(|row| if row % 2 == 0 { f32::MIN } else { f32::MAX }).collect();
    let reference = numeric(&sample);
    assert_eq!(reference.edges().as_slice(), [f32::MIN, f32::MAX, f32::INFINITY]);
    assert_eq!(reference.counts().bins(), [0, 500, 500, 0]);
    let text = serde_json::to_string(&reference).unwrap();
    assert_eq!(serde_json::from_str::<NumericReference>(&text).unwrap(), reference);
}

#[test]
fn what_is_not_finite_shapes_no_edge_and_is_counted() {
    let mut sample = ramp(1_000);
    sample.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, MISSING]);
    let reference = numeric(&sample);
    assert_eq!(reference.edges(), numeric(&ramp(1_000)).edges());
    assert_eq!((reference.counts().non_finite(), reference.counts().missing()), (3, 1));
}

#[test]
fn too_small_a_sample_is_refused_with_what_to_do() {
    let mut short = ramp(999);
    short.push(f32::NAN);
    for (sample, usable, unusable) in [(vec![], 0, 0), (vec![1.0], 1, 0), (short, 999, 1)] {
        let error = NumericReference::from_sample("speed", &sample).unwrap_err();
        assert_eq!(error, ReferenceError::TooFewRows { feature: "speed".to_owned(), usable, unusable });
        assert!(error.to_string().contains("'speed'") && error.to_string().contains("bring a larger sample"));
    }
    let error = CategoryReference::from_sample("colour", [Some("red"), None]).unwrap_err();
    assert_eq!(error, ReferenceError::TooFewRows { feature: "colour".to_owned(), usable: 1, unusable: 1 });
}

#[test]
fn categories_are_counted_and_the_last_bin_is_for_others() {
    let ReferenceValues::Category(colour) = colours("colour").values else { panic!("it has categories") };
    assert_eq!(colour.names(), ["blue", "green", "red"]);
    assert_eq!((colour.counts().bins(), colour.counts().missing()), (&[300, 400, 400, 0][..], 400));
    assert_eq!((colour.bin_of("red"), colour.bin_of("ultraviolet")), (2, 3));
}

#[test]
fn classes_keep_the_order_of_the_model() {
    let counts = ["10", "9", "8"].map(|class| (class.to_owned(), 400)).to_vec();
    let classes = CategoryReference::from_counts("top class", counts, 0).unwrap();
    assert_eq!(classes.names(), ["10", "9", "8"]);
}

#[test]
fn unusable_categories_are_refused() {
    let of = |counts: &[(&str, u64)]| {
        let counts = counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        CategoryReference::from_counts("colour", counts, 0).unwrap_err()
    };
    assert!(matches!(of(&[("a", 600), ("a", 600)]), ReferenceError::NameUsedTwice { .. }));
    assert!(matches!(of(&[("a", 600), ("", 600)]), ReferenceError::BadName { .. }));
    assert!(matches!(of(&[("a", u64::MAX), ("b", u64::MAX)]), ReferenceError::TooManyRows { .. }));
    let many: Vec<(String, u64)> = (0..=MAX_CATEGORIES).map(|place| (place.to_string(), 1)).collect();
    let error = CategoryReference::from_counts("id", many, 0).unwrap_err();
    assert!(matches!(error, ReferenceError::TooManyCategories { categories: 4_097, .. }));
}

#[test]
fn a_reference_needs_features_with_names_of_their_own() {
    assert!(matches!(Reference::new(vec![]), Err(ReferenceError::FeatureCount { features: 0 })));
    let many = vec![feature("a", &[1.0; 1_000]); MAX_FEATURES + 1];
    assert!(matches!(Reference::new(many), Err(ReferenceError::FeatureCount { features: 257 })));
    let twins = vec![feature("a", &ramp(1_000)), colours("a")];
    assert!(matches!(Reference::new(twins), Err(ReferenceError::NameUsedTwice { .. })));
    let unprintable = vec![feature("a\nb", &ramp(1_000))];
    assert!(matches!(Reference::new(unprintable), Err(ReferenceError::BadName { .. })));
}

#[test]
fn the_id_is_the_same_in_every_release() {
    // Windows in the field carry it: if this changes, the text that begins the hash must change on purpose.
    assert_eq!(mixed().id().to_string(), "bac432db9bb7857f12005f02744f826c");
}

#[test]
fn the_id_changes_with_any_part() {
    let mut ids = vec![mixed().id()];
    let mut with = |change: &dyn Fn(&mut Vec<FeatureReference>)| {
        let mut features = mixed().features().to_vec();
        change(&mut features);
        ids.push(Reference::new(features).unwrap().id());
    };
    with(&|features| features[0].name = "c".to_owned());
    with(&|features| features.swap(0, 2));
    with(&|features| drop(features.pop()));
    with(&|features| features[0] = feature("a", &ramp(2_001)));
    with(&|features| features[0].values = colours("a").values);
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn a_damaged_reference_is_refused() {
    let text = serde_json::to_string(&mixed()).unwrap();
    let damages = [
        (r#""scale":"#, r#""scale":-"#),
        (r#""bins":[0,"#, r#""bins":[1,"#),
        (r#""bins":[0,"#, r#""bins":["#),
        (r#""longest_run":1"#, r#""longest_run":0"#),
        (r#""edges":""#, r#""edges":"AAAA"#),
        (r#""names":["blue","#, r#""names":["#),
        (r#""names":["blue","#, r#""names":["red","#),
        (r#""moments":["#, r#""moments":[9999999999999999,"#),
        (r#""missing":400"#, r#""missing":99999999999"#),
        (r#""centre":"#, r#""center":"#),
    ];
    for (from, to) in damages {
        assert!(text.contains(from), "{from} is not in {text}");
        let damaged = text.replacen(from, to, 1);
        assert!(serde_json::from_str::<Reference>(&damaged).is_err(), "{to} was taken");
    }
}

proptest! {
    #[test]
    fn a_reference_survives_a_manifest_to_the_bit(sample in prop::collection::vec(any::<f32>(), 1_500..2_000)) {
        let values = match NumericReference::from_sample("a", &sample) {
            Ok(numeric) => ReferenceValues::Numeric(numeric),
            Err(_) => return Ok(()), // too many of these are not finite
        };
        let reference = Reference::new(vec![FeatureReference { name: "a".to_owned(), values }, colours("b")]).unwrap();
        let text = serde_json::to_string(&reference).unwrap();
        let back: Reference = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&back, &reference);
        prop_assert_eq!(back.id(), reference.id());
        let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::from_value::<Reference>(tree).unwrap().id(), reference.id());
    }

    #[test]
    fn edges_do_not_depend_on_the_order_of_the_sample(mut sample in prop::collection::vec(-50_i8..50, 1_000..1_200), seed in any::<u64>()) {
        let first = numeric(&sample.iter().map(|&value| f32::from(value)).collect::<Vec<_>>());
        let turn = seed as usize % sample.len();
        sample.rotate_left(turn);
        let second = numeric(&sample.iter().map(|&value| f32::from(value)).collect::<Vec<_>>());
        prop_assert_eq!(first.edges(), second.edges());
        prop_assert_eq!(first.counts().bins(), second.counts().bins());
        prop_assert!(first.edges().as_slice().is_sorted_by(|a, b| a < b));
    }
}
