//! One stream against a reference of 10,000 rows that is drawn anew every time, checked every 50 samples.

use muster_sketch::detector::{Baseline, Detector, Payoff, Rule, Scores, Threshold, Vocabulary, Zone};

use crate::{
    bins::{Bins, Reference, normal_below},
    long,
    random::Random,
    summary::Delays,
};

const ROWS: usize = 10_000;
const SAMPLES: u64 = 50;
/// Checks without drift before the change.
const BEFORE: u64 = 20;
/// Samples after which a drift counts as not found.
const GIVEN_UP: u64 = 60_000;

/// At least so many checks of 50 samples between false alarms: a million samples.
const MILLION: f64 = 20_000.0;

fn rule(checks: f64) -> Rule {
    let threshold = Threshold::checks_between_false_alarms(checks).unwrap();
    Rule { zone: Zone::default(), threshold, suppress_secs: 0 }
}

/// A stream of counts with a detector on it.
struct Stream {
    scores: Scores,
    baseline: Baseline,
    detector: Detector,
    checks: u64,
}

impl Stream {
    fn of(scores: Scores, reference: &[u64]) -> Self {
        let baseline = Baseline::of(&scores, reference).unwrap();
        Self { detector: Detector::new(&scores), scores, baseline, checks: 0 }
    }

    fn alarms(&mut self, rule: &Rule, random: &mut Random, bins: &Bins) -> bool {
        self.checks += 1;
        let payoff = Payoff::of(&self.scores, &self.baseline, &bins.counts(random, SAMPLES)).unwrap();
        self.detector.observe(&self.scores, rule, &payoff, self.checks).unwrap().is_some()
    }

    /// Samples until the alarm, when the bins are those of `after` so many samples after the change.
    fn delay(
        &mut self,
        rule: &Rule,
        random: &mut Random,
        before: &Bins,
        after: impl Fn(u64) -> Bins,
    ) -> Option<u64> {
        for _ in 0..BEFORE {
            self.alarms(rule, random, before);
        }
        let samples = (1..=GIVEN_UP / SAMPLES).map(|check| check * SAMPLES);
        { samples }.find(|&samples| self.alarms(rule, random, &after(samples)))
    }
}

fn delays(
    name: &str,
    checks: f64,
    rows: usize,
    runs: u64,
    after: impl Fn(&Reference, u64) -> Bins,
) -> Delays {
    let rule = rule(checks);
    let delays = (1..=runs).map(|seed| {
        let mut random = Random::new(seed);
        let reference = Reference::normal(&mut random, rows);
        let mut stream = Stream::of(Scores::numeric(&reference.counts).unwrap(), &reference.counts);
        let before = reference.normal_bins(0.0, 1.0);
        stream.delay(&rule, &mut random, &before, |samples| after(&reference, samples))
    });
    Delays::print(&format!("{name}, A = {checks}, {rows} rows"), "samples", delays)
}

#[test]
fn a_stated_million_samples_between_false_alarms_is_kept_when_the_reference_is_a_sample_itself() {
    let (streams, checks) = (40 * long(10), 8_000);
    for (threshold, expected) in [(MILLION, 1.0), (1_000.0, 20.0)] {
        let rule = rule(threshold);
        let mut alarms = 0;
        for seed in 1..=streams {
            let mut random = Random::new(seed);
            let reference = Reference::normal(&mut random, ROWS);
            let bins = reference.normal_bins(0.0, 1.0);
            let mut stream = Stream::of(Scores::numeric(&reference.counts).unwrap(), &reference.counts);
            alarms += (0..checks).filter(|_| stream.alarms(&rule, &mut random, &bins)).count();
        }
        let million_samples = (streams * checks * SAMPLES) as f64 / 1e6;
        println!(
            "no drift, A = {threshold}: {alarms} false alarms in {million_samples} million samples, seeds 1 to {streams}"
        );
        assert!(alarms as f64 <= 0.2 * expected * million_samples, "A = {threshold}, seeds 1 to {streams}");
    }
}

/// The theorem itself, where it is nearly tight: a true mean at the border of the zone, and a threshold that is reached often.
#[test]
fn a_drift_that_just_fills_its_zone_raises_no_more_alarms_than_stated() {
    let mut random = Random::new(1);
    let share = 2_000.0_f64;
    // Three standard errors of a share of a fifth in 10,000 rows, without the allowance for what rows may have missed.
    let border = (share + 3.0 * (share * 0.8).sqrt()) / 10_000.0;
    let bins = Bins::of(vec![border, 1.0 - border, 0.0]);
    for threshold in [20.0, 100.0] {
        let reference = [2_000, 8_000, 0];
        let mut stream = Stream::of(Scores::categorical(&reference, Vocabulary::Closed).unwrap(), &reference);
        let (rule, checks) = (rule(threshold), 200_000);
        let alarms = (0..checks).filter(|_| stream.alarms(&rule, &mut random, &bins)).count();
        let between = checks as f64 / alarms.max(1) as f64;
        println!("at the border of the zone, A = {threshold}: {between:.0} checks between alarms, seed 1");
        assert!(between >= threshold, "A = {threshold}, seed 1");
    }
}

#[test]
fn shifts_are_found_within_the_samples_that_the_documentation_says() {
    let shifted = |by: f64| move |reference: &Reference, _| reference.normal_bins(by, 1.0);
    let quarter = delays("+0.25 s", MILLION, ROWS, 200, shifted(0.25));
    let half = delays("+0.5 s", MILLION, ROWS, 200, shifted(0.5));
    assert!(quarter.median() <= 650 && half.median() <= 200, "seeds 1 to 200");
    let whole = delays("+1 s", MILLION, ROWS, 100, shifted(1.0));
    let tenth = delays("+0.1 s", MILLION, ROWS, 40, shifted(0.1));
    assert!(whole.median() <= 50 && tenth.median() <= 6_000, "seeds from 1");
    for (by, name) in [(0.1, "+0.1 s"), (0.25, "+0.25 s"), (0.5, "+0.5 s"), (1.0, "+1 s")] {
        delays(name, 1_000.0, ROWS, 40, shifted(by));
    }
    for (by, name) in [(0.05, "+0.05 s"), (0.1, "+0.1 s"), (0.25, "+0.25 s")] {
        delays(name, MILLION, 100_000, 40, shifted(by));
    }
}

#[test]
fn what_does_not_move_the_mean_is_found_as_well() {
    let scaled = |by: f64| move |reference: &Reference, _| reference.normal_bins(0.0, by);
    let outliers = |reference: &Reference, _| {
        reference.bins(|edge| 0.99 * normal_below(edge) + 0.01 * normal_below(edge - 6.0))
    };
    let ramp = |reference: &Reference, samples: u64| {
        reference.normal_bins(0.5 * (samples as f64 / 20_000.0).min(1.0), 1.0)
    };
    for checks in [MILLION, 1_000.0] {
        let wider = delays("sd x1.25", checks, ROWS, 100, scaled(1.25));
        let narrower = delays("sd x0.8", checks, ROWS, 100, scaled(0.8));
        let outliers = delays("1 % outliers at +6 s", checks, ROWS, 100, outliers);
        let ramp = delays("ramp to +0.5 s over 20,000", checks, ROWS, 40, ramp);
        let medians = [wider, narrower, outliers, ramp].map(|delays| delays.median());
        assert!(
            medians.iter().zip([600, 600, 1_300, 8_000]).all(|(found, most)| *found <= most),
            "{medians:?}"
        );
    }
}

/// Shares of ten categories as one over their rank, and of none of them.
fn zipf() -> Vec<f64> {
    let all: f64 = (1..=10).map(|rank| 1.0 / f64::from(rank)).sum();
    (1..=10).map(|rank| 1.0 / f64::from(rank) / all).chain([0.0]).collect()
}

/// One category gains, the others give in proportion.
fn gained(category: usize, points: f64) -> Vec<f64> {
    let shares = zipf();
    let rest = (1.0 - shares[category] - points) / (1.0 - shares[category]);
    let share = |(place, share): (usize, f64)| if place == category { share + points } else { share * rest };
    shares.into_iter().enumerate().map(share).collect()
}

#[test]
fn categories_that_become_more_frequent_or_new_are_found() {
    let mut swapped = zipf();
    swapped.swap(0, 1);
    let drifts = [
        ("rarest of ten +3 points", gained(9, 0.03), [2_000, 2_000]),
        ("fifth of ten +5 points", gained(4, 0.05), [1_500, 1_500]),
        ("new category 1 %", gained(10, 0.01), [550, 1_000]),
        // Ten thousand rows may have missed a category of nearly as much, so without a closed list it is hardly news.
        ("new category 0.1 %", gained(10, 0.001), [18_150, u64::MAX]),
        ("top two swapped", swapped, [200, 200]),
    ];
    let before = Bins::of(zipf());
    for (name, shares, most) in drifts {
        for (vocabulary, most) in [Vocabulary::Closed, Vocabulary::Sampled].into_iter().zip(most) {
            let delays = (1..=200).map(|seed| {
                let mut random = Random::new(seed);
                let reference = before.counts(&mut random, ROWS as u64);
                let mut stream = Stream::of(Scores::categorical(&reference, vocabulary).unwrap(), &reference);
                stream.delay(&rule(MILLION), &mut random, &before, |_| Bins::of(shares.clone()))
            });
            let delays = Delays::print(&format!("{name}, {vocabulary:?}"), "samples", delays);
            assert!(delays.median() <= most, "{name}, {vocabulary:?}, seeds 1 to 200");
        }
    }
}

#[test]
fn categories_without_drift_raise_no_more_alarms_than_stated() {
    let (streams, checks) = (40 * long(10), 8_000);
    for vocabulary in [Vocabulary::Closed, Vocabulary::Sampled] {
        let bins = Bins::of(zipf());
        let mut alarms = 0;
        for seed in 1..=streams {
            let mut random = Random::new(seed);
            let reference = bins.counts(&mut random, ROWS as u64);
            let mut stream = Stream::of(Scores::categorical(&reference, vocabulary).unwrap(), &reference);
            alarms += (0..checks).filter(|_| stream.alarms(&rule(MILLION), &mut random, &bins)).count();
        }
        let million_samples = (streams * checks * SAMPLES) as f64 / 1e6;
        println!(
            "categories without drift, {vocabulary:?}: {alarms} false alarms in {million_samples} million samples"
        );
        assert!(alarms as f64 <= 0.2 * million_samples, "seeds 1 to {streams}");
    }
}
