use std::time::Duration;

use muster_sketch::{
    detector::Sign,
    reference::{FeatureReference, NumericReference, Reference, ReferenceId, ReferenceValues},
    window::{FeatureCounts, FeatureWindow, MISSING, NumericCounts, Window},
};
use serde_json::json;
use shared::{
    ReleaseId,
    manifest::{CapturePolicy, DriftGuardrail, DriftSpec, FeatureSource, Reading, Side},
    sketch::SketchMessage,
    telemetry::Sums,
};

use super::{kept::Kept, *};
use crate::{
    daemon::telemetry::courier::{FailsOnce, Letter},
    runner::{LoadRequest, Pace, Paced},
};

const DAY_MS: u64 = 86_400_000;

/// Values between 0 and 1 (a linear congruential generator).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }
}

fn release(text: &str) -> ReleaseId {
    text.parse().unwrap()
}

fn model() -> Digest {
    Digest::of(b"model")
}

/// Two numbers.
fn spec(guardrail: Option<f64>) -> DriftSpec {
    let mut noise = Noise(1);
    let sample: Vec<f32> = (0..10_000).map(|_| noise.next()).collect();
    let feature = |name: &str| {
        let values = ReferenceValues::Numeric(NumericReference::from_sample(name, &sample).unwrap());
        FeatureReference { name: name.into(), values }
    };
    let source =
        |index| FeatureSource { side: Side::Input, tensor: "x".into(), reading: Reading::Element { index } };
    DriftSpec {
        sources: vec![source(0), source(1)],
        reference: Reference::new(vec![feature("quiet"), feature("loud")]).unwrap(),
        capture: CapturePolicy { every: None, window_secs: 600, min_rows: 50 },
        guardrail: guardrail.map(|one_false_alarm_in_years| DriftGuardrail { one_false_alarm_in_years }),
    }
}

/// What a runner tells of `rows` rows, with the second feature higher by `shift`.
fn sketched(spec: &DriftSpec, rows: usize, shift: f32, noise: &mut Noise) -> Sketched {
    Sketched {
        release: release("digits@1"),
        reference: spec.reference.id(),
        age_ms: 1_000,
        every: 2,
        features: counts(spec, rows, shift, noise),
    }
}

fn counts(spec: &DriftSpec, rows: usize, shift: f32, noise: &mut Noise) -> Vec<FeatureCounts> {
    let mut window = FeatureWindow::new(Arc::new(spec.reference.clone()));
    for _ in 0..rows {
        window.record(&[noise.next(), noise.next() + shift], &[]).unwrap();
    }
    window.seal().unwrap()
}

fn book(kept: Vec<Kept>) -> Book {
    Book::new(Origin { device: "cam-1".into(), boot: "boot".into() }, kept)
}

fn watching(spec: &DriftSpec) -> Book {
    let mut book = book(vec![]);
    book.watch(&release("digits@1"), model(), spec).unwrap();
    book
}

/// Takes a window of 200 rows in that ends at `at_ms`.
fn close(book: &mut Book, spec: &DriftSpec, shift: f32, at_ms: u64, noise: &mut Noise) -> Closed {
    let sketched = sketched(spec, 200, shift, noise);
    book.close(sketched, Timestamp(at_ms - 1_000), Timestamp(at_ms)).unwrap()
}

fn read(message: &[u8], reference: &Reference) -> (ReleaseId, Window) {
    let message = SketchMessage::decode(message).unwrap();
    (message.release, Window::decode(message.window, reference).unwrap())
}

/// What was written, as the next run reads it.
fn kept(changes: Vec<Change>) -> Vec<Kept> {
    let kept = changes.into_iter().map(|change| match change {
        Change::Write(kept) => serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap(),
        Change::Drop(release) => panic!("{release} is not dropped"),
    });
    kept.collect()
}

#[test]
fn a_window_travels_with_its_name_and_what_it_says_is_told_with_its_version() {
    let (spec, mut noise) = (spec(None), Noise(2));
    let mut book = watching(&spec);
    let told = sketched(&spec, 400, 0.0, &mut noise);
    let closed = book.close(told.clone(), Timestamp(5_000), Timestamp(9_000)).unwrap();
    let (named, window) = read(&closed.message, &spec.reference);
    assert_eq!((named, window.sequence, window.stride), (release("digits@1"), 1, 2));
    assert_eq!((window.from_ms, window.to_ms, window.origin.boot.as_str()), (5_000, 9_000, "boot"));
    assert_eq!(window.features, told.features);
    let Sums { sum, count } = closed.figures.drift;
    assert!(count == 2 && sum.abs() < 0.1, "about nothing without drift: {sum}");
    let drifted = close(&mut book, &spec, 0.5, 20_000, &mut noise);
    assert!(drifted.figures.drift.sum > 0.5 && drifted.figures.is_plausible(), "{drifted:?}");
    assert!(drifted.alarms.is_empty(), "without a guardrail the device says nothing");
    assert_eq!(read(&drifted.message, &spec.reference).1.sequence, 2);
}

#[test]
fn numbers_of_windows_are_unique_over_all_releases_of_a_run() {
    let (spec, mut noise) = (spec(None), Noise(3));
    let mut book = watching(&spec);
    book.watch(&release("faces@4"), Digest::of(b"faces"), &spec).unwrap();
    let mut numbers = vec![];
    for of in ["digits@1", "faces@4", "digits@1"] {
        let told = Sketched { release: release(of), ..sketched(&spec, 60, 0.0, &mut noise) };
        let closed = book.close(told, Timestamp(0), Timestamp(1)).unwrap();
        let (named, window) = read(&closed.message, &spec.reference);
        assert_eq!(named, release(of));
        numbers.push(window.sequence);
    }
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn what_a_runner_cannot_have_counted_does_not_leave() {
    let (spec, mut noise) = (spec(None), Noise(4));
    let mut book = watching(&spec);
    let mut refused = |change: &dyn Fn(&mut Sketched)| {
        let mut told = sketched(&spec, 60, 0.0, &mut noise);
        change(&mut told);
        book.close(told, Timestamp(0), Timestamp(1)).unwrap_err()
    };
    assert!(refused(&|told| told.release = release("digits@2")).contains("not watched"));
    assert!(refused(&|told| told.reference = ReferenceId::from(7)).contains("reference"));
    assert!(refused(&|told| told.features.truncate(1)).contains("features"));
    assert!(refused(&|told| told.features.clear()).contains("0 rows"));
    let few = counts(&spec, 49, 0.0, &mut Noise(5));
    assert!(refused(&|told| told.features.clone_from(&few)).contains("49 rows"));
    let mixed = vec![few[0].clone(), counts(&spec, 60, 0.0, &mut Noise(5))[1].clone()];
    assert!(refused(&|told| told.features.clone_from(&mixed)).contains("rows"));
    let good = close(&mut book, &spec, 0.0, 2_000, &mut Noise(6));
    assert_eq!(read(&good.message, &spec.reference).1.sequence, 1, "what is dropped takes no number");
}

/// A window of sixty rows, of which only the first have a second feature.
fn with_few(spec: &DriftSpec, values: &[f32]) -> Vec<FeatureCounts> {
    let (mut window, mut noise) = (FeatureWindow::new(Arc::new(spec.reference.clone())), Noise(13));
    for row in 0..60 {
        window.record(&[noise.next(), values.get(row).copied().unwrap_or(MISSING)], &[]).unwrap();
    }
    window.seal().unwrap()
}

fn numeric(counts: &FeatureCounts) -> &NumericCounts {
    match counts {
        FeatureCounts::Numeric(counts) => counts,
        FeatureCounts::Category(_) => panic!("{counts:?}"),
    }
}

#[test]
fn of_a_feature_with_few_values_only_the_bins_leave_the_device() {
    let spec = spec(None);
    let mut book = watching(&spec);
    let mut tell = |values: &[f32]| {
        let told = Sketched { features: with_few(&spec, values), ..sketched(&spec, 60, 0.0, &mut Noise(1)) };
        let closed = book.close(told.clone(), Timestamp(0), Timestamp(1)).unwrap();
        let left = read(&closed.message, &spec.reference).1.features;
        assert_eq!(left[0], told.features[0], "the other feature has its values");
        (numeric(&told.features[1]).clone(), numeric(&left[1]).clone())
    };
    let many: Vec<f32> = (0..20_u8).map(|n| f32::from(n) / 20.0).collect();
    let (counted, left) = tell(&many);
    assert_eq!(counted, left);
    for few in [&[0.123_456][..], &[0.111, 0.5, 0.987], &[-7.5, 42.0], &many[1..]] {
        let (counted, left) = tell(few);
        assert_eq!((left.bins(), left.missing(), left.rows()), (counted.bins(), counted.missing(), 60));
        let ((low, high), (lowest, highest)) = (left.range().unwrap(), counted.range().unwrap());
        assert!(low != lowest && high != highest, "{few:?}: {low} to {high}");
        assert_ne!(left.moments(), counted.moments(), "{few:?}");
        let mean = |of: &NumericCounts| of.moments().mean(of.finite()).unwrap();
        let is_inside = few.iter().all(|value| (0.0..1.0).contains(value));
        assert!(!is_inside || (mean(&left) - mean(&counted)).abs() < 0.1, "{few:?}: it stays about there");
    }
    let (alike, apart) = (tell(&[0.5, 0.5, 0.5]), tell(&[0.5, 0.500_1, 0.500_2]));
    assert_ne!(alike.0.longest_run(), apart.0.longest_run());
    assert_eq!(alike.1, apart.1, "not even that they are one and the same");
}

#[test]
fn what_was_measured_of_a_release_is_known_in_the_next_run_and_not_of_another_model() {
    let spec = spec(None);
    let mut first = watching(&spec);
    let reference = spec.reference.id();
    let pace = Pace { every: 9, beyond_limit: false, rows: 5_000 };
    let name = release("digits@1");
    assert_eq!(first.every(&name), None);
    first.paced(&Paced { release: name.clone(), reference: ReferenceId::from(7), pace });
    first.paced(&Paced { release: name.clone(), reference, pace: Pace { every: 0, ..pace } });
    assert!(first.every(&name).is_none() && first.changes(Hurry::Now).is_empty());
    first.paced(&Paced { release: name.clone(), reference, pace });
    let written = kept(first.changes(Hurry::Now));
    assert!(first.changes(Hurry::None).is_empty(), "it is written once");

    let mut next = book(written.clone());
    next.watch(&name, model(), &spec).unwrap();
    assert_eq!(next.every(&name), Some(9));
    let mut other = book(written);
    other.watch(&name, Digest::of(b"another"), &spec).unwrap();
    assert_eq!(other.every(&name), None);
}

#[test]
fn a_release_that_the_device_no_longer_keeps_is_forgotten_with_its_file() {
    let spec = spec(None);
    let mut book = watching(&spec);
    book.keep(&BTreeSet::from([model(), Digest::of(b"more")]));
    assert!(book.changes(Hurry::None).is_empty() && book.views().len() == 1);
    book.keep(&BTreeSet::from([Digest::of(b"more")]));
    assert!(book.views().is_empty());
    let changes = book.changes(Hurry::Now);
    assert!(matches!(&changes[..], [Change::Drop(gone)] if *gone == release("digits@1")), "{changes:?}");
}

#[test]
fn what_is_known_of_releases_is_bounded() {
    let spec = spec(None);
    let mut book = book(vec![]);
    for version in 1..=book::MAX_RELEASES + 3 {
        book.watch(&release(&format!("digits@{version}")), model(), &spec).unwrap();
    }
    assert_eq!((book.views().len(), book.changes(Hurry::None).len()), (book::MAX_RELEASES, 3));
}

#[test]
fn a_release_that_is_loaded_and_not_counted_makes_no_room_for_another() {
    let spec = spec(None);
    let mut book = book(vec![Kept::new(release("old@1"), model(), spec.reference.id())]);
    book.leave_out(&release("digits@1"), model(), &spec, "of a reason".into());
    (2..=book::MAX_RELEASES).for_each(|version| {
        book.watch(&release(&format!("digits@{version}")), model(), &spec).unwrap();
    });
    let changes = book.changes(Hurry::None);
    assert!(matches!(&changes[..], [Change::Drop(gone)] if *gone == release("old@1")), "{changes:?}");
    assert_eq!(book.views()[0].uncounted.as_deref(), Some("of a reason"));
}

#[test]
fn a_release_that_is_gone_is_remembered_until_the_server_has_its_alarms() {
    let (spec, mut noise) = (spec(Some(10.0)), Noise(14));
    let mut book = watching(&spec);
    let (alarm, _) = until_alarm(&mut book, &spec, &mut noise, DAY_MS);
    book.keep(&BTreeSet::new());
    assert_eq!(book.untold(), std::slice::from_ref(&alarm));
    kept(book.changes(Hurry::Now));
    book.told(&[alarm]);
    assert!(book.views().is_empty());
    assert!(matches!(book.changes(Hurry::Now)[..], [Change::Drop(_)]));
}

#[test]
fn alarms_that_the_server_has_make_room_for_new_ones() {
    let (spec, mut noise) = (spec(Some(10.0)), Noise(15));
    let (alarm, _) = until_alarm(&mut watching(&spec), &spec, &mut noise, DAY_MS);
    let numbered = |n: usize| DriftAlarm { feature: format!("f{n}"), ..alarm.clone() };
    let mut kept = Kept::new(release("digits@1"), model(), spec.reference.id());
    kept.add(&[numbered(0), numbered(1)]);
    kept.alarms[1].told = true;
    let most = 2 * muster_sketch::reference::MAX_FEATURES;
    kept.add(&(2..=most).map(numbered).collect::<Vec<_>>());
    assert_eq!((kept.alarms.len(), &kept.alarms[0].alarm), (most, &numbered(0)));
    assert_eq!(kept.alarms[1].alarm, numbered(2));
}

/// Windows of 200 rows, one in ten minutes: quiet ones until the baseline is learnt, then drifted ones until something
/// alarms.
fn until_alarm(book: &mut Book, spec: &DriftSpec, noise: &mut Noise, from: u64) -> (DriftAlarm, u64) {
    for window in 1..200 {
        let at_ms = from + window * 600_000;
        let shift = if window > 20 { 0.3 } else { 0.0 };
        if let Some(alarm) = close(book, spec, shift, at_ms, noise).alarms.pop() {
            assert!(window > 20, "a false alarm");
            return (alarm, at_ms);
        }
    }
    panic!("no alarm")
}

#[test]
fn a_guarded_release_alarms_by_itself_and_then_not_for_a_day() {
    let (spec, mut noise) = (spec(Some(10.0)), Noise(7));
    let mut book = watching(&spec);
    let (alarm, at_ms) = until_alarm(&mut book, &spec, &mut noise, DAY_MS);
    assert_eq!((alarm.feature.as_str(), &alarm.release), ("loud", &release("digits@1")));
    assert_eq!((alarm.alarm.direction.sign, alarm.alarm.at_secs), (Sign::Up, at_ms / 1_000));
    assert!(alarm.is_plausible() && alarm.alarm.shift > 0.0, "{alarm:?}");
    let mut again = vec![];
    for window in 1..=200 {
        let at_ms = at_ms + window * 600_000;
        again.extend(close(&mut book, &spec, 0.3, at_ms, &mut noise).alarms);
    }
    assert_eq!(again.len(), 1, "it is told again after a day, while it lasts");
    assert!(again[0].alarm.at_secs - alarm.alarm.at_secs >= DAY_MS / 1_000);
    assert_eq!(book.views()[0].alarms, [alarm, again[0].clone()]);
}

#[test]
fn the_evidence_of_a_run_goes_on_in_the_next_to_the_bit() {
    let (spec, mut noise) = (spec(Some(10.0)), Noise(8));
    let mut stays = watching(&spec);
    let mut restarts = watching(&spec);
    let mut alarms = (vec![], vec![]);
    for window in 1..60 {
        let shift = if window > 20 { 0.1 } else { 0.0 };
        let told = sketched(&spec, 200, shift, &mut noise);
        let at = Timestamp(DAY_MS + window * 600_000);
        alarms.0.extend(stays.close(told.clone(), at, at).unwrap().alarms);
        alarms.1.extend(restarts.close(told, at, at).unwrap().alarms);
        restarts = book(kept(restarts.changes(Hurry::None)));
        restarts.watch(&release("digits@1"), model(), &spec).unwrap();
    }
    assert!(!alarms.0.is_empty());
    assert_eq!(alarms.0, alarms.1);
}

#[test]
fn an_alarm_is_written_at_once_and_told_again_by_the_next_run_until_it_was_told() {
    let (spec, mut noise) = (spec(Some(10.0)), Noise(9));
    let mut first = watching(&spec);
    first.changes(Hurry::None);
    close(&mut first, &spec, 0.0, DAY_MS, &mut noise);
    assert!(first.changes(Hurry::Now).is_empty(), "evidence alone has time");
    assert!(first.waits());
    let (alarm, _) = until_alarm(&mut first, &spec, &mut noise, DAY_MS);
    let mut second = book(kept(first.changes(Hurry::Now)));
    assert_eq!(second.untold(), std::slice::from_ref(&alarm));
    second.told(std::slice::from_ref(&alarm));
    assert!(second.untold().is_empty());
    assert!(second.changes(Hurry::Now).is_empty(), "telling it twice does no harm, so that has time");
    let third = book(kept(second.changes(Hurry::None)));
    assert!(third.untold().is_empty());
    assert_eq!(third.views()[0].alarms, [alarm], "the operator of the device still sees it");
}

#[test]
fn a_guardrail_whose_numbers_make_no_rule_costs_the_guardrail_alone() {
    let mut odd = spec(Some(f64::NAN));
    let mut book = book(vec![]);
    assert!(book.watch(&release("digits@1"), model(), &odd).unwrap_err().contains("NaN"));
    odd.guardrail = None;
    let closed = close(&mut book, &odd, 0.0, 2_000, &mut Noise(10));
    assert!(closed.alarms.is_empty() && !book.views()[0].guardrail);
}

/// A file of a guarded release with 32 features takes a quarter of a megabyte.
#[test]
fn what_is_kept_of_a_feature_is_small() {
    let (spec, mut noise) = (spec(Some(10.0)), Noise(11));
    let mut book = watching(&spec);
    (1..40).for_each(|window| drop(close(&mut book, &spec, 0.01, DAY_MS + window * 600_000, &mut noise)));
    let kept = kept(book.changes(Hurry::None));
    let bytes = serde_json::to_vec(&kept[0]).unwrap().len() / 2;
    assert!(bytes < 9_000, "{bytes} bytes a feature");
}

/// The whole way, but for a runner and a server.
struct Rig {
    drift: Drift,
    news: mpsc::Receiver<DriftNews>,
    letters: std::sync::mpsc::Receiver<Letter>,
    files: Files<OsDisk>,
}

impl Rig {
    fn open(dir: &std::path::Path) -> Self {
        let (courier, letters) = Courier::detached(4);
        let files = Files::new(OsDisk, dir.join("drift"));
        let clock = Clock::start(Timestamp(0));
        let schedule = Schedule::new(Instant::now(), SAVE_AGAIN);
        let (drift, news) = Drift::start(book(files.read()), files.clone(), schedule, courier, clock);
        Self { drift, news, letters, files }
    }

    fn watch(&self, spec: &DriftSpec) {
        self.drift.book().watch(&release("digits@1"), model(), spec).unwrap();
    }

    /// Waits until the file of the release is there, or is gone.
    async fn has_file(&self, there: bool) {
        let written = async {
            while self.files.path_of(&release("digits@1")).exists() != there {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), written).await.expect("it is done in time");
    }
}

#[tokio::test]
async fn what_was_measured_is_on_the_disk_at_once_and_goes_with_its_release() {
    let (dir, spec) = (tempfile::tempdir().unwrap(), spec(None));
    let rig = Rig::open(dir.path());
    rig.watch(&spec);
    let pace = Pace { every: 4, beyond_limit: true, rows: 10_000 };
    rig.drift.paced(&Paced { release: release("digits@1"), reference: spec.reference.id(), pace });
    rig.has_file(true).await;
    drop(rig);
    std::fs::write(dir.path().join("drift/torn.json"), "{").unwrap();
    std::fs::write(dir.path().join("drift/digits@7.json.tmp"), "half").unwrap();
    let rig = Rig::open(dir.path());
    rig.watch(&spec);
    let view = rig.drift.views().remove(0);
    assert_eq!((view.every, view.beyond_limit, view.windows), (Some(4), true, 0));
    assert!(!dir.path().join("drift/digits@7.json.tmp").exists());
    rig.drift.keep(&BTreeSet::new());
    rig.has_file(false).await;
}

#[tokio::test]
async fn what_the_disk_refuses_for_a_moment_is_written_soon() {
    let (dir, spec) = (tempfile::tempdir().unwrap(), spec(None));
    let (courier, _letters) = Courier::detached(4);
    let files = Files::new(FailsOnce::default(), dir.path().join("drift"));
    let path = files.path_of(&release("digits@1"));
    let at_once = Backoff { min: Duration::from_millis(1), max: Duration::from_millis(1) };
    let schedule = Schedule::new(Instant::now(), at_once);
    let (drift, _news) = Drift::start(book(vec![]), files, schedule, courier, Clock::start(Timestamp(0)));
    drift.book().watch(&release("digits@1"), model(), &spec).unwrap();
    let pace = Pace { every: 4, beyond_limit: false, rows: 10_000 };
    drift.paced(&Paced { release: release("digits@1"), reference: spec.reference.id(), pace });
    let written = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), written).await.expect("not half an hour later");
}

#[test]
fn a_disk_that_refuses_is_asked_again_ever_more_rarely_and_then_as_usual() {
    let start = Instant::now();
    let mut schedule = Schedule::new(start, SAVE_AGAIN);
    assert_eq!(schedule.at, start + SAVE_EVERY);
    let mut waits = vec![];
    for _ in 0..20 {
        let now = schedule.at;
        schedule.saved(Hurry::None, false, now);
        waits.push(schedule.at - now);
    }
    assert_eq!((waits[0], waits[1], waits[19]), (SAVE_AGAIN.min, 2 * SAVE_AGAIN.min, SAVE_AGAIN.max));
    let pending = schedule.at;
    schedule.saved(Hurry::Now, true, pending);
    assert_eq!(schedule.at, pending, "what was refused before still waits");
    schedule.saved(Hurry::None, true, pending);
    assert_eq!(schedule.at, pending + SAVE_EVERY);
    schedule.saved(Hurry::None, false, pending);
    assert_eq!(schedule.at, pending + SAVE_AGAIN.min);
    let soon = schedule.at;
    (0..20).for_each(|_| schedule.saved(Hurry::Now, false, soon - SAVE_AGAIN.min / 2));
    assert_eq!(schedule.at, soon, "what is refused now pushes nothing ahead of itself");
}

#[test]
fn what_the_disk_did_not_do_waits_to_be_done() {
    let spec = spec(None);
    let mut book = watching(&spec);
    let pace = Pace { every: 9, beyond_limit: false, rows: 5_000 };
    book.paced(&Paced { release: release("digits@1"), reference: spec.reference.id(), pace });
    for refused in book.changes(Hurry::Now) {
        book.undone(refused);
    }
    assert!(book.waits() && matches!(book.changes(Hurry::None)[..], [Change::Write(_)]) && !book.waits());
    book.keep(&BTreeSet::new());
    for refused in book.changes(Hurry::Now) {
        book.undone(refused);
    }
    assert!(book.changes(Hurry::Now).is_empty(), "it waits until everything is written");
    assert!(book.waits() && matches!(book.changes(Hurry::None)[..], [Change::Drop(_)]) && !book.waits());
    book.undone(Change::Drop(release("digits@1")));
    book.watch(&release("digits@1"), model(), &spec).unwrap();
    assert!(book.changes(Hurry::None).is_empty(), "it is there again");
}

/// Of a model that takes rows of two numbers.
fn manifest(drift: DriftSpec) -> Manifest {
    let artifact = |digest| {
        json!({ "digest": digest, "size_bytes": 5, "packed": {
            "encoding": "stored", "digest": digest, "size_bytes": 5, "block_bytes": 65_536, "blocks": [digest] } })
    };
    let tensor = |name| json!([{ "name": name, "datatype": "FP32", "shape": ["N", 2] }]);
    let manifest = json!({
        "format": 1, "release": "digits@1", "published_at": 1,
        "runtime": { "format": "onnx", "opsets": {}, "operators": [] },
        "inputs": tensor("x"), "outputs": tensor("y"), "model": artifact(model()),
        "golden": { "artifact": artifact(model()), "cases": 1, "tolerance": { "absolute": 0.1, "relative": 0.1 } },
        "drift": drift, "budgets": shared::manifest::Budgets::default(),
        "probation": shared::manifest::ProbationPolicy::default(), "lineage": {},
    });
    serde_json::from_value(manifest).unwrap()
}

type Spoil = fn(&mut DriftSpec);

#[tokio::test]
async fn a_release_whose_features_cannot_be_counted_is_loaded_all_the_same_and_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path());
    let wrong: [(&str, Spoil); 4] = [
        ("1 sources for 2 features", |spec| drop(spec.sources.pop())),
        ("unknown 'z'", |spec| spec.sources[1].tensor = "z".into()),
        ("no element 9", |spec| spec.sources[1].reading = Reading::Element { index: 9 }),
        ("min_rows", |spec| spec.capture.min_rows = 1),
    ];
    for (why, change) in wrong {
        let mut spec = spec(None);
        change(&mut spec);
        let manifest = manifest(spec);
        assert_eq!(manifest.check_model(), Ok(()));
        assert_eq!(rig.drift.watch(&manifest), Counted::default());
        let view = rig.drift.views().remove(0);
        assert!(view.uncounted.as_ref().is_some_and(|told| told.contains(why)), "{view:?}");
        let told = sketched(manifest.drift.as_ref().unwrap(), 60, 0.0, &mut Noise(1));
        rig.drift.closed(told).await;
        assert!(rig.letters.try_recv().is_err(), "nothing of it leaves");
    }
    let counted = rig.drift.watch(&manifest(spec(None)));
    assert_eq!(counted, Counted { spec: Some(spec(None)), known_every: None });
    assert_eq!(rig.drift.views()[0].uncounted, None);
}

#[tokio::test]
async fn a_window_goes_to_the_courier_and_its_figures_to_the_telemetry() {
    let (dir, spec, mut noise) = (tempfile::tempdir().unwrap(), spec(Some(10.0)), Noise(12));
    let mut rig = Rig::open(dir.path());
    rig.watch(&spec);
    rig.drift.closed(sketched(&spec, 60, 0.0, &mut noise)).await;
    let news = rig.news.recv().await.unwrap();
    assert_eq!((news.figures.drift.count, news.figures.release), (2, release("digits@1")));
    let Ok(Letter::Sketch(message)) = rig.letters.try_recv() else { panic!("a window is sent") };
    let (_, window) = read(&message, &spec.reference);
    assert_eq!(window.to_ms - window.from_ms, 1_000);
    rig.drift.closed(sketched(&spec, 30, 0.0, &mut noise)).await;
    assert!(rig.letters.try_recv().is_err() && rig.news.try_recv().is_err(), "too few rows to leave");
    // Nobody reads the letters: what finds no room is counted.
    for _ in 0..6 {
        rig.drift.closed(sketched(&spec, 60, 0.0, &mut noise)).await;
    }
    let view = rig.drift.views().remove(0);
    assert_eq!((view.windows, view.rows, view.windows_lost), (7, 420, 2));
    rig.drift.finish().await;
    assert_eq!(rig.files.read().len(), 1, "what the guardrail has learnt is written down at the end");
}

#[test]
fn who_tries_a_model_beside_the_one_that_answers_counts_nothing() {
    let LoadRequest { drift, known_every, .. } = LoadRequest::from_manifest(&manifest(spec(None)));
    assert_eq!((drift, known_every), (None, None));
}
