//! The models that are watched: a classifier of tables and one of images, of about a millisecond each.

use std::time::Instant;

use bytes::Bytes;
use muster_engine::{
    Engine as _, Tensor, TractEngine, inspect,
    onnx::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
        TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    },
};
use muster_sketch::reference::{
    CategoryReference, FeatureReference, NumericReference, Reference, ReferenceValues,
};
use prost::Message as _;
use shared::manifest::{
    CapturePolicy, DriftSpec, FeatureSource, ImageLayout, ImageOrder, ImageStatistic, Reading, Side,
    TensorSpec,
};
use system_tests::random::Random;

use crate::{
    measure::{median, micros},
    report::progress,
};

/// Columns of the table.
const COLUMNS: u32 = 32;

/// Side of the image, which has three channels.
const IMAGE_SIDE: u32 = 224;

/// Width of the hidden layers.
const WIDTH: usize = 768;

const CLASSES: usize = 10;

/// A model whose inference takes this long, as near as whole layers come.
const WANTED_MICROS: f64 = 1_000.0;

/// More layers than any machine needs for that.
const MAX_LAYERS: usize = 40;

/// Different rows that are asked about.
const ROWS: usize = 32;

/// Rows of the reference.
const REFERENCE_ROWS: usize = 10_000;

/// ONNX's number of 32-bit floats.
const FLOAT: i32 = 1;

/// A model with everything that is needed to watch and to ask it.
pub struct Watched {
    /// In the table.
    pub name: String,
    /// The model, with input `x` and output `y`.
    pub onnx: Bytes,
    /// What goes in.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// What is watched; how it is counted is not said.
    pub spec: DriftSpec,
    /// Shape of a request.
    pub shape: Vec<u64>,
    /// What is asked about.
    pub rows: Vec<Vec<f32>>,
}

/// Thirty-two numbers, and of the answer the top class and how sure the model is: thirty-five features.
pub fn table() -> anyhow::Result<Watched> {
    let elements =
        (0..COLUMNS).map(|index| (format!("column {index}"), Side::Input, Reading::Element { index }));
    watched("table, 35 features", vec![1, COLUMNS.into()], &[], elements.collect())
}

/// Nine figures of an image, and the same of the answer: twelve features.
pub fn image() -> anyhow::Result<Watched> {
    let layout = ImageLayout { order: ImageOrder::Chw, channels: 3, height: IMAGE_SIDE, width: IMAGE_SIDE };
    let channels =
        (0..3).flat_map(|channel| [ImageStatistic::Mean { channel }, ImageStatistic::Deviation { channel }]);
    let others = [ImageStatistic::Sharpness, ImageStatistic::Gradient, ImageStatistic::Saturated];
    let figures = channels
        .chain(others)
        .map(|statistic| (format!("{statistic:?}"), Side::Input, Reading::Image { layout, statistic }));
    let side = u64::from(IMAGE_SIDE);
    let head = [pool("AveragePool", 16), flatten()];
    watched("image 224×224×3, 12 features", vec![1, 3, side, side], &head, figures.collect())
}

fn watched(
    name: &str,
    shape: Vec<u64>,
    head: &[NodeProto],
    mut features: Vec<(String, Side, Reading)>,
) -> anyhow::Result<Watched> {
    features.extend(
        [("confidence", Reading::Confidence), ("entropy", Reading::Entropy), ("class", Reading::TopClass)]
            .map(|(name, reading)| (name.to_owned(), Side::Output, reading)),
    );
    let mut random = Random::new(1);
    let elements = shape.iter().product::<u64>() as usize;
    let rows: Vec<Vec<f32>> = (0..ROWS).map(|_| (0..elements).map(|_| unit(&mut random)).collect()).collect();
    let (onnx, took) = of_a_millisecond(&shape, head, &rows[0])?;
    progress(&format!("{name}: {took:.0} µs in the engine"));
    let inspected = inspect(&onnx)?;
    let spec = spec(features, &mut random)?;
    let (name, inputs, outputs) = (name.to_owned(), inspected.inputs, inspected.outputs);
    Ok(Watched { name, onnx, inputs, outputs, spec, shape, rows })
}

fn spec(features: Vec<(String, Side, Reading)>, random: &mut Random) -> anyhow::Result<DriftSpec> {
    let sample: Vec<f32> = (0..REFERENCE_ROWS).map(|_| unit(random)).collect();
    let classes = (0..CLASSES).map(|class| (class.to_string(), 1_000)).collect();
    let classes = CategoryReference::from_counts("class", classes, 0)?;
    let (mut sources, mut references) = (Vec::new(), Vec::new());
    for (name, side, reading) in features {
        let values = match &reading {
            Reading::TopClass => ReferenceValues::Category(classes.clone()),
            _ => ReferenceValues::Numeric(NumericReference::from_sample(&name, &sample)?),
        };
        references.push(FeatureReference { name, values });
        let tensor = if side == Side::Input { "x" } else { "y" };
        sources.push(FeatureSource { side, tensor: tensor.into(), reading });
    }
    let reference = Reference::new(references)?;
    Ok(DriftSpec { sources, reference, capture: CapturePolicy::default(), guardrail: None })
}

/// Adds layers until an inference takes long enough; also tells how long it takes.
fn of_a_millisecond(shape: &[u64], head: &[NodeProto], row: &[f32]) -> anyhow::Result<(Bytes, f64)> {
    let input = [("x".to_owned(), Tensor::from_f32(shape.to_vec(), row)?)];
    for layers in 1..=MAX_LAYERS {
        let onnx = network(shape, head, layers);
        let inspected = inspect(&onnx)?;
        let session = TractEngine.load(onnx.clone(), &inspected.inputs, &inspected.outputs)?;
        let mut times = Vec::new();
        for _ in 0..50 {
            let since = Instant::now();
            session.run(&input)?;
            times.push(micros(since.elapsed()));
        }
        let took = median(&times);
        if took >= WANTED_MICROS || layers == MAX_LAYERS {
            return Ok((onnx, took));
        }
    }
    anyhow::bail!("no layer was tried")
}

/// `head`, then a network of dense layers, then probabilities.
fn network(shape: &[u64], head: &[NodeProto], layers: usize) -> Bytes {
    let elements: u64 = if head.is_empty() { shape[1] } else { 3 * (u64::from(IMAGE_SIDE) / 16).pow(2) };
    let mut widths = vec![elements as usize];
    widths.extend(std::iter::repeat_n(WIDTH, layers));
    widths.push(CLASSES);
    let (mut nodes, mut weights, mut last) = (head.to_vec(), Vec::new(), "x".to_owned());
    if let Some(node) = head.last() {
        last.clone_from(&node.output[0]);
    }
    for (layer, width) in widths.windows(2).enumerate() {
        let (product, weight, sound) = (format!("p{layer}"), format!("w{layer}"), format!("h{layer}"));
        weights.push(matrix(&weight, width[0], width[1]));
        nodes.push(node("MatMul", &[&last, &weight], &product));
        nodes.push(node("Tanh", &[&product], &sound));
        last = sound;
    }
    nodes.push(node("Softmax", &[&last], "y"));
    let dims: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
    let graph = GraphProto {
        node: nodes,
        name: "g".into(),
        initializer: weights,
        input: vec![value("x", &dims)],
        output: vec![value("y", &[1, CLASSES as i64])],
        sparse_initializer: vec![],
    };
    let model = ModelProto {
        ir_version: 8,
        producer_name: "bench".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        functions: vec![],
    };
    model.encode_to_vec().into()
}

/// From 0 to 1.
fn unit(random: &mut Random) -> f32 {
    (random.next_number() >> 40) as f32 / (1_u64 << 24) as f32
}

fn node(op_type: &str, input: &[&str], output: &str) -> NodeProto {
    let input = input.iter().map(|name| (*name).to_owned()).collect();
    let name = format!("{op_type} to {output}");
    NodeProto { input, output: vec![output.into()], name, op_type: op_type.into(), ..NodeProto::default() }
}

fn pool(op_type: &str, side: i64) -> NodeProto {
    let ints = |name: &str| AttributeProto {
        name: name.into(),
        ints: vec![side, side],
        r#type: 7,
        ..AttributeProto::default()
    };
    let attribute = vec![ints("kernel_shape"), ints("strides")];
    NodeProto { attribute, ..node(op_type, &["x"], "pooled") }
}

fn flatten() -> NodeProto {
    node("Flatten", &["pooled"], "flat")
}

fn matrix(name: &str, rows: usize, columns: usize) -> TensorProto {
    let mut random = Random::new(rows as u64 * 31 + columns as u64);
    let scale = (3.0 / rows as f32).sqrt();
    let weights = (0..rows * columns).flat_map(|_| ((2.0 * unit(&mut random) - 1.0) * scale).to_le_bytes());
    TensorProto {
        name: name.into(),
        dims: vec![rows as i64, columns as i64],
        data_type: FLOAT,
        raw_data: weights.collect::<Vec<u8>>().into(),
        ..TensorProto::default()
    }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim =
        dims.iter().map(|&length| DimensionProto { dim_value: Some(length), dim_param: None }).collect();
    let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
