//! What is kept of one device from check to check.

use super::*;

#[test]
fn evidence_that_was_stored_goes_on_to_the_bit() {
    let scores = scores();
    let mut kept = DeviceWatch::new(&scores);
    let mut stored = kept.clone();
    for at_secs in 1..=40 {
        let counts = higher(300, usize::from(at_secs > 20));
        let alarm = kept.observe(&scores, &rule(1e9), &counts, at_secs).unwrap();
        let text = serde_json::to_string(&stored).unwrap();
        stored = serde_json::from_str(&text).unwrap();
        assert_eq!(stored.observe(&scores, &rule(1e9), &counts, at_secs).unwrap(), alarm);
    }
    assert_eq!(kept, stored);
}

#[test]
fn stored_evidence_that_is_no_number_is_refused() {
    let scores = scores();
    let text = serde_json::to_string(&Detector::new(&scores)).unwrap();
    let negative = text.replacen("0.0", "-1.0", 1);
    assert!(serde_json::from_str::<Detector>(&text).is_ok());
    assert!(serde_json::from_str::<Detector>(&negative).is_err());
}

#[test]
fn the_first_thousand_samples_are_the_baseline_until_somebody_says_otherwise() {
    let scores = scores();
    let mut watch = DeviceWatch::new(&scores);
    let learning = watch.observe(&scores, &rule(1e6), &higher(700, 4), 1).unwrap();
    assert!(matches!(learning, Watched::Learning { samples } if samples < 1_000));
    watch.observe(&scores, &rule(1e6), &higher(700, 4), 2).unwrap();
    let baseline = watch.baseline().map(<[u64]>::to_vec);
    let same = watch.observe(&scores, &rule(1e6), &higher(1_000, 4), 3).unwrap();
    assert!(matches!(same, Watched::Counted { alarm: None, .. }), "unlike the reference, but like itself");
    // However slowly it drifts, the baseline does not follow.
    let drifts = (4..=40).map(|at_secs| {
        watch.observe(&scores, &rule(1e6), &higher(1_000, 4 + at_secs as usize / 8), at_secs).unwrap()
    });
    assert!(
        drifts.collect::<Vec<_>>().iter().any(|seen| matches!(seen, Watched::Counted { alarm: Some(_), .. }))
    );
    assert_eq!(watch.baseline().map(<[u64]>::to_vec), baseline);
    watch.relearn(&scores);
    assert_eq!(watch, DeviceWatch::new(&scores));
}

#[test]
fn after_an_alarm_nothing_counts_for_a_while_and_then_the_drift_is_told_again() {
    let scores = scores();
    let mut watch = DeviceWatch::new(&scores);
    watch.observe(&scores, &rule(1e6), &reference(), 0).unwrap();
    let mut alarms = vec![];
    for at_secs in 1..=300 {
        let seen = watch.observe(&scores, &rule(1e6), &higher(1_000, 6), at_secs).unwrap();
        match seen {
            Watched::Counted { alarm: Some(_), .. } => alarms.push(at_secs),
            Watched::Suppressed => assert!(alarms.last().is_some_and(|alarm| at_secs < alarm + 100)),
            Watched::Counted { alarm: None, .. } | Watched::Learning { .. } => {}
        }
    }
    assert_eq!(alarms.len(), 3, "{alarms:?}");
    assert!(alarms.windows(2).all(|pair| pair[1] - pair[0] >= 100));
}

#[test]
fn a_check_without_samples_changes_nothing() {
    let scores = scores();
    let baseline = Baseline::of(&scores, &reference()).unwrap();
    let mut detector = Detector::new(&scores);
    let empty = Payoff::of(&scores, &baseline, &[0; 32]).unwrap();
    detector.observe(&scores, &rule(1e6), &empty, 1).unwrap();
    assert_eq!(detector, Detector::new(&scores));
}

#[test]
fn the_step_follows_the_correlation() {
    let mut state = 1_u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    };
    let mut last = 0.0;
    let correlated: Vec<_> = (0..20_000)
        .map(|_| {
            last = 0.8 * last + noise();
            last
        })
        .collect();
    let independent: Vec<_> = (0..20_000).map(|_| noise()).collect();
    let thinning = Thinning::of(&correlated).unwrap();
    assert!((8.0..10.5).contains(&thinning.autocorrelation_time), "{thinning:?}");
    assert!((8..=11).contains(&thinning.every) && !thinning.beyond_limit);
    assert!(Thinning::of(&independent).unwrap().every <= 2);

    let wandering: Vec<_> = (0..20_000).map(|n| f64::from(n) / 1e300).collect();
    let endless = Thinning::of(&wandering).unwrap();
    assert!(endless.every == MAX_THINNING && endless.beyond_limit, "{endless:?}");
    assert_eq!(Thinning::of(&[0.1; 5_000]), Err(NoThinning::Constant));
    assert_eq!(Thinning::of(&[0.1; 999]), Err(NoThinning::TooFew { values: 999 }));
    let mut broken = independent;
    broken[7] = f64::NAN;
    assert_eq!(Thinning::of(&broken), Err(NoThinning::NotFinite { index: 7 }));
}

#[test]
fn a_baseline_unlike_its_siblings_is_named_with_what_is_odd() {
    let scores = scores();
    let usual: Vec<_> = (0..12).map(|n| higher(2_000, 4 + n % 3)).collect();
    let mut frozen = vec![0; 32];
    frozen[16] = 2_000;
    let mut baselines: Vec<&[u64]> = usual.iter().map(Vec::as_slice).collect();
    assert_eq!(odd_baselines(&scores, &baselines).unwrap(), vec![]);
    baselines[5] = &frozen;
    let odd = odd_baselines(&scores, &baselines).unwrap();
    assert_eq!(odd.iter().map(|odd| (odd.index, odd.oddity)).collect::<Vec<_>>(), [(5, Oddity::Variation)]);
    assert!(odd[0].z < -5.0 && odd[0].figure == 0.0);
    assert_eq!(odd_baselines(&scores, &baselines[..9]).unwrap(), vec![], "too few to say");

    let classes = Scores::categorical(&[5_000, 4_000, 1_000, 0], Vocabulary::Closed).unwrap();
    let usual = vec![500, 400, 100, 0];
    let stuck = vec![1_000, 0, 0, 0];
    let mut baselines: Vec<&[u64]> = vec![&usual; 12];
    baselines[3] = &stuck;
    let odd = odd_baselines(&classes, &baselines).unwrap();
    assert_eq!(odd.iter().map(|odd| odd.index).collect::<Vec<_>>(), [3]);
}
