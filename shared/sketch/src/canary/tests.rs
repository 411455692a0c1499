use proptest::prelude::*;

use super::*;

const LATENCY: Measure = Measure { scale: Scale::Level, worse: Worse::Higher, margin: 0.02, min_count: 10 };
const ERRORS: Measure =
    Measure { scale: Scale::Rate { floor: 0.001 }, worse: Worse::Higher, margin: 0.25, min_count: 10 };
const ACCURACY: Measure = Measure { scale: Scale::Absolute, worse: Worse::Lower, margin: 0.01, min_count: 1 };

/// Like numbers in every run: a small wave that differs from device to device.
fn noise(look: usize, device: usize) -> f64 {
    (((look * 7 + device * 13) % 11) as f64 - 5.0) / 5.0
}

/// Ten canaries at `canary` and twenty controls at `control`, all with some noise.
fn window(look: usize, canary: f64, control: f64, spread: f64) -> Window {
    let side = |from: usize, to: usize, mean: f64| -> Vec<Option<Sample>> {
        let of = |device| mean * (1.0 + spread * noise(look, device)) * 50.0;
        (from..to).map(|device| Some(Sample { sum: of(device), count: 50 })).collect()
    };
    Window { canaries: side(0, 10, canary), controls: side(10, 30, control) }
}

fn history(mean: f64, spread: f64) -> Vec<Window> {
    (0..44).map(|look| window(look, mean, mean, spread)).collect()
}

fn started(measure: Measure, mean: f64, spread: f64) -> Comparison {
    Comparison::start(measure, &history(mean, spread), (10, 20), (3, 5)).unwrap()
}

/// The last of `looks` readings.
fn after(comparison: &mut Comparison, looks: usize, canary: f64, control: f64, spread: f64) -> Reading {
    (0..looks).map(|look| comparison.observe(&window(look, canary, control, spread))).last().unwrap()
}

#[test]
fn slower_canaries_raise_the_evidence_of_harm_and_equal_ones_the_evidence_against_it() {
    let slower = after(&mut started(LATENCY, 20.0, 0.05), 8, 22.0, 20.0, 0.05);
    assert!(slower.e_worse > 1_000.0 && slower.e_not_worse < 1.0, "{slower:?}");
    let equal = after(&mut started(LATENCY, 20.0, 0.05), 200, 20.0, 20.0, 0.05);
    assert!(equal.e_worse < 1.0 && equal.e_not_worse > 20.0, "{equal:?}");
}

#[test]
fn what_hits_everybody_is_no_evidence() {
    let shock = after(&mut started(LATENCY, 20.0, 0.05), 100, 40.0, 40.0, 0.05);
    assert!(shock.e_worse <= 2.0, "{shock:?}");
}

#[test]
fn a_canary_that_degrades_after_a_long_good_time_is_still_found() {
    let mut comparison = started(LATENCY, 20.0, 0.05);
    after(&mut comparison, 250, 20.0, 20.0, 0.05);
    assert!(after(&mut comparison, 20, 24.0, 20.0, 0.05).e_worse > 1_000.0);
}

#[test]
fn fewer_right_answers_are_worse() {
    let worse = after(&mut started(ACCURACY, 0.9, 0.02), 60, 0.8, 0.9, 0.02);
    assert!(worse.e_worse > 1_000.0, "{worse:?}");
}

#[test]
fn a_fleet_that_never_failed_forgives_one_failure_and_not_many() {
    let clean = || started(ERRORS, 0.0, 0.0);
    let mut window = window(0, 0.0, 0.0, 0.0);
    window.canaries[0] = Some(Sample { sum: 1.0, count: 50 });
    assert!(clean().observe(&window).e_worse < 5.0);
    assert!(after(&mut clean(), 10, 0.06, 0.0, 0.0).e_worse > 1_000.0);
    assert!(after(&mut clean(), 250, 0.0, 0.0, 0.0).e_worse <= 1.0);
}

/// Fifty pairs of devices that fail between 0.2 and 2 % of their 50 inferences, the same in every run.
fn seldom(look: u64) -> Window {
    let mixed = |number: u64| {
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 33
    };
    let of = |device: u64| {
        let per_10_000 = 20 + 180 * (device % 50) / 49;
        let fails = |inference| mixed((look << 20) + (device << 8) + inference) % 10_000 < per_10_000;
        Some(Sample { sum: (0..50).filter(|&inference| fails(inference)).count() as f64, count: 50 })
    };
    Window { canaries: (0..50).map(of).collect(), controls: (50..100).map(of).collect() }
}

#[test]
fn pairs_that_seldom_fail_are_not_taken_for_devices_that_wander() {
    let history: Vec<_> = (0..200).map(seldom).collect();
    let mut comparison = Comparison::start(ERRORS, &history, (50, 50), (3, 5)).unwrap();
    let reading = (200..400).map(|look| comparison.observe(&seldom(look))).last().unwrap();
    assert!(reading.margin_not_worse > 0.1 && reading.e_not_worse > 20.0, "{reading:?}");
    assert!(reading.e_worse < 1.0, "{reading:?}");
}

#[test]
fn too_few_devices_with_history_compare_nothing() {
    let empty = |devices| Comparison::start(LATENCY, &[], devices, (3, 5)).unwrap_err();
    assert_eq!(empty((10, 20)), NoComparison::Canaries { with_history: 0, devices: 10, needed: 3 });
    let no_control: Vec<_> =
        history(20.0, 0.05).into_iter().map(|window| Window { controls: vec![], ..window }).collect();
    let refused = Comparison::start(LATENCY, &no_control, (10, 0), (3, 5)).unwrap_err();
    assert_eq!(refused, NoComparison::Controls { with_history: 0, devices: 0, needed: 5 });
    let still = Comparison::start(LATENCY, &history(0.0, 0.0), (10, 20), (3, 5)).unwrap_err();
    assert_eq!(still, NoComparison::Canaries { with_history: 0, devices: 10, needed: 3 });
}

#[test]
fn a_measure_out_of_range_compares_nothing() {
    for margin in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let measure = Measure { margin, ..LATENCY };
        assert_eq!(Comparison::start(measure, &[], (1, 1), (1, 1)), Err(NoComparison::Measure));
    }
}

#[test]
fn silence_thin_looks_and_nonsense_are_counted_and_bet_nothing() {
    let mut comparison = started(LATENCY, 20.0, 0.05);
    let before = comparison.e_worse();
    let mut odd = window(0, 20.0, 20.0, 0.05);
    odd.canaries = vec![None; 10];
    odd.canaries[0] = Some(Sample { sum: f64::NAN, count: 50 });
    odd.canaries[1] = Some(Sample { sum: 20.0, count: 1 });
    odd.canaries[2] = Some(Sample { sum: 20.0, count: 0 });
    odd.canaries[3] = Some(Sample { sum: -20.0, count: 50 });
    let reading = comparison.observe(&odd);
    assert_eq!((reading.groups, reading.canaries, reading.controls), (0, 0, 20));
    assert_eq!((reading.missing, reading.thin, reading.invalid), (6, 1, 3));
    assert_eq!((reading.looks, reading.e_worse.to_bits()), (0, before.to_bits()));
}

#[test]
fn a_look_of_another_size_than_the_cohorts_is_no_panic() {
    let mut comparison = started(LATENCY, 20.0, 0.05);
    assert_eq!(comparison.observe(&Window::default()).groups, 0);
    let long = vec![Some(Sample { sum: 1_000.0, count: 50 }); 40];
    assert_eq!(comparison.observe(&Window { canaries: long.clone(), controls: long }).groups, 10);
}

#[test]
fn devices_that_wander_by_themselves_widen_the_margin() {
    let wandering = |look: usize| {
        let mut window = window(look, 20.0, 20.0, 0.0);
        for (device, sample) in window.controls.iter_mut().enumerate() {
            let moved = 1.0 + 0.2 * noise(0, device) + 0.01 * noise(look, device);
            *sample = Some(Sample { sum: 1_000.0 * moved, count: 50 });
        }
        window
    };
    let mut comparison = started(LATENCY, 20.0, 0.05);
    let first = comparison.observe(&wandering(0));
    let later = (1..20).map(|look| comparison.observe(&wandering(look))).last().unwrap();
    assert!(first.margin_worse < 0.03 && later.margin_worse > 0.1, "{first:?} {later:?}");
    assert!(later.margin_not_worse < 0.0);
}

#[test]
fn one_control_far_off_moves_neither_scale_nor_guard_further_than_a_cut_difference() {
    let mut comparison = started(LATENCY, 20.0, 0.05);
    let mut still = comparison.clone();
    for look in 0..40 {
        let mut odd = window(look, 20.0, 20.0, 0.05);
        let sum = 1_000.0 * 10.0_f64.powi(look as i32);
        odd.controls[0] = Some(Sample { sum, count: 50 });
        let reading = comparison.observe(&odd);
        let usual = still.observe(&window(look, 20.0, 20.0, 0.05));
        assert!(reading.scale < 1.1 * usual.scale, "{reading:?}");
        assert!(reading.margin_worse < 0.1, "{reading:?}");
    }
}

/// Any sample that can be written, sensible or not.
fn any_sample() -> impl Strategy<Value = Option<Sample>> {
    let sum = prop_oneof![any::<f64>(), 0.0..1e4_f64, Just(f64::MAX), Just(f64::MIN_POSITIVE)];
    let count = prop_oneof![Just(0), 1_u64..100, any::<u64>()];
    prop::option::of((sum, count).prop_map(|(sum, count)| Sample { sum, count }))
}

fn any_window() -> impl Strategy<Value = Window> {
    let side = || prop::collection::vec(any_sample(), 0..8);
    (side(), side()).prop_map(|(canaries, controls)| Window { canaries, controls })
}

fn any_measure() -> impl Strategy<Value = Measure> {
    prop::sample::select(vec![
        LATENCY,
        ERRORS,
        ACCURACY,
        Measure { min_count: 1, ..LATENCY },
        Measure { worse: Worse::Lower, ..LATENCY },
    ])
}

proptest! {
    #[test]
    fn the_expected_capital_of_a_fair_game_does_not_grow(payoffs in prop::collection::vec(0.0_f64..=1.0, 1..9)) {
        // Every sign is as likely as the other, so the mean over all signs is the expectation.
        let games = 1_usize << payoffs.len();
        let total: f64 = (0..games).map(|signs| {
            let mut process = EProcess::new();
            for (bit, payoff) in payoffs.iter().enumerate() {
                process.bet(&[if signs >> bit & 1 == 1 { *payoff } else { -payoff }]);
            }
            process.value()
        }).sum();
        prop_assert!((total / games as f64 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn evidence_stays_a_positive_number(looks in prop::collection::vec(prop::collection::vec(any::<f64>(), 0..40), 0..60)) {
        let mut process = EProcess::new();
        for look in &looks {
            process.bet(look);
            prop_assert!(process.value() > 0.0 && process.value().is_finite());
        }
    }

    #[test]
    fn nonsense_never_panics_and_never_becomes_evidence_that_is_no_number(
        measure in any_measure(),
        past in prop::collection::vec(any_window(), 0..30),
        looks in prop::collection::vec(any_window(), 0..10),
    ) {
        if let Ok(mut comparison) = Comparison::start(measure, &past, (6, 6), (1, 1)) {
            for look in &looks {
                let reading = comparison.observe(look);
                let figures = [reading.difference, reading.margin_worse, reading.margin_not_worse, reading.scale, reading.excess];
                prop_assert!(figures.iter().all(|figure| figure.is_finite()), "{:?}", reading);
                prop_assert!(reading.e_worse > 0.0 && reading.e_worse.is_finite());
                prop_assert!(reading.e_not_worse > 0.0 && reading.e_not_worse.is_finite());
            }
        }
    }

    #[test]
    fn the_state_survives_its_stored_form_to_the_bit(canary in 15.0_f64..30.0, looks in 1_usize..20) {
        let mut comparison = started(LATENCY, 20.0, 0.05);
        after(&mut comparison, looks, canary, 20.0, 0.05);
        let mut back: Comparison = serde_json::from_str(&serde_json::to_string(&comparison).unwrap()).unwrap();
        prop_assert_eq!(&back, &comparison);
        let window = window(looks, canary, 20.0, 0.05);
        prop_assert_eq!(back.observe(&window), comparison.observe(&window));
    }
}
