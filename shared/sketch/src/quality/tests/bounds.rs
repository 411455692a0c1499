//! The bounds themselves, at chances that are met often enough to be counted.

use std::collections::BTreeMap;

use super::{categories::rank, *};

#[test]
fn bounds_are_no_smaller_than_the_chances_they_bound() {
    let mut random = Random(13);
    let (runs, level) = (1_000_u32, chance::ln(0.02));
    let tests: [(&str, u32, u32, f64); 5] = [
        ("rare", 1_000, 300, 0.01),
        ("rare, many new", 300, 2_000, 0.01),
        ("half", 500, 500, 0.5),
        ("nearly all", 1_000, 200, 0.98),
        ("never", 1_000, 1_000, 0.0),
    ];
    for (name, rows_then, rows, share) in tests {
        let mut wrong = [0_u32; 2];
        for _ in 0..runs {
            let then = (random.binomial(rows_then, share), f64::from(rows_then));
            let now = (random.binomial(rows, share), f64::from(rows));
            wrong[0] += u32::from(chance::ln_of_more(now, then) <= level);
            wrong[1] += u32::from(chance::share_at_most(then, level) < share);
        }
        assert!(wrong.iter().all(|&wrong| wrong * 50 <= runs), "{name}: {wrong:?} of {runs}");
    }
    let mut outside = 0;
    for _ in 0..runs {
        let (mut low, mut high) = (1.0_f64, 0.0_f64);
        for _ in 0..100 {
            let value = random.uniform();
            (low, high) = (low.min(value), high.max(value));
        }
        let count =
            (0..200).map(|_| random.uniform()).filter(|value| !(low..=high).contains(value)).count() as u64;
        outside += u32::from(Shares::new((count, 200), (0, 100)).ln_of_outside() <= level);
    }
    assert!(outside * 50 <= runs && outside > 0, "{outside} of {runs}");
}

#[test]
fn evidence_of_new_categories_is_an_e_value() {
    let mut random = Random(14);
    let (runs, rows_then) = (600, 300);
    for number in [3, 40, 1_000] {
        for rows in [100, 3_000] {
            let mut wrong = 0;
            for _ in 0..runs {
                let mut counts = BTreeMap::<u32, u64>::new();
                (0..rows_then).for_each(|_| *counts.entry(rank(&mut random, number)).or_default() += 1);
                let is_unseen = |_: &u32| !counts.contains_key(&rank(&mut random, number));
                let unseen = (0..rows).filter(is_unseen).count();
                let counts: Vec<_> = counts.into_values().collect();
                let evidence = chance::ln_evidence_of_new(
                    (unseen as f64, f64::from(rows)),
                    f64::from(rows_then),
                    &counts,
                );
                wrong += u32::from(evidence >= chance::ln(20.0));
            }
            assert!(wrong * 20 <= runs, "{number} categories, {rows} rows: {wrong} of {runs}");
        }
    }
}
