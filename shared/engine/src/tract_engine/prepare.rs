//! What the engine reads from the system, read early: which instructions the processor has, and how large its caches are.
//!
//! It does so on first use and keeps the answer for the life of the process. A process that is about to lose its
//! access to files asks before; afterwards the engine would choose kernels for a processor that it knows nothing of.

use prost::Message as _;
use shared::manifest::{DataType, Dim, TensorSpec};
use tract_onnx::tract_core::tract_linalg;

use super::TractEngine;
use crate::{
    engine::Engine as _,
    onnx::{
        DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
        TensorTypeProto, TypeProto, ValueInfoProto,
    },
};

/// ONNX number of the element type FP32.
const FP32: i32 = 1;

/// Rows and columns: large enough for the kernels that a processor is chosen for.
const SIDE: usize = 16;

/// Lets the engine read what it reads from files. Without effect after the first time.
pub fn prepare() {
    super::operators();
    tract_linalg::cache::cache_info();
    tract_linalg::cache::last_level_cache();
    tract_linalg::has_fp16();
    // The kernels of matrix products are chosen when one is compiled.
    let side = |name: &str| TensorSpec {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: vec![Dim::Fixed(SIDE as u64); 2],
    };
    let product = product().encode_to_vec().into();
    let warmed = TractEngine.load(product, &[side("x")], &[side("y")]).and_then(|session| session.warm());
    if let Err(error) = warmed {
        tracing::debug!(%error, "the engine could not multiply matrices");
    }
}

/// `y = x · w`
fn product() -> ModelProto {
    let weights = TensorProto {
        name: "w".into(),
        dims: vec![SIDE as i64; 2],
        data_type: FP32,
        float_data: vec![0.0; SIDE * SIDE],
        ..TensorProto::default()
    };
    let multiply = NodeProto {
        input: vec!["x".into(), "w".into()],
        output: vec!["y".into()],
        op_type: "MatMul".into(),
        ..NodeProto::default()
    };
    let graph = GraphProto {
        node: vec![multiply],
        name: "product".into(),
        initializer: vec![weights],
        input: vec![value("x")],
        output: vec![value("y")],
        sparse_initializer: vec![],
    };
    ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        ..ModelProto::default()
    }
}

fn value(name: &str) -> ValueInfoProto {
    let dim = vec![DimensionProto { dim_value: Some(SIDE as i64), dim_param: None }; 2];
    let tensor = TensorTypeProto { elem_type: FP32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
