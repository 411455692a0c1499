//! Windows add up to the same to the bit whatever comes twice, late or in another order; periods hold what came before their end.

use std::{collections::BTreeSet, sync::Arc};

use fleet_core::drift::{
    ALL, AlarmState, Cause, DriftSettings, FeatureStatus, FleetAlarm, Found, Keep, Order, RaisedBy, Relearn,
    Sums, Whom,
};
use muster_sketch::{
    detector::Scope,
    quality::{QualityFinding, QualityKind},
    reference::{FeatureReference, NumericReference, Reference, ReferenceValues},
    window::{FeatureWindow, Origin, Window},
};

use super::*;

mod strata;

on_each_database! {
    windows_add_up_to_the_same_to_the_bit_however_they_come,
    a_window_that_comes_late_is_where_the_others_of_its_time_have_gone,
    what_comes_while_a_check_is_under_way_is_of_the_next_one,
    what_was_counted_before_a_new_baseline_is_no_part_of_it,
    what_is_known_of_a_release_goes_with_the_last_device_of_its_fleet,
    who_takes_a_free_name_over_is_not_held_against_the_device_before,
    a_device_that_makes_up_what_it_runs_makes_no_rows_without_end,
    a_name_that_is_taken_over_is_noted_however_many_orders_wait,
    a_sum_that_cannot_be_read_keeps_no_window_out,
    orders_of_a_release_that_cannot_be_checked_are_given_up_after_a_day_of_checks,
    what_cannot_be_read_is_named_with_its_row,
    an_order_for_everyone_is_one_row_whatever_the_number_of_devices,
    alarms_are_numbered_for_ever_and_found_by_what_they_are_about,
    settings_are_of_one_model_and_read_as_they_were_written,
}

const KEEP: Keep = Keep { minutes_secs: 6 * 3_600, hours_secs: 14 * 86_400, days_secs: 400 * 86_400 };

fn reference() -> Arc<Reference> {
    let sample: Vec<f32> = (0..2_000_u16).map(|row| f32::from(row % 400)).collect();
    let values = ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap());
    Arc::new(Reference::new(vec![FeatureReference { name: "level".into(), values }]).unwrap())
}

/// Window `sequence` of a device, which ended at `to`.
fn window(device: &str, sequence: u64, to: Timestamp) -> SketchRow {
    let reference = reference();
    let mut recorder = FeatureWindow::new(reference.clone());
    for row in 0..20 + sequence % 7 {
        recorder.record(&[(row * sequence % 400) as f32 + 0.5], &[]).unwrap();
    }
    let (to_ms, boot) = (to.as_millis(), BootId::new("b1").unwrap());
    let origin = Origin { device: device.into(), boot: boot.to_string() };
    let features = recorder.seal().unwrap();
    let window = Window {
        reference: reference.id(),
        origin,
        sequence,
        from_ms: to_ms - 600_000,
        to_ms,
        stride: 1,
        features,
    };
    SketchRow { device: DeviceId::new(device).unwrap(), boot, release: release(), window }
}

fn at(minutes: u64) -> Timestamp {
    NOW + Duration::from_secs(60 * minutes)
}

fn labels() -> Vec<String> {
    vec!["site".into()]
}

async fn add(store: &Store, rows: &[SketchRow], now: Timestamp) -> LeftOutOfWindows {
    store.insert_windows(rows, &KEEP, &labels(), now).await.unwrap()
}

async fn add_devices(store: &Store, names: &[&str]) {
    for name in names {
        assert!(add_device_named(store, DeviceId::new(*name).unwrap()).await);
    }
}

/// All sums of one stratum of a release as they are written.
async fn sums(store: &Store, release: &ReleaseId, stratum: &str) -> Vec<(u64, u64, String)> {
    let mut all = Vec::new();
    let strata = Strata::One(stratum.into());
    let complete = store.each_sum(release, &strata, 0..u64::MAX >> 1, |row| {
        all.push((row.span_secs, row.start_secs, serde_json::to_string(&row.sums).unwrap()));
        Ok(())
    });
    assert!(complete.await.unwrap());
    all
}

async fn fold(store: &Store, now: Timestamp) {
    while store.fold_sums(&KEEP, now).await.unwrap() {}
}

async fn close(store: &Store) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let before = Store::drift_period(&mut tx).await.unwrap();
    Store::save_drift_period(&mut tx, &Period { current: before.current + 1, ..before }).await.unwrap();
    tx.commit().await.unwrap();
    before.current
}

async fn pending(store: &Store, period: u64) -> Vec<(String, Sums)> {
    let rows = store.pending_after(&release(), period, ("", 0)).await.unwrap();
    rows.into_iter().map(|row| (row.device, row.sums)).collect()
}

async fn windows_add_up_to_the_same_to_the_bit_however_they_come(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2", "b-1", "b-2"]).await;
    let other: ReleaseId = "digits@3".parse().unwrap();
    let named = |n: u64| (if n.is_multiple_of(2) { 1 } else { 2 }, at(3 * n));
    let straight: Vec<_> = (1..=20).map(|n| window(&format!("a-{}", named(n).0), n, named(n).1)).collect();
    let shuffled = (0..40).map(|n| 1 + (n * 7) % 20);
    let shuffled: Vec<_> = shuffled
        .map(|n| SketchRow { release: other.clone(), ..window(&format!("b-{}", named(n).0), n, named(n).1) })
        .collect();
    let now = at(90);
    add(&store, &straight, now).await;
    for row in &shuffled {
        add(&store, std::slice::from_ref(row), now).await;
    }
    for stratum in [ALL, "site=berlin"] {
        let told = sums(&store, &release(), stratum).await;
        assert_eq!(told.len(), 20, "a row for each minute in which a window ended");
        assert_eq!(told, sums(&store, &other, stratum).await, "{stratum}");
    }
    add(&store, &[window("nobody", 1, now)], now).await;
    assert_eq!(sums(&store, &release(), ALL).await.len(), 20, "who is unknown adds nothing");
}

async fn a_window_that_comes_late_is_where_the_others_of_its_time_have_gone(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "b-1"]).await;
    let late: ReleaseId = "digits@3".parse().unwrap();
    let rows: Vec<_> = (1..=30).map(|n| window("a-1", n, at(17 * n))).collect();
    for row in &rows {
        add(&store, std::slice::from_ref(row), at(600)).await;
    }
    for days in [0, 3, 20] {
        let now = at(600 + days * 1_440);
        fold(&store, now).await;
    }
    let now = at(600 + 20 * 1_440);
    let late_rows: Vec<_> =
        (1..=30).map(|n| SketchRow { release: late.clone(), ..window("b-1", n, at(17 * n)) }).collect();
    add(&store, &late_rows, now).await;
    let told = sums(&store, &release(), ALL).await;
    assert_eq!(told, sums(&store, &late, ALL).await);
    assert_eq!(told.iter().map(|(span, ..)| *span).collect::<Vec<_>>(), [86_400], "all of it is a day now");
    fold(&store, at(500 * 1_440)).await;
    assert!(sums(&store, &release(), ALL).await.is_empty(), "and days are kept for a year and a month");
}

async fn what_comes_while_a_check_is_under_way_is_of_the_next_one(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    add(&store, &[window("a-1", 1, at(1)), window("a-2", 1, at(1)), window("a-1", 2, at(11))], at(12)).await;
    let period = close(&store).await;
    add(&store, &[window("a-1", 3, at(21))], at(22)).await;
    let told = pending(&store, period).await;
    assert_eq!(
        told.iter().map(|(device, sums)| (device.as_str(), sums.windows)).collect::<Vec<_>>(),
        [("a-1", 2), ("a-2", 1)]
    );
    assert_eq!(store.releases_to_check(period).await.unwrap(), [release()]);
    assert_eq!(store.count_pending(&release(), period).await.unwrap(), 2);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::drift_period(&mut tx).await.unwrap().due(), Some(period));
    let nothing = BTreeSet::new();
    assert_eq!(Store::end_drift_check(&mut tx, period, &nothing, at(23)).await.unwrap(), 0);
    assert_eq!(Store::drift_period(&mut tx).await.unwrap().due(), None);
    tx.commit().await.unwrap();
    assert!(pending(&store, period).await.is_empty());
    assert_eq!(pending(&store, period + 1).await[0].1.windows, 1, "nothing is lost");
    let devices = store.drift_devices(&release(), &labels(), at(23)).await.unwrap();
    assert_eq!(devices.len(), 2);
    assert_eq!(devices[0].1[0].to_string(), "site=berlin");
    let silent = store.drift_devices(&release(), &labels(), at(100 * 1_440)).await.unwrap();
    assert!(silent.is_empty(), "a month of silence ends it");
}

async fn what_was_counted_before_a_new_baseline_is_no_part_of_it(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    add(&store, &[window("a-1", 1, at(1)), window("a-2", 1, at(1))], at(2)).await;
    let order = Order::Relearn { feature: None, whom: Whom::Device("a-1".into()) };
    let mut tx = store.begin().await.unwrap();
    assert!(Store::order_drift(&mut tx, &release(), &order).await.unwrap());
    Store::count_anew(&mut tx, &release(), Some("a-1"), at(5)).await.unwrap();
    tx.commit().await.unwrap();
    add(&store, &[window("a-1", 2, at(4)), window("a-1", 3, at(6))], at(7)).await;
    let period = close(&store).await;
    let told = pending(&store, period).await;
    assert_eq!(
        told.iter().map(|(device, sums)| (device.as_str(), sums.windows)).collect::<Vec<_>>(),
        [("a-1", 1), ("a-2", 1)]
    );
    assert_eq!(store.drift_orders(&release(), period).await.unwrap(), [(period, order)]);
    assert_eq!(store.drift_orders(&release(), period - 1).await.unwrap(), []);
    let all = sums(&store, &release(), ALL).await;
    assert_eq!(all.len(), 3, "what is looked at keeps all of it");
}

async fn what_is_known_of_a_release_goes_with_the_last_device_of_its_fleet(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    let old: ReleaseId = "digits@1".parse().unwrap();
    add(&store, &[SketchRow { release: old.clone(), ..window("a-1", 1, at(1)) }], at(2)).await;
    add(&store, &[window("a-2", 1, at(40 * 1_440))], at(40 * 1_440)).await;
    let status = FeatureStatus {
        at: NOW,
        evidence: 0.5,
        threshold: 1e6,
        learning: 1,
        watching: 0,
        suppressed: 0,
        devices: 1,
        samples: 20,
        leaders: vec![],
        devices_left_out: 0,
        groups_left_out: 0,
        findings_left_out: 0,
    };
    let known = DriftState { period: 1, state: Packed::of(&"what is known") };
    let mut tx = store.begin().await.unwrap();
    for release in [&old, &release()] {
        Store::save_drift_state(&mut tx, release, "level", &known, &status).await.unwrap();
        assert_eq!(Store::drift_state_period(&mut tx, release, "level").await.unwrap(), 1);
    }
    Store::end_drift_check(&mut tx, 1, &BTreeSet::new(), at(40 * 1_440)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.drift_state(&old, "level").await.unwrap(), None);
    assert_eq!(store.drift_state(&release(), "level").await.unwrap(), Some(known));
    let statuses = store.drift_statuses(&release().model).await.unwrap();
    assert_eq!(statuses, [(release(), "level".to_owned(), status)]);
}

async fn who_takes_a_free_name_over_is_not_held_against_the_device_before(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1"]).await;
    add(&store, &[window("a-1", 1, at(1))], at(2)).await;
    let id = DeviceId::new("a-1").unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(Store::revoke_device(&mut tx, &id).await.unwrap());
    tx.commit().await.unwrap();
    assert!(store.drift_devices(&release(), &labels(), at(2)).await.unwrap().is_empty());
    add_devices(&store, &["a-1"]).await;
    let period = close(&store).await;
    assert!(pending(&store, period).await.is_empty());
    let forget = Order::Forget { device: "a-1".into() };
    assert_eq!(store.drift_orders(&release(), period).await.unwrap(), [(period, forget)]);
}

async fn a_device_that_makes_up_what_it_runs_makes_no_rows_without_end(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1"]).await;
    let made_up = |n: u64| {
        let release = format!("digits@{n}").parse().unwrap();
        SketchRow { release, ..window("a-1", n, at(1)) }
    };
    let rows: Vec<_> = (1..=70).map(made_up).collect();
    assert_eq!(add(&store, &rows, at(2)).await.releases, 6);
    let period = close(&store).await;
    assert_eq!(store.releases_to_check(period).await.unwrap().len(), 64);
}

async fn a_name_that_is_taken_over_is_noted_however_many_orders_wait(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1"]).await;
    add(&store, &[window("a-1", 1, at(1))], at(2)).await;
    let order = Order::Relearn { feature: None, whom: Whom::Everyone };
    let mut tx = store.begin().await.unwrap();
    sqlx::query(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000) \
         INSERT INTO drift_orders (sequence, model, version, period, document) \
         SELECT n, 'faces', 1, 1, '' FROM numbers",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    assert!(!Store::order_drift(&mut tx, &release(), &order).await.unwrap());
    assert!(Store::revoke_device(&mut tx, &DeviceId::new("a-1").unwrap()).await.unwrap());
    tx.commit().await.unwrap();
    add_devices(&store, &["a-1"]).await;
    let orders = store.drift_orders(&release(), 1).await.unwrap();
    assert_eq!(orders, [(1, Order::Forget { device: "a-1".into() })]);
}

async fn a_sum_that_cannot_be_read_keeps_no_window_out(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2"]).await;
    add(&store, &[window("a-1", 1, at(1)), window("a-2", 1, at(1))], at(2)).await;
    let mut tx = store.begin().await.unwrap();
    for spoil in
        ["UPDATE drift_pending SET sums = 'x' WHERE device = 'a-1'", "UPDATE drift_sums SET sums = 'x'"]
    {
        sqlx::query(spoil).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    add(&store, &[window("a-1", 2, at(1)), window("a-2", 2, at(1))], at(2)).await;
    assert_eq!(sums(&store, &release(), ALL).await.len(), 1);
    let period = close(&store).await;
    let windows: Vec<_> = pending(&store, period).await.into_iter().map(|(_, sums)| sums.windows).collect();
    assert_eq!(windows, [1, 2]);

    add(&store, &[window("a-1", 3, at(3))], at(4)).await;
    let mut tx = store.begin().await.unwrap();
    let spoil =
        "UPDATE drift_sums SET sums = 'x' WHERE start_secs = (SELECT MIN(start_secs) FROM drift_sums)";
    sqlx::query(spoil).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    fold(&store, at(1_440)).await;
    assert_eq!(windows_of(&store, ALL).await, 1, "what can be read of the hour is kept");
    assert_eq!(sums(&store, &release(), ALL).await.len(), 1);
}

/// Windows in all sums of a stratum.
async fn windows_of(store: &Store, stratum: &str) -> u64 {
    let mut windows = 0;
    let count = |row: SummedRow| {
        windows += row.sums.windows;
        Ok(())
    };
    assert!(store.each_sum(&release(), &Strata::One(stratum.into()), 0..u64::MAX >> 1, count).await.unwrap());
    windows
}

async fn end_check_aside(store: &Store) {
    let period = close(store).await;
    let mut tx = store.begin().await.unwrap();
    Store::end_drift_check(&mut tx, period, &BTreeSet::from([release()]), NOW).await.unwrap();
    tx.commit().await.unwrap();
}

async fn orders_of_a_release_that_cannot_be_checked_are_given_up_after_a_day_of_checks(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    let order = Order::Relearn { feature: None, whom: Whom::Everyone };
    assert!(Store::order_drift(&mut tx, &release(), &order).await.unwrap());
    sqlx::query("UPDATE drift_orders SET document = 'x'").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    for _ in 0..25 {
        end_check_aside(&store).await;
    }
    assert_eq!(store.releases_to_check(99).await.unwrap(), [release()], "somebody has a day to see to it");
    end_check_aside(&store).await;
    assert_eq!(store.releases_to_check(99).await.unwrap(), []);
}

async fn what_cannot_be_read_is_named_with_its_row(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1"]).await;
    add(&store, &[window("a-1", 1, at(1))], at(2)).await;
    let mut tx = store.begin().await.unwrap();
    let order = Order::Relearn { feature: None, whom: Whom::Everyone };
    assert!(Store::order_drift(&mut tx, &release(), &order).await.unwrap());
    let id = Store::next_alarm(&mut tx).await.unwrap();
    Store::save_alarm(&mut tx, &alarm(id, "digits", "level")).await.unwrap();
    for spoil in [
        "UPDATE drift_orders SET document = 'x'",
        "UPDATE drift_alarms SET document = 'x'",
        "UPDATE drift_pending SET sums = 'x'",
        "UPDATE devices SET labels = 'x'",
    ] {
        sqlx::query(spoil).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    let told = [
        (store.drift_orders(&release(), 9).await.unwrap_err(), "order: drift_orders, sequence 1: "),
        (store.alarm(id).await.unwrap_err(), "drift alarm: drift_alarms, id 1: "),
        (
            store.pending_after(&release(), 9, ("", 0)).await.unwrap_err(),
            "sum of counts: drift_pending, device a-1, period 1: ",
        ),
        (store.drift_devices(&release(), &labels(), NOW).await.unwrap_err(), "labels: devices, id a-1: "),
    ];
    for (error, wanted) in told {
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

async fn an_order_for_everyone_is_one_row_whatever_the_number_of_devices(scene: &Scene) {
    let store = scene.open().await;
    add_devices(&store, &["a-1", "a-2", "a-3"]).await;
    let of_each = |n| ["a-1", "a-2", "a-3"].map(|device| window(device, n, at(n)));
    add(&store, &of_each(1), at(2)).await;
    let mut tx = store.begin().await.unwrap();
    Store::count_feature_anew(&mut tx, &release(), None, 0, at(5)).await.unwrap();
    let rows = sqlx::query("SELECT device FROM drift_anew").fetch_all(&mut *tx).await.unwrap();
    assert_eq!(rows.len(), 1);
    tx.commit().await.unwrap();
    add(&store, &of_each(3), at(6)).await;
    let period = close(&store).await;
    let before: Vec<_> = pending(&store, period).await.iter().map(|(_, sums)| sums.rows()).collect();
    assert_eq!(before, [0, 0, 0], "what ended before the order counts for nobody");
    add(&store, &of_each(6), at(7)).await;
    let period = close(&store).await;
    let after: Vec<_> = pending(&store, period).await.iter().map(|(_, sums)| sums.rows()).collect();
    assert_eq!(after.len(), 6);
    assert_eq!(after.iter().filter(|rows| **rows > 0).count(), 3);
}

fn alarm(id: u64, model: &str, feature: &str) -> FleetAlarm {
    let finding =
        QualityFinding { kind: QualityKind::Stuck, count: 300, rows: 300, share: 1.0, expected: 0.0 };
    let found = Found {
        feature: feature.into(),
        scope: Scope::Sensor { device: "a-1".into() },
        raised_by: RaisedBy::Server,
        cause: Cause::Quality { finding, devices: 1 },
        category: None,
        evidence: None,
    };
    FleetAlarm::open(id, format!("{model}@2").parse().unwrap(), found, at(id))
}

async fn alarms_are_numbered_for_ever_and_found_by_what_they_are_about(scene: &Scene) {
    let store = scene.open().await;
    let mut tx = store.begin().await.unwrap();
    let mut alarms = Vec::new();
    for (model, feature) in [("digits", "level"), ("digits", "ink"), ("faces", "level")] {
        let id = Store::next_alarm(&mut tx).await.unwrap();
        alarms.push(alarm(id, model, feature));
        Store::save_alarm(&mut tx, alarms.last().unwrap()).await.unwrap();
    }
    assert!(alarms[1].close("ann", "cable", at(60)));
    Store::save_alarm(&mut tx, &alarms[1]).await.unwrap();
    let model = ModelName::new("digits").unwrap();
    assert_eq!(Store::count_open_alarms(&mut tx, &model).await.unwrap(), 1);
    assert_eq!(Store::open_alarms_of(&mut tx, &release()).await.unwrap(), [alarms[0].clone()]);
    let known = |feature: &'static str, since| (feature, since);
    for ((feature, since), count) in
        [(known("ink", at(60)), 1), (known("ink", at(61)), 0), (known("level", at(61)), 1)]
    {
        assert_eq!(Store::known_alarms(&mut tx, &release(), feature, since).await.unwrap().len(), count);
    }
    assert_eq!(Store::alarm_to_change(&mut tx, 2).await.unwrap().as_ref(), Some(&alarms[1]));
    tx.commit().await.unwrap();
    let ids = |filter: AlarmFilter| {
        let store = store.clone();
        async move { store.alarms(&filter).await.unwrap().iter().map(|alarm| alarm.id).collect::<Vec<_>>() }
    };
    assert_eq!(ids(AlarmFilter::default()).await, [3, 2, 1]);
    assert_eq!(ids(AlarmFilter { model: Some(model), ..AlarmFilter::default() }).await, [2, 1]);
    assert_eq!(ids(AlarmFilter { state: Some("open".into()), ..AlarmFilter::default() }).await, [3, 1]);
    assert_eq!(ids(AlarmFilter { feature: Some("level".into()), ..AlarmFilter::default() }).await, [3, 1]);
    assert_eq!(ids(AlarmFilter { since: Some(at(3)), ..AlarmFilter::default() }).await, [3]);
    assert!(matches!(store.alarm(2).await.unwrap().unwrap().state, AlarmState::Closed { .. }));
    fold(&store, at(402 * 1_440)).await;
    assert_eq!(ids(AlarmFilter::default()).await, [3, 1], "what is over is removed after a year and a month");
    let mut tx = store.begin().await.unwrap();
    assert_eq!(Store::next_alarm(&mut tx).await.unwrap(), 4);
}

async fn settings_are_of_one_model_and_read_as_they_were_written(scene: &Scene) {
    let store = scene.open().await;
    let model = ModelName::new("digits").unwrap();
    assert_eq!(store.drift_settings(&model).await.unwrap(), None);
    for years in [10.0, 0.5] {
        let settings = DriftSettings {
            one_false_alarm_in_years: years,
            suppress_secs: 60,
            relearn: Relearn::WhenAcknowledged,
        };
        let mut tx = store.begin().await.unwrap();
        Store::save_drift_settings(&mut tx, &model, &settings).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.drift_settings(&model).await.unwrap(), Some(settings));
    }
    assert_eq!(store.drift_settings(&ModelName::new("faces").unwrap()).await.unwrap(), None);
}
