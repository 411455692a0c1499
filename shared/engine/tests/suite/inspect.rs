//! The structural gate: what it reads, and what it refuses in which words.

use crate::support::{bytes, fixed, floats, graph, int64s, ints, node, scale, symbol, value};
use bytes::Bytes;
use muster_engine::{
    InspectError, MAX_NODES, inspect,
    onnx::{GraphProto, TensorProto},
};
use shared::manifest::{DataType, Dim, TensorSpec};

fn refusal(graph: GraphProto) -> String {
    inspect(&bytes(graph)).expect_err("this graph must be refused").to_string()
}

fn with_conv(attribute: muster_engine::onnx::AttributeProto) -> GraphProto {
    let mut conv = node("Conv", &["x", "w"], &["y"]);
    conv.attribute.push(attribute);
    let image = || vec![fixed(1), fixed(1), fixed(8), fixed(8)];
    graph(
        vec![conv],
        vec![floats("w", &[1, 1, 1, 1], &[1.0])],
        vec![value("x", image())],
        vec![value("y", image())],
    )
}

#[test]
fn a_sound_model_is_described() {
    let inspected = inspect(&bytes(scale(2.0, vec![symbol("batch"), fixed(3)]))).unwrap();
    let shape = vec![Dim::Symbol("batch".into()), Dim::Fixed(3)];
    let spec = |name: &str| TensorSpec { name: name.into(), datatype: DataType::Fp32, shape: shape.clone() };
    assert_eq!(inspected.inputs, [spec("x")]);
    assert_eq!(inspected.outputs, [spec("y")]);
    assert_eq!(inspected.operators.iter().collect::<Vec<_>>(), ["ai.onnx.Mul"]);
    assert_eq!(inspected.opsets.get("ai.onnx"), Some(&17));
    assert_eq!((inspected.node_count, inspected.constant_bytes, inspected.ir_version), (1, 4, 8));
}

#[test]
fn an_unsupported_operator_is_named() {
    let mut graph = scale(2.0, vec![fixed(1)]);
    graph.node[0].op_type = "Loop".into();
    assert!(refusal(graph.clone()).starts_with("node 'the_Mul' (Loop) uses the operator ai.onnx.Loop"));
    graph.node[0].op_type = "Mul".into();
    graph.node[0].domain = "my.company".into();
    assert!(refusal(graph).contains("my.company.Mul"));
}

#[test]
fn a_convolution_that_would_panic_or_hang_the_engine_is_refused() {
    assert!(refusal(with_conv(ints("strides", &[0, 1]))).contains("has 0 in its attribute 'strides'"));
    assert!(refusal(with_conv(ints("dilations", &[-1, 1]))).contains("has -1 in its attribute 'dilations'"));
    assert!(refusal(with_conv(ints("pads", &[1 << 30, 0, 0, 0]))).contains("pads an axis by 1073741824"));
    assert!(refusal(with_conv(ints("output_padding", &[1 << 30, 0]))).contains("pads an axis by 1073741824"));
    assert!(refusal(with_conv(ints("output_shape", &[1 << 20, 1 << 20]))).contains("makes a tensor of"));
    assert!(inspect(&bytes(with_conv(ints("strides", &[2, 2])))).is_ok());
}

#[test]
fn a_small_file_that_asks_for_a_huge_tensor_is_refused() {
    for (operator, inputs) in [("ConstantOfShape", vec!["shape"]), ("Expand", vec!["x", "shape"])] {
        let bomb = graph(
            vec![node(operator, &inputs, &["y"])],
            vec![int64s("shape", &[100_000, 100_000, 10])],
            vec![value("x", vec![fixed(1)])],
            vec![value("y", vec![fixed(1)])],
        );
        assert!(refusal(bomb).contains("makes a tensor of 100000000000 elements"), "{operator}");
    }
}

#[test]
fn constants_that_are_not_what_they_say_are_refused() {
    let refusal_of = |tensor: TensorProto| {
        let mut graph = scale(2.0, vec![fixed(1)]);
        graph.initializer = vec![TensorProto { name: "factor".into(), ..tensor }];
        refusal(graph)
    };
    let good = floats("factor", &[2], &[1.0, 2.0]);
    assert!(
        refusal_of(TensorProto { dims: vec![3], ..good.clone() })
            .contains("holds 2 elements where its shape needs 3")
    );
    assert!(
        refusal_of(TensorProto { dims: vec![i64::MAX, i64::MAX], ..good.clone() }).contains("has the shape")
    );
    assert!(refusal_of(TensorProto { dims: vec![-1], ..good.clone() }).contains("has the shape [-1]"));
    let raw = TensorProto { raw_data: Bytes::from_static(&[0; 7]), float_data: vec![], ..good.clone() };
    assert!(refusal_of(raw).contains("holds 7 bytes where its shape needs 8"));
    assert!(refusal_of(TensorProto { data_location: 1, ..good }).contains("in another file"));
}

#[test]
fn a_graph_too_large_to_compile_in_time_is_refused() {
    let mut graph = scale(2.0, vec![fixed(1)]);
    let chain = (0..=MAX_NODES).map(|i| node("Relu", &[&format!("v{i}")], &[&format!("v{}", i + 1)]));
    graph.node = chain.collect();
    assert!(refusal(graph).contains("more than 10000 nodes"));
}

#[test]
fn nested_graphs_are_walked_and_bounded() {
    let mut inner = scale(2.0, vec![fixed(1)]);
    inner.node[0].op_type = "Loop".into();
    let wrap = |inner: GraphProto| {
        let mut branch = node("If", &["x"], &["y"]);
        branch.attribute = vec![muster_engine::onnx::AttributeProto {
            name: "then_branch".into(),
            g: Some(inner),
            ..Default::default()
        }];
        graph(vec![branch], vec![], vec![value("x", vec![fixed(1)])], vec![value("y", vec![fixed(1)])])
    };
    assert!(refusal(wrap(inner)).contains("ai.onnx.Loop"));
    let deep = (0..10).fold(scale(2.0, vec![fixed(1)]), |inner, _| wrap(inner));
    assert!(refusal(deep).contains("deep"));
}

#[test]
fn a_value_without_origin_is_refused() {
    let mut graph = scale(2.0, vec![fixed(1)]);
    graph.output[0].name = "z".into();
    assert!(refusal(graph).contains("names 'z', which nothing defines"));
}

#[test]
fn bytes_that_are_not_onnx_are_refused() {
    for garbage in [&b""[..], b"not a model", &[0xff; 1_000], b"\x08\x08"] {
        let refused = inspect(&Bytes::copy_from_slice(garbage));
        assert!(matches!(refused, Err(InspectError::NotOnnx(_))), "{refused:?}");
    }
}

#[test]
fn no_truncation_and_no_flipped_byte_makes_it_panic() {
    let whole = bytes(with_conv(ints("pads", &[1, 1, 1, 1])));
    for length in 0..whole.len() {
        let _ = inspect(&whole.slice(..length));
        let mut flipped = whole.to_vec();
        flipped[length] ^= 0xff;
        let _ = inspect(&flipped.into());
    }
}
