//! Features with categories.

use super::*;
use crate::categories::CategoryWindow;

/// Shares as one over the rank.
pub(super) fn rank(random: &mut Random, categories: u32) -> u32 {
    let most = f64::from(categories + 1).ln();
    (random.uniform() * most).exp() as u32
}

pub(super) fn names(random: &mut Random, categories: u32, rows: usize) -> Vec<String> {
    (0..rows).map(|_| rank(random, categories).to_string()).collect()
}

pub(super) fn categories(sample: &[String]) -> CategoryReference {
    CategoryReference::from_sample("a", sample.iter().map(|name| Some(name.as_str()))).unwrap()
}

fn found_in(reference: &CategoryReference, values: &[Option<&str>]) -> Vec<QualityFinding> {
    let mut window = CategoryWindow::new(reference);
    values.iter().for_each(|name| window.record(reference, *name).unwrap());
    let counts = FeatureCounts::Category(window.seal());
    findings(&ReferenceValues::Category(reference.clone()), &counts).unwrap()
}

fn some(names: &[String]) -> Vec<Option<&str>> {
    names.iter().map(|name| Some(name.as_str())).collect()
}

#[test]
fn categories_that_a_reference_lacks_by_chance_are_not_new() {
    let mut random = Random(9);
    for number in [3, 50, 1_000, 100_000] {
        for run in 0..10 {
            let sample = names(&mut random, number, 3_000);
            let reference = categories(&sample);
            for rows in [1, 20, 500, 10_000] {
                let values = names(&mut random, number, rows);
                assert_eq!(
                    found_in(&reference, &some(&values)),
                    vec![],
                    "{number} categories, run {run}, {rows} rows"
                );
            }
        }
    }
    let everybody: Vec<_> = (0..3_000).map(|row| format!("user {row}")).collect();
    let others: Vec<_> = (3_000..9_000).map(|row| format!("user {row}")).collect();
    assert_eq!(found_in(&categories(&everybody), &some(&others)), vec![], "names are always new");
}

#[test]
fn a_new_category_and_missing_ones_are_found() {
    let mut random = Random(10);
    for (number, new) in [(3, 20), (50, 20), (1_000, 200)] {
        let reference = categories(&names(&mut random, number, 10_000));
        let mut values = names(&mut random, number, 1_000);
        values[..new].fill("ultraviolet".to_owned());
        let found = found_in(&reference, &some(&values));
        assert_eq!(kinds(&found), [QualityKind::NewCategory], "{number} categories");
        assert!(found[0].count >= new as u64 && found[0].rows == 1_000, "{found:?}");
        let mut values = names(&mut random, number, 1_000);
        values.truncate(985);
        let mut values = some(&values);
        values.extend([None; 15]);
        assert_eq!(kinds(&found_in(&reference, &values)), [QualityKind::Missing], "{number} categories");
    }
}
