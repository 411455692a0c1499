use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use muster_sketch::{
    reference::{CategoryReference, FeatureReference, NumericReference, Reference, ReferenceValues},
    window::{FeatureCounts, FeatureWindow},
};
use shared::manifest::{
    DataType, Dim, FeatureSource, ImageLayout, ImageOrder, ImageStatistic, Reading, Side,
};
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::runner::protocol::Event;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

fn tensor(name: &str, columns: u64) -> TensorSpec {
    let shape = vec![Dim::Symbol("N".into()), Dim::Fixed(columns)];
    TensorSpec { name: name.into(), datatype: DataType::Fp32, shape }
}

/// The second column of the input, and the top class of the answer.
fn spec(capture: CapturePolicy) -> DriftSpec {
    let sample: Vec<f32> = (0..1_000_u16).map(f32::from).collect();
    let classes = vec![("cat".to_owned(), 500), ("dog".to_owned(), 500)];
    let values = [
        ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap()),
        ReferenceValues::Category(CategoryReference::from_counts("class", classes, 0).unwrap()),
    ];
    let features = ["level", "class"].into_iter().zip(values);
    let features = features.map(|(name, values)| FeatureReference { name: name.into(), values });
    let source = |side, tensor: &str, reading| FeatureSource { side, tensor: tensor.into(), reading };
    DriftSpec {
        sources: vec![
            source(Side::Input, "x", Reading::Element { index: 1 }),
            source(Side::Output, "y", Reading::TopClass),
        ],
        reference: Reference::new(features.collect()).unwrap(),
        capture,
        guardrail: None,
    }
}

fn policy(every: Option<u32>) -> CapturePolicy {
    CapturePolicy { every, window_secs: 600, min_rows: 20 }
}

/// A version that is watched, and what it counts.
struct Rig {
    captures: Captures,
    capture: Arc<Capture>,
    spec: DriftSpec,
    /// Row `n` that is asked about.
    asked: usize,
}

impl Rig {
    fn new(capture: CapturePolicy, known: Option<u32>) -> Self {
        let (captures, spec) = (Captures::default(), spec(capture));
        let release = "m@1".parse().unwrap();
        let capture = captures.prepare(&release, &spec, known, &[tensor("x", 2)], &[tensor("y", 2)]);
        let capture = capture.unwrap();
        captures.add(Arc::clone(&capture));
        Self { capture, captures, spec, asked: 0 }
    }

    /// An inference with the next rows; `count` says whether its answer is good.
    async fn ask(&mut self, rows: usize, is_good: bool) {
        let values: Vec<f32> = (self.asked..self.asked + rows).flat_map(|row| [-1.0, level(row)]).collect();
        let answer: Vec<f32> = (self.asked..self.asked + rows).flat_map(|row| [0.5, top(row)]).collect();
        self.asked += rows;
        let shape = vec![rows as u64, 2];
        let inputs = [("x".to_owned(), Tensor::from_f32(shape.clone(), &values).unwrap())];
        let outputs = [Tensor::from_f32(shape, &answer).unwrap()];
        let kept = self.capture.keep(&inputs).filter(|_| is_good);
        if let Some(answered) = kept.and_then(|kept| kept.answered(&outputs)) {
            answered.count().await;
        }
    }

    /// What is told when the process ends.
    async fn finish(&self) -> Vec<Event> {
        let (events, mut told) = mpsc::channel(8);
        finish(&self.captures, &events).await;
        drop(events);
        let mut all = vec![];
        while let Some(event) = told.recv().await {
            all.push(event);
        }
        all
    }

    /// The counts of these rows.
    fn counts(&self, rows: impl IntoIterator<Item = usize>) -> Vec<FeatureCounts> {
        let mut window = FeatureWindow::new(Arc::new(self.spec.reference.clone()));
        for row in rows {
            window.record_places(&[level(row)], &[Some(usize::from(top(row) > 0.5))]).unwrap();
        }
        window.seal().unwrap()
    }
}

fn level(row: usize) -> f32 {
    (row * 37 % 1_000) as f32
}

fn top(row: usize) -> f32 {
    if row.is_multiple_of(3) { 0.25 } else { 0.75 }
}

fn window(event: &Event) -> &Sketched {
    match event {
        Event::Sketched(sketched) => sketched,
        event => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn a_window_has_every_kth_row_of_what_was_asked_and_no_other() {
    for (every, rows) in [(1, 1), (4, 1), (4, 7), (3, 100)] {
        let mut rig = Rig::new(policy(Some(every)), None);
        while rig.asked < 200 {
            rig.ask(rows, true).await;
        }
        let told = rig.finish().await;
        assert_eq!(told.len(), 1);
        let told = window(&told[0]);
        assert_eq!((told.every, told.reference), (every, rig.spec.reference.id()));
        assert_eq!(told.features, rig.counts((0..rig.asked).step_by(every as usize)), "{every} of {rows}");
        let totals = rig.capture.totals();
        assert_eq!((totals.counted, totals.windows), (rig.asked.div_ceil(every as usize) as u64, 1));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_good_is_not_counted() {
    let mut rig = Rig::new(policy(Some(2)), None);
    for n in 0..100 {
        rig.ask(1, n % 10 != 4).await;
    }
    let good = (0..100).step_by(2).filter(|n| n % 10 != 4);
    assert_eq!(window(&rig.finish().await[0]).features, rig.counts(good));
}

#[tokio::test]
async fn a_window_with_too_few_rows_is_never_told() {
    let mut rig = Rig::new(CapturePolicy { min_rows: 30, ..policy(Some(1)) }, None);
    rig.ask(29, true).await;
    assert!(rig.captures.next_due().is_none());
    assert!(rig.capture.close(Closing::Due(Instant::now() + 2 * PATIENCE * 60)).is_none());
    assert_eq!(rig.finish().await, []);
    rig.ask(1, true).await;
    let due = rig.captures.next_due().unwrap();
    assert!(due > Instant::now());
    assert!(rig.capture.close(Closing::Due(Instant::now())).is_none(), "its time is not over");
    assert!(rig.capture.close(Closing::Due(due)).is_some());
    assert_eq!((rig.captures.next_due(), rig.finish().await), (None, vec![]), "each row is told once");
}

#[tokio::test]
async fn a_window_is_told_when_its_time_is_over_also_while_nothing_is_asked() {
    let mut rig = Rig::new(CapturePolicy { window_secs: 1, ..policy(Some(1)) }, None);
    rig.ask(25, true).await;
    let (events, mut told) = mpsc::channel(8);
    let asked = Instant::now();
    let event = tokio::select! {
        () = tell(&rig.captures, &events) => panic!("somebody listens"),
        event = timeout(PATIENCE, told.recv()) => event.unwrap().unwrap(),
    };
    assert_eq!(window(&event).features, rig.counts(0..25));
    assert!(window(&event).age_ms >= 1_000 && asked.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn rows_are_only_looked_at_until_k_is_known_and_then_every_kth_is_counted() {
    let mut rig = Rig::new(policy(None), None);
    while rig.capture.totals().every.is_none() {
        rig.ask(1, true).await;
        assert!(rig.asked <= 10_000);
    }
    let (found, observed) = (rig.capture.totals(), rig.asked);
    assert_eq!((found.counted, observed), (0, 1_000), "the rows do not depend on each other");
    let every = found.every.unwrap();
    rig.ask(500, true).await;
    let told = rig.finish().await;
    let Event::Paced(paced) = &told[0] else { panic!("{told:?}") };
    let pace = Pace { every, beyond_limit: false, rows: 1_000 };
    assert_eq!((paced.pace, paced.reference), (pace, rig.spec.reference.id()));
    let counted = (observed..rig.asked).filter(|row| row % every as usize == 0);
    assert_eq!(window(&told[1]).features, rig.counts(counted));
    assert_eq!(rig.finish().await, [], "k is told once");
}

#[tokio::test]
async fn what_was_measured_before_holds_unless_the_manifest_says_otherwise() {
    assert_eq!(Rig::new(policy(None), Some(7)).capture.totals().every, Some(7));
    assert_eq!(Rig::new(policy(Some(3)), Some(7)).capture.totals().every, Some(3));
}

type Inputs = Vec<(String, Tensor)>;

/// What counts for a model with a row of this shape, and an inference with as many rows as its first axis says.
fn capture_of(spec: &DriftSpec, shape: &[u64]) -> (Arc<Capture>, Inputs) {
    let (axes, elements) = (shape.iter().skip(1), shape.iter().product::<u64>());
    let axes = std::iter::once(Dim::Symbol("N".into())).chain(axes.map(|&length| Dim::Fixed(length)));
    let input = TensorSpec { name: "x".into(), datatype: DataType::Fp32, shape: axes.collect() };
    let captures = Captures::default();
    let capture = captures.prepare(&"m@1".parse().unwrap(), spec, None, &[input], &[tensor("y", 2)]).unwrap();
    let values = vec![0.5; usize::try_from(elements).unwrap()];
    (capture, vec![("x".to_owned(), Tensor::from_f32(shape.to_vec(), &values).unwrap())])
}

/// How often others get their turn while the rows of one inference are counted.
fn turns_of_others(spec: &DriftSpec, shape: &[u64]) -> usize {
    let (capture, inputs) = capture_of(spec, shape);
    let outputs = [Tensor::from_f32(vec![shape[0], 2], &vec![0.5; 2 * shape[0] as usize]).unwrap()];
    let answered = capture.keep(&inputs).unwrap().answered(&outputs).unwrap();
    let (mut counting, mut turns) = (pin!(answered.count()), 0);
    while counting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        turns += 1;
    }
    assert_eq!(capture.totals().counted, shape[0]);
    turns
}

#[test]
fn others_get_their_turn_by_what_rows_cost_and_not_by_their_number_alone() {
    let table = spec(policy(Some(1)));
    assert_eq!(turns_of_others(&table, &[48, 2]), 2);
    assert_eq!(turns_of_others(&of_images(224), &[8, 3, 224, 224]), 3, "after each two");
}

/// Watches images of so many lines and columns.
fn of_images(side: u32) -> DriftSpec {
    let mut images = spec(policy(Some(1)));
    let layout = ImageLayout { order: ImageOrder::Chw, channels: 3, height: side, width: side };
    let statistic = ImageStatistic::Mean { channel: 0 };
    images.sources[0].reading = Reading::Image { layout, statistic };
    images
}

#[test]
fn only_one_row_that_takes_little_is_read_before_its_model_runs() {
    let holds_inputs = |side: u32, rows: u64| {
        let (capture, inputs) = capture_of(&of_images(side), &[rows, 3, side.into(), side.into()]);
        let kept = capture.keep(&inputs).unwrap();
        matches!(kept.seen, Seen::Inputs(_))
    };
    assert!(!holds_inputs(224, 1));
    assert!(holds_inputs(224, 2), "the caller would wait for both");
    assert!(holds_inputs(1_200, 1), "a row of many values");
}

#[tokio::test]
async fn answers_that_find_no_room_are_left_out_and_counted_as_that() {
    let mut rig = Rig::new(policy(Some(2)), None);
    let places = Arc::clone(&rig.captures.common.counting);
    let taken = places.acquire_many(u32::try_from(MAX_COUNTING).unwrap()).await.unwrap();
    rig.ask(50, true).await;
    assert_eq!((rig.capture.totals().left_out, rig.capture.totals().counted), (25, 0));
    drop(taken);
    rig.ask(50, true).await;
    assert_eq!((rig.capture.totals().left_out, rig.capture.totals().counted), (25, 25));
}

#[tokio::test]
async fn the_last_window_of_a_version_that_is_gone_is_told_and_the_others_go_on() {
    let mut rig = Rig::new(policy(Some(1)), None);
    let release = "m@2".parse().unwrap();
    let inputs = [tensor("x", 2)];
    let other = rig.captures.prepare(&release, &rig.spec, None, &inputs, &[tensor("y", 2)]).unwrap();
    rig.captures.add(Arc::clone(&other));
    rig.ask(40, true).await;
    let (events, mut told) = mpsc::channel(8);
    tell_gone(&rig.captures, Arc::clone(&rig.capture), &events).await;
    assert_eq!(window(&told.recv().await.unwrap()).features, rig.counts(0..40));
    let left = rig.captures.all();
    assert!(left.len() == 1 && Arc::ptr_eq(&left[0], &other));
}

#[test]
fn a_specification_that_does_not_fit_the_model_costs_the_capture_alone() {
    let captures = Captures::default();
    let release = "m@1".parse().unwrap();
    let begun = captures.prepare(&release, &spec(policy(None)), None, &[tensor("z", 2)], &[tensor("y", 2)]);
    assert!(begun.is_none() && captures.all().is_empty());
}
