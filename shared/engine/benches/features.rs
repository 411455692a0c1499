//! What it costs to read the features of one inference, and to count them: the processor time that watching adds to
//! every row that is counted.
//!
//!     cargo bench -p muster-engine --bench features
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that prints its table")]

use std::{hint::black_box, time::Instant};

use muster_engine::{
    Tensor,
    features::{Extractor, Row},
};
use shared::manifest::{
    DataType, Dim, FeatureSource, ImageLayout, ImageOrder, ImageStatistic, Reading, Side, TensorSpec,
};

/// Rows of one measurement: under a millisecond each, so that some are not interrupted.
const ROWS: u32 = 20;

/// Measurements, of which the median is told.
const ROUNDS: usize = 501;

struct Case {
    name: &'static str,
    sources: Vec<FeatureSource>,
    input: Tensor,
    output: Tensor,
}

fn main() {
    println!("| one row of | figures | median µs | best µs |\n|---|---|---|---|");
    for case in cases() {
        let (median, best) = measure(&case);
        println!("| {} | {} | {median:.2} | {best:.2} |", case.name, case.sources.len());
    }
}

fn cases() -> Vec<Case> {
    let scalars = (0..32).map(|index| source(Side::Input, Reading::Element { index })).collect();
    let distribution = [Reading::Confidence, Reading::Entropy, Reading::TopClass];
    let classes = |name, count| Case {
        name,
        sources: distribution.iter().cloned().map(|reading| source(Side::Output, reading)).collect(),
        input: floats(1),
        output: shares(count),
    };
    let projections = (0..8).map(|number| source(Side::Output, Reading::Projection { seed: 7, number }));
    vec![
        image("image of 224 × 224 × 3, FP32, channels first", ImageOrder::Chw, floats(224 * 224 * 3)),
        image("the same, channels last", ImageOrder::Hwc, floats(224 * 224 * 3)),
        image("the same, channels last, UINT8", ImageOrder::Hwc, bytes(224 * 224 * 3)),
        Case { name: "table of 32 numbers", sources: scalars, input: floats(32), output: floats(1) },
        classes("answer of 10 classes", 10),
        classes("answer of 1,000 classes", 1_000),
        Case {
            name: "embedding of 512, 8 projections",
            sources: projections.collect(),
            input: floats(1),
            output: floats(512),
        },
    ]
}

fn image(name: &'static str, order: ImageOrder, input: Tensor) -> Case {
    let layout = ImageLayout { order, channels: 3, height: 224, width: 224 };
    let of_channels =
        (0..3).flat_map(|channel| [ImageStatistic::Mean { channel }, ImageStatistic::Deviation { channel }]);
    let statistics =
        of_channels.chain([ImageStatistic::Sharpness, ImageStatistic::Gradient, ImageStatistic::Saturated]);
    let sources =
        statistics.map(|statistic| source(Side::Input, Reading::Image { layout, statistic })).collect();
    Case { name, sources, input, output: floats(1) }
}

/// Median and best, in microseconds a row.
fn measure(case: &Case) -> (f64, f64) {
    let spec = |name: &str, tensor: &Tensor| TensorSpec {
        name: name.into(),
        datatype: tensor.datatype(),
        shape: tensor.shape().iter().map(|&length| Dim::Fixed(length)).collect(),
    };
    let (input, output) = (spec("x", &case.input), spec("y", &case.output));
    let extractor = Extractor::new(&case.sources, &[input], &[output]).unwrap();
    let (inputs, outputs) = ([("x".to_owned(), case.input.clone())], [case.output.clone()]);
    let mut row = Row::default();
    let mut round = || {
        let since = Instant::now();
        for _ in 0..ROWS {
            extractor.read(black_box(&inputs), black_box(&outputs), 0, &mut row);
            black_box(&row);
        }
        since.elapsed().as_secs_f64() * 1e6 / f64::from(ROWS)
    };
    let mut figures: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    figures.sort_by(f64::total_cmp);
    (figures[ROUNDS / 2], figures[0])
}

fn source(side: Side, reading: Reading) -> FeatureSource {
    let tensor = if side == Side::Input { "x" } else { "y" };
    FeatureSource { side, tensor: tensor.into(), reading }
}

fn floats(count: u32) -> Tensor {
    let values: Vec<f32> = noise(count).iter().map(|&byte| f32::from(byte) / 255.0).collect();
    Tensor::from_f32(vec![1, count.into()], &values).unwrap()
}

fn bytes(count: u32) -> Tensor {
    Tensor::new(DataType::Uint8, vec![1, count.into()], noise(count)).unwrap()
}

fn shares(count: u16) -> Tensor {
    let weights: Vec<f32> = noise(count.into()).iter().map(|&byte| f32::from(byte) + 1.0).collect();
    let sum: f32 = weights.iter().sum();
    let shares: Vec<f32> = weights.iter().map(|weight| weight / sum).collect();
    Tensor::from_f32(vec![1, count.into()], &shares).unwrap()
}

/// Bytes without a pattern, the same every time.
fn noise(count: u32) -> Vec<u8> {
    (0..count).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
