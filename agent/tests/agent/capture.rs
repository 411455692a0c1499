//! Features on their way out of the runner: what is counted, when a window is closed, and what is left of it when a
//! process ends.

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

use crate::{
    onnx::{fixed, scale, symbol},
    rig::{Rig, divide_by_itself, get, infer, load_request, model_file, post, release},
};
use muster_agent::runner::{Command, Event, LoadRequest, Pace, Sketched};
use muster_engine::onnx::GraphProto;
use muster_sketch::{
    reference::{FeatureReference, NumericReference, Reference, ReferenceValues},
    window::{FeatureCounts, FeatureWindow, NumericCounts},
};
use serde_json::json;
use shared::manifest::{CapturePolicy, DriftSpec, FeatureSource, Reading, Side};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// The models here give `y = 2 · x` for rows of two.
const FACTOR: f32 = 2.0;

fn rows_of_two() -> GraphProto {
    scale(FACTOR, vec![symbol("rows"), fixed(2)])
}

fn numbers(names: &[&str]) -> Reference {
    let sample: Vec<f32> = (0..2_000_u16).map(f32::from).collect();
    let feature = |name: &&str| {
        let values = ReferenceValues::Numeric(NumericReference::from_sample(name, &sample).unwrap());
        FeatureReference { name: (*name).into(), values }
    };
    Reference::new(names.iter().map(feature).collect()).unwrap()
}

/// The second element that goes in, and the first that comes out.
fn spec(capture: CapturePolicy) -> DriftSpec {
    let element = |side, tensor: &str, index| FeatureSource {
        side,
        tensor: tensor.into(),
        reading: Reading::Element { index },
    };
    DriftSpec {
        sources: vec![element(Side::Input, "x", 1), element(Side::Output, "y", 0)],
        reference: numbers(&["asked", "answered"]),
        capture,
        guardrail: None,
    }
}

fn every(every: u32) -> CapturePolicy {
    CapturePolicy { every: Some(every), window_secs: 3_600, min_rows: 20 }
}

/// A version that is watched.
fn watched(version: u32, model: &GraphProto, drift: DriftSpec) -> LoadRequest {
    LoadRequest { drift: Some(drift), ..load_request(version, model) }
}

async fn load(rig: &mut Rig, request: LoadRequest, model: &GraphProto) {
    let file = model_file(model);
    rig.runner.send(Command::Load(Box::new(request)), vec![file.into()]).await.unwrap();
    let event = rig.step().await;
    assert!(matches!(event, Event::Loaded { .. }), "{event:?}");
}

/// A runner in which `m@1` answers and is watched.
async fn watching(capture: CapturePolicy) -> Rig {
    let mut rig = Rig::start().await;
    load(&mut rig, watched(1, &rows_of_two(), spec(capture)), &rows_of_two()).await;
    rig.switch(1).await;
    rig
}

/// What is asked in row `row`.
fn asked(row: usize) -> [f32; 2] {
    let row = u16::try_from(row % 2_000).unwrap();
    [f32::from(row), f32::from(row * 7 % 2_000)]
}

async fn ask(rig: &Rig, rows: Range<usize>) {
    ask_at(rig, "/v2/models/m/infer", rows).await;
}

async fn ask_at(rig: &Rig, path: &str, rows: Range<usize>) {
    let values: Vec<f32> = rows.clone().flat_map(asked).collect();
    let input = json!({ "name": "x", "shape": [rows.len(), 2], "datatype": "FP32", "data": values });
    let body = json!({ "inputs": [input] }).to_string();
    let answer = post(&rig.tcp, path, &[], body.into()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What counting these rows here gives.
fn counts(rows: impl IntoIterator<Item = usize>) -> Vec<FeatureCounts> {
    let mut window = FeatureWindow::new(Arc::new(spec(every(1)).reference));
    for row in rows {
        let [first, second] = asked(row);
        window.record(&[second, FACTOR * first], &[]).unwrap();
    }
    window.seal().unwrap()
}

async fn sketched(rig: &mut Rig) -> Sketched {
    match rig.step().await {
        Event::Sketched(sketched) => *sketched,
        event => panic!("{event:?}"),
    }
}

async fn unload(rig: &mut Rig) {
    rig.runner.send(Command::Unload { release: release(1) }, vec![]).await.unwrap();
}

/// The statistics of drift, when they are as asked for. Rows are counted after their answer.
async fn statistics(rig: &Rig, enough: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let asked = async {
        loop {
            let stats = get(&rig.tcp, "/v2/models/m/stats").await.json();
            let drift = stats["model_stats"][0]["muster_drift"].clone();
            if enough(&drift) {
                return drift;
            }
        }
    };
    within(asked).await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Two windows have the same rows, in any order: rows of answers that are counted side by side may change places, and of
/// what is counted only the last unit of the moments, and runs, know the order.
#[track_caller]
fn assert_rows(found: &[FeatureCounts], wanted: &[FeatureCounts]) {
    let alike = |(one, other): (&FeatureCounts, &FeatureCounts)| match (one, other) {
        (FeatureCounts::Numeric(one), FeatureCounts::Numeric(other)) => {
            let key = |of: &NumericCounts| (of.bins().to_vec(), of.range(), of.non_finite(), of.missing());
            key(one) == key(other)
        }
        (one, other) => one == other,
    };
    let all_alike = found.len() == wanted.len() && found.iter().zip(wanted).all(alike);
    assert!(all_alike, "{found:?} and not {wanted:?}");
}

#[tokio::test]
async fn a_version_that_is_unloaded_tells_every_kth_row_that_it_answered_and_no_other() {
    for (k, batch) in [(1, 1), (3, 1), (3, 16), (1, 64)] {
        let mut rig = watching(every(k)).await;
        let mut rows = 0;
        while rows < 192 {
            ask(&rig, rows..rows + batch).await;
            rows += batch;
        }
        unload(&mut rig).await;
        let told = sketched(&mut rig).await;
        assert_eq!((told.release, told.every), (release(1), k));
        assert_eq!(told.reference, spec(every(1)).reference.id());
        let wanted = counts((0..rows).step_by(k as usize));
        assert_rows(&told.features, &wanted);
        assert_eq!(rig.step().await, Event::Unloaded { release: release(1) }, "after its last window");
    }
}

#[tokio::test]
async fn a_version_that_is_rolled_back_tells_its_rows_and_the_one_before_goes_on_with_its_own() {
    let mut rig = watching(every(1)).await;
    ask(&rig, 0..30).await;
    load(&mut rig, watched(2, &rows_of_two(), spec(every(1))), &rows_of_two()).await;
    rig.switch(2).await;
    ask(&rig, 30..70).await;
    rig.switch(1).await;
    rig.runner.send(Command::Unload { release: release(2) }, vec![]).await.unwrap();
    let told = sketched(&mut rig).await;
    assert_rows(&told.features, &counts(30..70));
    assert_eq!(told.release, release(2));
    assert_eq!(rig.step().await, Event::Unloaded { release: release(2) });
    ask(&rig, 70..80).await;
    unload(&mut rig).await;
    assert_rows(&sketched(&mut rig).await.features, &counts((0..30).chain(70..80)));
}

#[tokio::test]
async fn a_shutdown_tells_what_was_counted() {
    let mut rig = watching(every(2)).await;
    for row in 0..60 {
        ask(&rig, row..row + 1).await;
    }
    rig.runner.send(Command::Shutdown, vec![]).await.unwrap();
    assert_rows(&sketched(&mut rig).await.features, &counts((0..60).step_by(2)));
    assert!(matches!(rig.step().await, Event::Exited(_)));
}

#[tokio::test]
async fn fewer_rows_than_the_manifest_asks_for_never_leave_the_process() {
    let mut rig = watching(CapturePolicy { min_rows: 40, ..every(1) }).await;
    ask(&rig, 0..39).await;
    statistics(&rig, |drift| drift["rows_counted"] == 39).await;
    unload(&mut rig).await;
    assert_eq!(rig.step().await, Event::Unloaded { release: release(1) });
    rig.runner.send(Command::Shutdown, vec![]).await.unwrap();
    assert!(matches!(rig.step().await, Event::Exited(_)), "nothing but its end");
}

#[tokio::test]
async fn a_window_is_closed_when_its_time_is_over_and_has_its_rows() {
    let a_second = CapturePolicy { window_secs: 1, ..every(1) };
    let mut rig = watching(a_second).await;
    ask(&rig, 0..19).await;
    statistics(&rig, |drift| drift["rows_counted"] == 19).await;
    // The window of another version begins later and has its rows, so its end shows that the time of both is over.
    load(&mut rig, watched(2, &rows_of_two(), spec(a_second)), &rows_of_two()).await;
    ask_at(&rig, "/v2/models/m/versions/2/infer", 100..130).await;
    let told = sketched(&mut rig).await;
    assert_rows(&told.features, &counts(100..130));
    assert_eq!(told.release, release(2));
    assert!(told.age_ms >= 1_000, "{}", told.age_ms);
    ask(&rig, 19..20).await;
    let told = sketched(&mut rig).await;
    assert_rows(&told.features, &counts(0..20));
    assert_eq!(told.release, release(1));
    assert!(told.age_ms >= 1_000, "{}", told.age_ms);
}

#[tokio::test]
async fn answers_that_are_wrong_and_requests_that_do_not_fit_are_not_counted() {
    let mut rig = Rig::start().await;
    let model = divide_by_itself();
    let element =
        |index| FeatureSource { side: Side::Input, tensor: "x".into(), reading: Reading::Element { index } };
    let drift = DriftSpec { sources: vec![element(0)], reference: numbers(&["asked"]), ..spec(every(1)) };
    load(&mut rig, watched(1, &model, drift.clone()), &model).await;
    rig.switch(1).await;
    for row in 1..=60_u8 {
        // 0 ÷ 0 is NaN.
        let second = f32::from(row % 3);
        let answer = infer(&rig.tcp, json!([f32::from(row), second])).await;
        assert_eq!(answer.status, if second == 0.0 { 500 } else { 200 }, "{}", answer.text());
        assert_eq!(infer(&rig.tcp, json!([1.0, 2.0, 3.0])).await.status, 400);
    }
    unload(&mut rig).await;
    let mut window = FeatureWindow::new(Arc::new(drift.reference));
    (1..=60_u8).filter(|row| row % 3 != 0).for_each(|row| window.record(&[f32::from(row)], &[]).unwrap());
    assert_eq!(Some(sketched(&mut rig).await.features), window.seal());
}

#[tokio::test]
async fn a_specification_that_does_not_fit_its_model_does_not_keep_it_from_answering() {
    let mut rig = Rig::start().await;
    let mut odd = spec(every(1));
    odd.sources[0].reading = Reading::Element { index: 2 };
    load(&mut rig, watched(1, &rows_of_two(), odd), &rows_of_two()).await;
    rig.switch(1).await;
    ask(&rig, 0..50).await;
    let stats = get(&rig.tcp, "/v2/models/m/stats").await.json();
    assert!(stats["model_stats"][0].get("muster_drift").is_none(), "{stats}");
    unload(&mut rig).await;
    assert_eq!(rig.step().await, Event::Unloaded { release: release(1) });
}

#[tokio::test]
async fn k_is_measured_once_and_holds_for_the_next_runner() {
    let unsaid = CapturePolicy { every: None, ..every(1) };
    let mut rig = watching(unsaid).await;
    ask(&rig, 0..900).await;
    let drift = statistics(&rig, |drift| drift["rows_observed"] == 900).await;
    assert_eq!((&drift["every"], &drift["rows_counted"]), (&json!(null), &json!(0)));
    ask(&rig, 900..1_000).await;
    // What is asked while it is computed what the rows showed is not looked at.
    let mut row = 1_000;
    while statistics(&rig, |_| true).await["every"] != 100 {
        ask(&rig, row..row + 500).await;
        row += 500;
    }
    let Event::Paced(paced) = rig.step().await else { panic!("k is told") };
    // The numbers climb from row to row, and are alike for longer than any k.
    assert_eq!(paced.pace, Pace { every: 100, beyond_limit: true, rows: 10_000 });
    assert_eq!(statistics(&rig, |_| true).await["rows_observed"], 0, "what was looked at is forgotten");

    rig.restart().await;
    let known = LoadRequest { known_every: Some(100), ..watched(1, &rows_of_two(), spec(unsaid)) };
    load(&mut rig, known, &rows_of_two()).await;
    rig.switch(1).await;
    ask(&rig, 0..4_000).await;
    unload(&mut rig).await;
    assert_rows(&sketched(&mut rig).await.features, &counts((0..4_000).step_by(100)));
}

#[tokio::test]
async fn a_runner_that_is_killed_loses_the_open_window_and_nothing_that_was_closed() {
    let mut rig = watching(CapturePolicy { window_secs: 1, ..every(1) }).await;
    ask(&rig, 0..50).await;
    assert_rows(&sketched(&mut rig).await.features, &counts(0..50));
    ask(&rig, 50..90).await;
    statistics(&rig, |drift| drift["rows_counted"] == 90).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(rig.runner.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    loop {
        match rig.step().await {
            // It may have been closed in the last moment, and is told whole or not at all.
            Event::Sketched(told) => assert_rows(&told.features, &counts(50..90)),
            Event::Exited(exit) => {
                assert_eq!(exit.signal, Some(9));
                break;
            }
            event => panic!("{event:?}"),
        }
    }
    rig.restart().await;
    load(&mut rig, watched(1, &rows_of_two(), spec(every(1))), &rows_of_two()).await;
    rig.switch(1).await;
    ask(&rig, 90..120).await;
    unload(&mut rig).await;
    assert_rows(&sketched(&mut rig).await.features, &counts(90..120));
}
