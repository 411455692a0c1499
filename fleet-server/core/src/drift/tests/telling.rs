use muster_sketch::quality::{QualityFinding, QualityKind};

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn broken(device: &str, kind: QualityKind) -> Found {
    let finding = QualityFinding { kind, count: 30, rows: 300, share: 0.1, expected: 0.0 };
    Found {
        feature: "level".into(),
        scope: sensor(device),
        raised_by: RaisedBy::Server,
        cause: Cause::Quality { finding, devices: 1 },
        evidence: None,
        category: None,
    }
}

fn alarm(found: Found) -> FleetAlarm {
    FleetAlarm::open(1, "digits@1".parse().unwrap(), found, START)
}

fn later(hours: u64) -> Timestamp {
    Timestamp(START.as_millis() + hours * HOUR_MS)
}

#[test]
fn the_same_once_more_is_the_same_alarm_whether_somebody_knows_or_not() {
    let mut known = alarm(broken("a-1", QualityKind::Missing));
    assert!(known.acknowledge("ann", false, later(1)) && !known.acknowledge("bob", false, later(1)));
    let found = vec![
        broken("a-1", QualityKind::Missing),
        broken("a-1", QualityKind::Stuck),
        broken("a-2", QualityKind::Missing),
    ];
    let reconciled = reconcile(vec![known], found.clone(), later(2), 86_400, 100);
    assert_eq!(reconciled.new, found[1..]);
    let [repeated] = reconciled.repeated.as_slice() else { panic!("{reconciled:?}") };
    assert_eq!((repeated.times, repeated.last_at, repeated.opened_at), (2, later(2), START));
    assert_eq!(repeated.state.word(), "acknowledged");
}

#[test]
fn a_drift_of_a_release_that_is_still_there_is_told_again_but_not_every_minute() {
    let mut plant = Plant::learnt(2);
    let found = plant.until_drift(3, &|_, value| value + 1.0);
    assert_eq!(found.scope, Scope::World);
    let mut known = alarm(found.clone());
    known.acknowledge("ann", false, later(0));
    let mut told = Vec::new();
    for minutes in [10, 59, 60, 61, 119, 120, 130] {
        let now = Timestamp(START.as_millis() + minutes * 60_000);
        let reconciled = reconcile(vec![known], vec![found.clone()], now, 0, 100);
        told.extend(reconciled.retold.iter().map(|_| minutes));
        known = reconciled.repeated[0].clone();
    }
    assert_eq!((told, known.times), (vec![60, 120], 8));
    for found in [broken("a-1", QualityKind::Missing), Found { scope: sensor("a-1"), ..found }] {
        let reconciled = reconcile(vec![alarm(found.clone())], vec![found], later(48), 0, 100);
        assert_eq!((reconciled.repeated.len(), reconciled.retold.len()), (1, 0), "no rollout is concerned");
    }
}

#[test]
fn what_was_closed_a_moment_ago_is_not_told_again_at_once() {
    let mut known = alarm(broken("a-1", QualityKind::Missing));
    assert!(known.close("ann", "cable replaced", later(1)) && !known.close("ann", "again", later(2)));
    let again = || vec![broken("a-1", QualityKind::Missing)];
    let told = |hours| reconcile(vec![known.clone()], again(), later(hours), 86_400, 100).new.len();
    assert_eq!((told(2), told(24), told(25)), (0, 0, 1));
}

#[test]
fn more_findings_than_a_person_reads_are_counted_and_not_told() {
    let found: Vec<_> = (0..70).map(|n| broken(&format!("d-{n}"), QualityKind::Stuck)).collect();
    let reconciled = reconcile(vec![], found.clone(), START, 0, 1_000);
    assert_eq!((reconciled.new.len(), reconciled.left_out), (MAX_FOUND, 20));
    let reconciled = reconcile(vec![], found, START, 0, 3);
    assert_eq!((reconciled.new.len(), reconciled.left_out), (3, 67));
}

#[test]
fn an_alarm_survives_its_json() {
    let mut plant = Plant::learnt(2);
    let found = plant.until_drift(3, &|_, value| value + 1.0);
    let mut alarm = alarm(found);
    alarm.acknowledge("ann", true, later(3));
    let text = serde_json::to_string(&alarm).unwrap();
    assert_eq!(serde_json::from_str::<FleetAlarm>(&text).unwrap(), alarm);
    assert!(text.contains(r#""state":{"state":"acknowledged","by":"ann""#), "{text}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let fine = DriftSettings { one_false_alarm_in_years: 10.0, suppress_secs: 0, relearn: Relearn::Never };
    assert_eq!(fine.check(), Ok(()));
    for years in [0.0, 0.01, 1_001.0, f64::NAN, f64::INFINITY] {
        assert!(DriftSettings { one_false_alarm_in_years: years, ..fine }.check().is_err(), "{years}");
    }
    assert!(DriftSettings { suppress_secs: 32 * 86_400, ..fine }.check().is_err());
}

#[test]
fn the_largest_fleet_at_the_shortest_interval_has_a_rule() {
    let plant = Plant::new(1);
    let settings =
        DriftSettings { one_false_alarm_in_years: 1_000.0, suppress_secs: 0, relearn: Relearn::Never };
    let scores: Vec<_> = (0..256).map(|_| plant.scores[0].clone()).collect();
    let rule = rule(&settings, &scores, Watched { devices: 20_000, groups: 1_000, versions: 3 }, 1).unwrap();
    assert!(rule.threshold.value() > 0.99e15);
}

#[test]
fn every_version_has_a_world_that_may_alarm_and_raises_what_an_alarm_takes() {
    let plant = Plant::new(1);
    let settings =
        DriftSettings { one_false_alarm_in_years: 10.0, suppress_secs: 0, relearn: Relearn::Never };
    let threshold = |versions| {
        let watched = Watched { devices: 2, groups: 0, versions };
        rule(&settings, &plant.scores, watched, CHECK_SECS).unwrap().threshold.value()
    };
    // Two devices and a world, or two worlds.
    assert!((threshold(2) / threshold(1) - 4.0 / 3.0).abs() < 1e-9);
}
