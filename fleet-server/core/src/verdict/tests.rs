use muster_sketch::canary::{NoComparison, Sample};
use proptest::prelude::*;
use shared::{
    MetricName,
    telemetry::{CustomKind, VersionFigures},
};

use super::*;
use crate::fixtures::{id, release};

fn custom(name: &str) -> Metric {
    format!("custom:{name}").parse().unwrap()
}

/// `canaries` and `controls` devices.
fn cohorts(canaries: usize, controls: usize) -> Cohorts {
    let named = |prefix: &str, count: usize| (0..count).map(|n| id(&format!("{prefix}{n}"))).collect();
    Cohorts { canaries: named("canary-", canaries), controls: named("d", controls) }
}

fn figures(latency: f64, errors: f64) -> Figures {
    let sample = |sum: f64| Sample { sum, count: 50 };
    [(Metric::Latency, sample(50.0 * latency)), (Metric::Errors, sample(errors))].into()
}

/// Everybody as before, the canaries by `slower`; a small wave runs through the devices.
fn look(number: u64, cohorts: &Cohorts, slower: f64) -> Look {
    let wave = |n: usize| 1.0 + 0.01 * (((number as usize * 7 + n * 3) % 5) as f64 - 2.0);
    let errors = |n: usize| if (number as usize + n).is_multiple_of(2) { 1.0 } else { 0.0 };
    let all = cohorts.canaries.iter().map(|device| (device, slower));
    let all = all.chain(cohorts.controls.iter().map(|device| (device, 1.0)));
    let devices = all
        .enumerate()
        .map(|(n, (device, factor))| (device.clone(), figures(20.0 * factor * wave(n), errors(n))))
        .collect();
    Look { number, devices }
}

fn looks(from: u64, to: u64, cohorts: &Cohorts, slower: f64) -> Vec<Look> {
    (from..to).map(|number| look(number, cohorts, slower)).collect()
}

/// Judges looks from the beginning.
fn judged(policy: VerdictPolicy, cohorts: Cohorts, history: &[Look], looks: &[Look]) -> Vec<LookRecord> {
    let mut judge = CanaryJudge::start(policy, cohorts, history).unwrap();
    looks.iter().map(|look| judge.observe(look).unwrap()).collect()
}

/// The records of `count` looks after a history of 40.
fn records(cohorts: &Cohorts, count: u64, slower: f64) -> Vec<LookRecord> {
    let (history, after) = (looks(0, 40, cohorts, 1.0), looks(40, 40 + count, cohorts, slower));
    judged(VerdictPolicy::default(), cohorts.clone(), &history, &after)
}

fn verdict_after(cohorts: &Cohorts, count: u64, slower: f64) -> MetricVerdict {
    records(cohorts, count, slower).last().unwrap().verdict.clone()
}

fn gaps(verdict: MetricVerdict) -> Vec<Gap> {
    match verdict {
        MetricVerdict::Insufficient { gaps } => gaps,
        other => panic!("{other} is not insufficient"),
    }
}

#[test]
fn a_slower_candidate_is_degraded_with_the_metric_and_the_figures() {
    let MetricVerdict::Degraded(why) = verdict_after(&cohorts(10, 20), 12, 1.2) else {
        panic!("not degraded");
    };
    assert_eq!((why.metric.clone(), why.threshold), (Metric::Latency, 1_000.0));
    assert!(why.e_worse >= 1_000.0 && why.reading.difference > 0.15, "{why:?}");
    assert!(why.to_string().starts_with("degraded at look"), "{why}");
}

#[test]
fn a_condemned_candidate_stays_condemned_when_it_gets_better() {
    let cohorts = cohorts(10, 20);
    let history = looks(0, 40, &cohorts, 1.0);
    let mut judge = CanaryJudge::start(VerdictPolicy::default(), cohorts.clone(), &history).unwrap();
    looks(40, 60, &cohorts, 1.2).iter().for_each(|look| drop(judge.observe(look).unwrap()));
    let condemned = judge.verdict();
    looks(60, 300, &cohorts, 0.9).iter().for_each(|look| drop(judge.observe(look).unwrap()));
    assert_eq!(judge.verdict(), condemned);
}

#[test]
fn canaries_that_are_much_slower_are_not_outvoted_by_those_that_are_not() {
    let cohorts = cohorts(20, 40);
    let mixed = |number: u64| {
        let mut look = look(number, &cohorts, 1.0);
        let slow = look.devices.values_mut().next().unwrap();
        slow.entry(Metric::Latency).and_modify(|latency| latency.sum *= 3.0);
        look
    };
    let (history, after) = (looks(0, 40, &cohorts, 1.0), (40..140).map(mixed).collect::<Vec<_>>());
    let records = judged(VerdictPolicy::default(), cohorts.clone(), &history, &after);
    let last = records.last().unwrap();
    assert!(last.metrics[&Metric::Latency].e_not_worse > 20.0, "{last:?}");
    let why = &gaps(last.verdict.clone())[0].why;
    assert!(matches!(why, GapWhy::WorseOnAverage { excess } if *excess > 0.05), "{why}");
}

#[test]
fn an_equal_candidate_is_healthy_before_the_day_is_over() {
    let records = records(&cohorts(10, 20), 288, 1.0);
    let healthy = records.iter().find(|record| matches!(record.verdict, MetricVerdict::Healthy { .. }));
    assert!(healthy.is_some(), "{}", curve(&records, 20));
}

#[test]
fn without_controls_or_with_too_few_canaries_nothing_is_decided() {
    let why = |cohorts: &Cohorts| gaps(verdict_after(cohorts, 50, 2.0)).remove(0).why;
    let controls = NoComparison::Controls { with_history: 0, devices: 0, needed: 20 };
    assert_eq!(why(&cohorts(10, 0)), GapWhy::NoComparison { why: controls });
    let canaries = NoComparison::Canaries { with_history: 2, devices: 2, needed: 3 };
    assert_eq!(why(&cohorts(2, 20)), GapWhy::NoComparison { why: canaries });
}

#[test]
fn a_fleet_without_history_is_insufficient() {
    let cohorts = cohorts(10, 20);
    let after = looks(0, 50, &cohorts, 2.0);
    let records = judged(VerdictPolicy::default(), cohorts, &[], &after);
    assert_eq!(gaps(records.last().unwrap().verdict.clone()).len(), 2);
    assert_eq!(records.last().unwrap().e_worse, None);
}

#[test]
fn before_the_first_look_and_while_canaries_are_silent_the_verdict_is_insufficient() {
    let cohorts = cohorts(10, 20);
    let history = looks(0, 40, &cohorts, 1.0);
    let mut judge = CanaryJudge::start(VerdictPolicy::default(), cohorts.clone(), &history).unwrap();
    let few = GapWhy::FewLooks { looks: 0, needed: 12 };
    assert!(gaps(judge.verdict()).iter().all(|gap| gap.why == few));
    for mut look in looks(40, 100, &cohorts, 2.0) {
        look.devices.retain(|device, _| cohorts.controls.contains(device));
        judge.observe(&look).unwrap();
    }
    assert!(gaps(judge.verdict()).iter().all(|gap| gap.why == few));
}

#[test]
fn a_look_that_comes_twice_or_late_changes_nothing() {
    let cohorts = cohorts(10, 20);
    let mut judge =
        CanaryJudge::start(VerdictPolicy::default(), cohorts.clone(), &looks(0, 40, &cohorts, 1.0)).unwrap();
    judge.observe(&look(50, &cohorts, 1.2)).unwrap();
    let before = judge.clone();
    assert_eq!(judge.observe(&look(50, &cohorts, 1.2)), Err(LookRefused { number: 50, last: 50 }));
    assert!(judge.observe(&look(49, &cohorts, 1.2)).is_err());
    assert_eq!(judge, before);
}

#[test]
fn a_metric_that_nobody_reported_costs_nothing_and_is_not_waited_for() {
    let records = records(&cohorts(10, 20), 3, 1.0);
    let metrics: Vec<_> = records[0].metrics.keys().cloned().collect();
    assert_eq!(metrics, [Metric::Latency, Metric::Errors]);
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused() {
    let start = |policy| CanaryJudge::start(policy, Cohorts::default(), &[]).unwrap_err();
    let policy = VerdictPolicy { alpha_rollback: 0.0, ..VerdictPolicy::default() };
    assert_eq!(start(policy), InvalidPolicy::Alpha { name: "alpha_rollback", value: 0.0 });
    let policy = VerdictPolicy { metrics: BTreeMap::new(), ..VerdictPolicy::default() };
    assert_eq!(start(policy), InvalidPolicy::MetricCount(0));
    let mut policy = VerdictPolicy::default();
    policy.metrics.values_mut().for_each(|of| of.measure.margin = f64::NAN);
    assert_eq!(start(policy), InvalidPolicy::Measure(Metric::Latency));
}

#[test]
fn a_policy_is_written_with_the_names_of_metrics() {
    let text = r#"{"alpha_promote":0.01,"metrics":{"custom:queue":{"measure":
        {"scale":{"rate":{"floor":0.01}},"worse":"higher","margin":0.1,"min_count":5},"need":"always"}}}"#;
    let policy: VerdictPolicy = serde_json::from_str(text).unwrap();
    assert_eq!(policy.metrics.keys().next(), Some(&custom("queue")));
    assert_eq!((policy.alpha_promote, policy.alpha_rollback), (0.01, 0.001));
    assert!(serde_json::from_str::<Metric>(r#""custom:""#).is_err());
    assert!(serde_json::from_str::<Metric>(r#""speed""#).is_err());
}

#[test]
fn telemetry_becomes_figures() {
    let mut version = VersionFigures::new(release("digits@2"));
    version.counts.ok = 9;
    version.counts.timeout = 1;
    version.counts.busy = 5;
    version.latency_ms.record(16.0);
    [0.25, -0.5].into_iter().for_each(|value| version.drift.record(value));
    let figures = figures_of(&version);
    assert_eq!(figures[&Metric::Errors], Sample { sum: 1.0, count: 10 });
    assert_eq!((figures[&Metric::Latency].count, figures[&Metric::Accuracy].count), (1, 0));
    assert_eq!(figures[&Metric::Drift], Sample { sum: -0.25, count: 2 });
}

#[test]
fn a_counter_is_a_share_of_inferences_and_a_gauge_the_mean_of_its_readings() {
    let mut version = VersionFigures::new(release("digits@2"));
    version.counts.ok = 40;
    [0.5, 0.7].into_iter().for_each(|value| version.confidence.record(value));
    let name = |text: &str| MetricName::new(text).unwrap();
    for value in [2.0, 5.0] {
        version.custom.record(&name("scrap"), CustomKind::Counter, value);
        version.custom.record(&name("queue"), CustomKind::Gauge, value);
    }
    let figures = figures_of(&version);
    assert_eq!(figures[&custom("scrap")], Sample { sum: 7.0, count: 40 });
    assert_eq!(figures[&custom("queue")], Sample { sum: 7.0, count: 2 });
    assert_eq!(figures[&Metric::Confidence], Sample { sum: 1.2, count: 2 });
}

/// Looks with a gauge, which on canaries stands at `factor` times what it was.
fn with_gauge(looks: Vec<Look>, name: &str, factor: f64) -> Vec<Look> {
    let with = |mut look: Look| {
        for (n, (device, figures)) in look.devices.iter_mut().enumerate() {
            let factor = if device.as_str().starts_with("canary") { factor } else { 1.0 };
            let wave = 1.0 + 0.01 * ((look.number as usize * 5 + n * 3) % 7) as f64;
            figures.insert(custom(name), Sample { sum: 30.0 * factor * wave, count: 6 });
        }
        look
    };
    looks.into_iter().map(with).collect()
}

fn asking_for(name: &str) -> VerdictPolicy {
    let mut policy = VerdictPolicy::default();
    let of = MetricPolicy { need: Need::Always, ..MetricPolicy::of(&custom(name)) };
    policy.metrics.insert(custom(name), of);
    policy
}

#[test]
fn a_gauge_that_gets_worse_degrades_a_candidate_whose_other_metrics_are_as_before() {
    let cohorts = cohorts(10, 20);
    let history = with_gauge(looks(0, 40, &cohorts, 1.0), "queue", 1.0);
    let after = with_gauge(looks(40, 60, &cohorts, 1.0), "queue", 1.5);
    let records = judged(asking_for("queue"), cohorts, &history, &after);
    let MetricVerdict::Degraded(why) = &records.last().unwrap().verdict else {
        panic!("{}", records.last().unwrap().verdict);
    };
    assert_eq!((&why.metric, why.threshold), (&custom("queue"), 1_000.0));
    assert!((why.reading.difference - 0.5).abs() < 0.05, "{why}");
    let lines = by_metric(records.last().unwrap());
    assert!(lines.iter().any(|line| line.starts_with("custom:queue") && line.contains("+0.")), "{lines:?}");
}

#[test]
fn a_metric_that_was_asked_for_and_is_not_there_holds_and_says_so() {
    let cohorts = cohorts(10, 20);
    let (history, after) = (looks(0, 40, &cohorts, 1.0), looks(40, 328, &cohorts, 1.0));
    let records = judged(asking_for("queue"), cohorts, &history, &after);
    let last = records.last().unwrap();
    let missing = Gap { metric: custom("queue"), why: GapWhy::NotReported { devices: 30 } };
    assert!(gaps(last.verdict.clone()).contains(&missing), "{}", last.verdict);
    assert!(last.verdict.to_string().contains("custom:queue: none of the 30 devices reported it"));
    assert!(by_metric(last).iter().any(|line| line.contains("none of the 30 devices")), "{last:?}");
    assert!(last.metrics.values().all(|of| of.e_not_worse >= 20.0), "the others would have passed");
}

#[test]
fn a_metric_that_the_candidate_stops_reporting_is_never_healthy() {
    let cohorts = cohorts(10, 20);
    let history = with_gauge(looks(0, 40, &cohorts, 1.0), "queue", 1.0);
    let mut after = with_gauge(looks(40, 328, &cohorts, 1.0), "queue", 1.0);
    for look in &mut after {
        for canary in &cohorts.canaries {
            look.devices.get_mut(canary).unwrap().remove(&custom("queue"));
        }
    }
    let last = judged(asking_for("queue"), cohorts, &history, &after).pop().unwrap();
    let few = Gap { metric: custom("queue"), why: GapWhy::FewLooks { looks: 0, needed: 12 } };
    assert_eq!(gaps(last.verdict), [few]);
}

#[test]
fn of_a_look_only_what_is_judged_is_kept() {
    let cohorts = cohorts(3, 5);
    let look = with_gauge(vec![look(1, &cohorts, 1.0)], "chatter", 1.0).remove(0);
    let kept = look.judged_by(&asking_for("queue"));
    let metrics: Vec<_> = kept.devices.values().next().unwrap().keys().cloned().collect();
    assert_eq!(metrics, [Metric::Latency, Metric::Errors]);
}

#[test]
fn the_curve_shows_how_evidence_grew_to_its_threshold() {
    let records = records(&cohorts(10, 20), 12, 1.1);
    let text = curve(&records, 6);
    assert_eq!(text.lines().count(), 8, "{text}");
    assert!(text.contains(&"█".repeat(24)) && text.contains("degraded at look"), "{text}");
    assert_eq!(curve(&[], 6), "no look yet\n");
    assert_eq!(curve(&records, 0).lines().count(), 3);
}

proptest! {
    #[test]
    fn stored_looks_give_the_same_evidence_to_the_bit(slower in 0.8_f64..1.3, stop in 1_usize..15) {
        let cohorts = cohorts(4, 20);
        let history = looks(0, 20, &cohorts, 1.0);
        let after = looks(20, 40, &cohorts, slower);
        let first = judged(VerdictPolicy::default(), cohorts.clone(), &history, &after);

        let stored: Vec<Look> = serde_json::from_str(&serde_json::to_string(&after).unwrap()).unwrap();
        let again = judged(VerdictPolicy::default(), cohorts.clone(), &history, &stored);
        prop_assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&again).unwrap());

        // A judge that was stored in the middle goes on as if nothing had happened.
        let mut judge = CanaryJudge::start(VerdictPolicy::default(), cohorts, &history).unwrap();
        after[..stop].iter().for_each(|look| drop(judge.observe(look).unwrap()));
        let mut back: CanaryJudge = serde_json::from_str(&serde_json::to_string(&judge).unwrap()).unwrap();
        prop_assert_eq!(&back, &judge);
        for (look, record) in after[stop..].iter().zip(&first[stop..]) {
            prop_assert_eq!(&back.observe(look).unwrap(), record);
        }
    }
}

/// Looks as the server makes them of what agents report: a day by halves of an hour, in each of which three features of a
/// device bring a window each. On canaries the candidate raises them by `risen`.
fn looks_at_drift(cohorts: &Cohorts, risen: f64) -> Vec<LookRecord> {
    let (before, after) = (release("digits@1"), release("digits@2"));
    let mut sums = BTreeMap::<(DeviceId, bool), VersionFigures>::new();
    let mut intervals = Intervals::default();
    let (mut history, mut since) = (vec![], vec![]);
    for number in 0..96_u64 {
        let is_since = number >= 48;
        for (n, device) in cohorts.canaries.iter().chain(&cohorts.controls).enumerate() {
            let has_candidate = is_since && cohorts.canaries.contains(device);
            let of = if has_candidate { &after } else { &before };
            let figures = sums
                .entry((device.clone(), has_candidate))
                .or_insert_with(|| VersionFigures::new(of.clone()));
            for feature in 0..3 {
                // Around nothing and below it too, as a figure is that has its noise floor taken off.
                let noise = 0.02 * (((number as usize * 7 + n * 3 + feature * 5) % 9) as f64 - 4.0);
                figures.drift.record(noise + if has_candidate { risen } else { 0.0 });
            }
        }
        let told = sums.iter().map(|((device, _), figures)| (device.clone(), figures.clone()));
        let tally = &tallies(told)[&before.model];
        let period = if is_since { Period::Since } else { Period::Before };
        let look = look_at(number, &intervals.advance(tally), cohorts, after.version, period);
        if is_since { since.push(look) } else { history.push(look) }
    }
    judged(VerdictPolicy::default(), cohorts.clone(), &history, &since)
}

#[test]
fn a_candidate_under_which_inputs_drift_is_condemned_for_it() {
    let last = looks_at_drift(&cohorts(10, 20), 0.4).pop().unwrap();
    let MetricVerdict::Degraded(why) = last.verdict else { panic!("{}", last.verdict) };
    assert_eq!(why.metric, Metric::Drift);
    assert!((why.reading.difference - 0.4).abs() < 0.1, "{why}");
}

#[test]
fn a_candidate_under_which_inputs_stay_as_they_were_is_cleared_of_drift() {
    let last = looks_at_drift(&cohorts(10, 20), 0.0).pop().unwrap();
    assert!(!matches!(last.verdict, MetricVerdict::Degraded(_)), "{}", last.verdict);
    assert!(last.metrics[&Metric::Drift].e_not_worse >= 20.0, "{last:?}");
}
