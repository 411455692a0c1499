//! Properties that hold for any counts. What the detector finds, and how often it errs, is in `tests/drift_simulation`.

mod fleet;
mod state;
mod versions;

use proptest::{collection::vec, prelude::*};

use super::{scores::Shape, *};

/// A reference of 32 bins as features have them.
fn reference() -> Vec<u64> {
    let mut counts = vec![0, 10, 40, 150];
    counts.extend([400; 24]);
    counts.extend([150, 40, 10, 0]);
    counts
}

fn scores() -> Scores {
    Scores::numeric(&reference()).unwrap()
}

fn rule(threshold: f64) -> Rule {
    let threshold = Threshold::checks_between_false_alarms(threshold).unwrap();
    Rule { zone: Zone::default(), threshold, suppress_secs: 100 }
}

/// Counts like the reference, `samples` in all but for rounding, `by` bins higher.
fn higher(samples: u64, by: usize) -> Vec<u64> {
    let mut counts = vec![0; 32];
    for (bin, count) in reference().into_iter().enumerate() {
        counts[(bin + by).min(31)] += count * samples / 10_000;
    }
    counts
}

/// Any reference that is accepted.
fn any_reference() -> impl Strategy<Value = Vec<u64>> {
    let count = prop_oneof![Just(0_u64), 1..5_u64, 1..2_000_u64];
    vec(count, 3..40).prop_map(|mut counts| {
        counts[1] += MIN_ROWS;
        counts
    })
}

/// What a bet pays on average when samples come with these counts' shares, before the zone is taken.
fn mean_payoffs(scores: &Scores, counts: &[u64]) -> Vec<f64> {
    let baseline = Baseline::of(scores, counts).unwrap();
    let rows = scores::total(counts) as f64;
    let payoff = |bin: usize| {
        let one: Vec<_> = (0..counts.len()).map(|n| u64::from(n == bin)).collect();
        Payoff::of(scores, &baseline, &one).unwrap()
    };
    let mut means = vec![0.0; scores.bets.len() * scores::STAKES];
    for (bin, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
        let gains = payoff(bin).gains;
        means.iter_mut().zip(gains).for_each(|(mean, gain)| *mean += gain.exp() * count as f64 / rows);
    }
    means
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bet_gains_on_average_while_nothing_changes(reference in any_reference(), own in any_reference()) {
        let closed = Scores::categorical(&reference, Vocabulary::Closed).unwrap();
        for scores in [Scores::numeric(&reference).unwrap(), closed] {
            let mut own = own.clone();
            own.resize(reference.len(), 0);
            for counts in [&reference, &own] {
                let means = mean_payoffs(&scores, counts);
                prop_assert!(means.iter().all(|mean| *mean <= 1.0 + 1e-12), "{means:?}");
            }
        }
    }

    #[test]
    fn evidence_stays_a_number_whatever_is_counted(
        reference in any_reference(),
        batches in vec(vec(prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()], 40), 1..6),
    ) {
        let scores = Scores::numeric(&reference).unwrap();
        let baseline = Baseline::of(&scores, &reference).unwrap();
        let mut detector = Detector::new(&scores);
        for (at_secs, batch) in batches.iter().enumerate() {
            let payoff = Payoff::of(&scores, &baseline, &batch[..reference.len()]).unwrap();
            let both = Payoff::product(&[&payoff, &payoff, &payoff]).unwrap();
            for payoff in [payoff, both] {
                let rule = Rule { suppress_secs: 0, ..rule(1e15) };
                let alarm = detector.observe(&scores, &rule, &payoff, at_secs as u64).unwrap();
                prop_assert!(detector.evidence().is_finite());
                prop_assert!(alarm.is_none_or(|alarm| alarm.evidence.is_finite() && alarm.shift.is_finite()));
                let stored = serde_json::to_string(&detector).unwrap();
                prop_assert_eq!(serde_json::from_str::<Detector>(&stored).unwrap(), detector.clone());
            }
        }
    }
}

#[test]
fn merged_batches_pay_what_they_pay_one_after_the_other() {
    let scores = scores();
    let baseline = Baseline::of(&scores, &reference()).unwrap();
    let parts = [higher(500, 0), higher(1_000, 3), higher(700, 1)];
    let mut merged = vec![0; 32];
    for part in &parts {
        merged.iter_mut().zip(part).for_each(|(sum, count)| *sum += count);
    }
    let paid = parts.map(|part| Payoff::of(&scores, &baseline, &part).unwrap().gains);
    let whole = Payoff::of(&scores, &baseline, &merged).unwrap().gains;
    for (bet, whole) in whole.iter().enumerate() {
        let sum: f64 = paid.iter().map(|gains| gains[bet]).sum();
        assert!((sum - whole).abs() < 1e-9, "bet {bet}: {sum} and {whole}");
    }
}

#[test]
fn an_alarm_says_what_moved_where_since_when_and_how_far() {
    let scores = scores();
    let baseline = Baseline::of(&scores, &reference()).unwrap();
    let mut detector = Detector::new(&scores);
    let mut at = |at_secs, counts: &[u64]| {
        let payoff = Payoff::of(&scores, &baseline, counts).unwrap();
        detector.observe(&scores, &rule(1e6), &payoff, at_secs).unwrap()
    };
    assert!((1..=50).all(|at_secs| at(at_secs, &higher(1_000, 0)).is_none()));
    let mut tilted = higher(1_000, 0);
    tilted[4..16].fill(34);
    tilted[16..28].fill(46);
    let found = (51..=80).find_map(|at_secs| at(at_secs, &tilted)).expect("three samples of twenty moved");
    assert_eq!(found.direction, Direction { score: ScoreName::Location, sign: Sign::Up });
    assert_eq!(
        (found.since_secs, found.at_secs, found.samples),
        (50, 50 + found.checks, found.checks * 1_000)
    );
    assert!(found.evidence >= 1e6 && (0.1..0.3).contains(&found.shift), "{found:?}");
}

#[test]
fn score_groups_follow_the_reference() {
    let scores = scores();
    let bins = |name| {
        let found = scores.scores.iter().find(|score| score.name == name);
        found.and_then(|score| match &score.shape {
            Shape::Share(bins) => Some(bins.clone()),
            Shape::Graded(_) => None,
        })
    };
    assert_eq!(bins(ScoreName::LowerTail), Some(vec![0, 1, 2, 3]));
    assert_eq!(bins(ScoreName::FarUpperTail), Some(vec![29, 30, 31]));
    assert_eq!(bins(ScoreName::OutsideRange), Some(vec![0, 31]));
    assert_eq!((scores.directions().len(), scores.bins()), (24, 32));

    let constant = Scores::numeric(&[0, 5_000, 0]).unwrap();
    let names: Vec<_> = constant.scores.iter().map(|score| score.name).collect();
    assert_eq!(names.iter().filter(|name| matches!(name, ScoreName::Region(_))).count(), 1);

    let many: Vec<_> = (1..=1_001_u64).rev().map(|count| count - 1).collect();
    let categories = Scores::categorical(&many, Vocabulary::Sampled).unwrap();
    assert_eq!(categories.directions().len(), 2 * (MAX_CATEGORY_SCORES + 2));
}

#[test]
fn a_rule_that_promises_nothing_is_refused() {
    assert_eq!(Zone::new(2.9, 0.0), Err(BadRule::StandardErrors(2.9)));
    assert_eq!(Zone::new(3.0, -0.1), Err(BadRule::Tolerance(-0.1)));
    assert!(Zone::new(f64::NAN, 0.0).is_err() && Zone::new(3.0, f64::NAN).is_err());
    assert!(Threshold::one_false_alarm_in(0.0, 8_766.0, 10).is_err());
    assert!(Threshold::one_false_alarm_in(f64::INFINITY, 8_766.0, 10).is_err());
    assert!(Threshold::one_false_alarm_in(10.0, 8_766.0, 0).is_err());
    assert_eq!(Threshold::one_false_alarm_in(10.0, 8_766.0, 100).unwrap().value(), 8_766_000.0);
    assert!(serde_json::from_str::<Zone>(r#"{"standard_errors": 1.5}"#).is_err());
    assert!(serde_json::from_str::<Threshold>("0.5").is_err());
    assert!((3.3..3.4).contains(&Zone::for_baselines(1, 24, 0.0).unwrap().standard_errors()));
    assert!((4.4..4.6).contains(&Zone::for_baselines(100, 24, 0.0).unwrap().standard_errors()));
    let size = FleetSize { features: 2, directions: 7, devices: 10, groups: 0 };
    let refused = FleetRule::one_false_alarm_in(10.0, 8_766.0, size, 0);
    assert_eq!(refused, Err(BadRule::Directions { directions: 7, features: 2 }));
}

#[test]
fn zones_leave_out_one_baseline_in_twenty_fleets_however_many_directions_the_features_have() {
    let categories = Scores::categorical(&[100; 200], Vocabulary::Sampled).unwrap();
    let outside = |zone: Zone, means: u64| means as f64 * 0.5 * (-zone.standard_errors().powi(2) / 2.0).exp();
    for features in [&[&scores()][..], &[&categories], &[&scores(), &categories, &categories]] {
        let directions = features.iter().map(|scores| scores.directions().len() as u64).sum::<u64>();
        let rule = FleetRule::one_false_alarm_in(10.0, 8_766.0, FleetSize::of(features, 100, 7), 0).unwrap();
        for chance in [outside(rule.device_zone, 100 * directions), outside(rule.group_zone, 8 * directions)]
        {
            assert!((chance - 0.05).abs() < 1e-9, "{chance} for {directions} directions");
        }
    }
}

#[test]
fn counts_of_another_reference_are_refused() {
    let scores = scores();
    let baseline = Baseline::of(&scores, &reference()).unwrap();
    let other = BadCounts::OtherReference { found: 31, expected: 32 };
    assert_eq!(Payoff::of(&scores, &baseline, &[1; 31]), Err(other));
    assert_eq!(Baseline::of(&scores, &[40; 31]), Err(other));
    assert_eq!(Baseline::of(&scores, &[31; 32]), Err(BadCounts::TooFewRows { rows: 992 }));
    assert_eq!(Scores::numeric(&[5_000, 5_000]), Err(BadCounts::Bins { bins: 2 }));
    assert_eq!(Scores::numeric(&[0, 999, 0]), Err(BadCounts::TooFewRows { rows: 999 }));
    let categories = Scores::categorical(&reference(), Vocabulary::Closed).unwrap();
    let payoff = Payoff::of(&scores, &baseline, &reference()).unwrap();
    let mut detector = Detector::new(&categories);
    assert!(matches!(
        detector.observe(&scores, &rule(1e6), &payoff, 1),
        Err(BadCounts::OtherEvidence { .. })
    ));
}
