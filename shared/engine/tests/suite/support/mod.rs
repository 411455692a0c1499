//! Tiny ONNX models, made through the crate's own protobuf messages.
#![allow(dead_code)] // each test file uses its part

use bytes::Bytes;
use muster_engine::onnx::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use prost::Message;

pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;

/// One axis: a length, or a symbol.
pub fn fixed(length: i64) -> DimensionProto {
    DimensionProto { dim_value: Some(length), dim_param: None }
}

pub fn symbol(name: &str) -> DimensionProto {
    DimensionProto { dim_value: None, dim_param: Some(name.into()) }
}

pub fn value(name: &str, shape: Vec<DimensionProto>) -> ValueInfoProto {
    let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim: shape }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

pub fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: strings(input),
        output: strings(output),
        name: format!("the_{op_type}"),
        op_type: op_type.into(),
        ..NodeProto::default()
    }
}

pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: 7, ..AttributeProto::default() }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: FLOAT,
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub fn int64s(name: &str, values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto {
        name: name.into(),
        dims: vec![i64::try_from(values.len()).unwrap()],
        data_type: INT64,
        raw_data: raw.into(),
        ..TensorProto::default()
    }
}

pub fn graph(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> GraphProto {
    GraphProto { node, name: "g".into(), initializer, input, output, sparse_initializer: vec![] }
}

pub fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        functions: vec![],
    }
}

pub fn bytes(graph: GraphProto) -> Bytes {
    model(graph).encode_to_vec().into()
}

/// `y = factor · x` for `x` of the given shape.
pub fn scale(factor: f32, shape: Vec<DimensionProto>) -> GraphProto {
    graph(
        vec![node("Mul", &["x", "factor"], &["y"])],
        vec![floats("factor", &[], &[factor])],
        vec![value("x", shape.clone())],
        vec![value("y", shape)],
    )
}
