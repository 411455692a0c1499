//! Constants, inputs and outputs: what they say about themselves against what they are.

use std::collections::HashSet;

use shared::manifest::{DataType, Dim, MAX_TENSORS, TensorSpec};

use super::{InspectError, short};
use crate::{
    onnx::{self, DimensionProto, GraphProto, TensorProto, TensorTypeProto, ValueInfoProto},
    tensor::MAX_RANK,
};

/// ONNX number of the element type for text, which only constants may have.
const STRING: i32 = 8;

/// Checks that a constant is all here; gives its size.
pub(super) fn check_constant(tensor: &TensorProto, place: &str) -> Result<u64, InspectError> {
    let wrong = |problem: String, advice| InspectError::structure(place, problem, advice);
    if tensor.data_location == onnx::EXTERNAL || !tensor.external_data.is_empty() {
        return Err(wrong(
            "keeps its data in another file".into(),
            "save the model as one file, for example with onnx.save(model, path, save_as_external_data=False)",
        ));
    }
    let Some(elements) = element_count(&tensor.dims) else {
        return Err(wrong(format!("has the shape {:?}", first(&tensor.dims)), "export the model again"));
    };
    let Some(element_bytes) = element_size_bytes(tensor.data_type) else {
        let problem = format!("has elements of the unknown ONNX type {}", tensor.data_type);
        return Err(wrong(problem, "use FP64, FP32, FP16, BOOL or integers of 8 to 64 bits"));
    };
    let needed = elements.saturating_mul(element_bytes);
    if tensor.raw_data.is_empty() {
        let found = typed_len(tensor) as u64;
        return if found == elements {
            Ok(needed)
        } else {
            Err(wrong(mismatch(found, elements, "elements"), AGAIN))
        };
    }
    let found = tensor.raw_data.len() as u64;
    if found == needed { Ok(needed) } else { Err(wrong(mismatch(found, needed, "bytes"), AGAIN)) }
}

const AGAIN: &str = "export the model again; the file is damaged";

fn mismatch(found: u64, needed: u64, unit: &str) -> String {
    format!("holds {found} {unit} where its shape needs {needed}")
}

fn typed_len(tensor: &TensorProto) -> usize {
    tensor.float_data.len()
        + tensor.double_data.len()
        + tensor.int32_data.len()
        + tensor.int64_data.len()
        + tensor.uint64_data.len()
        + tensor.string_data.len()
}

fn element_count(dims: &[i64]) -> Option<u64> {
    if dims.len() > MAX_RANK {
        return None;
    }
    dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?))
}

fn element_size_bytes(data_type: i32) -> Option<u64> {
    // A text is counted with one byte; its real length is in the file anyway.
    let size =
        if data_type == STRING { Some(1) } else { onnx::data_type(data_type).map(DataType::size_bytes) };
    u64::try_from(size?).ok()
}

/// The values of a constant of integers.
pub(super) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    let raw = &tensor.raw_data;
    match onnx::data_type(tensor.data_type)? {
        DataType::Int64 if raw.is_empty() => Some(tensor.int64_data.clone()),
        DataType::Int32 if raw.is_empty() => Some(tensor.int32_data.iter().map(|&i| i.into()).collect()),
        DataType::Int64 => Some(raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        DataType::Int32 => Some(raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()),
        _ => None,
    }
}

/// The graph's inputs that no initialiser fills.
pub(super) fn inputs(graph: &GraphProto) -> Result<Vec<TensorSpec>, InspectError> {
    let filled: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let free: Vec<_> = graph.input.iter().filter(|input| !filled.contains(input.name.as_str())).collect();
    specs(&free, "input")
}

/// The graph's outputs.
pub(super) fn outputs(graph: &GraphProto) -> Result<Vec<TensorSpec>, InspectError> {
    specs(&graph.output.iter().collect::<Vec<_>>(), "output")
}

fn specs(values: &[&ValueInfoProto], side: &str) -> Result<Vec<TensorSpec>, InspectError> {
    if values.is_empty() || values.len() > MAX_TENSORS {
        return Err(InspectError::structure(
            "the graph",
            format!("has {} {side}s; allowed are 1 to {MAX_TENSORS}", values.len()),
            "export the model with the tensors that callers give and take",
        ));
    }
    values.iter().map(|value| spec(value, side)).collect()
}

fn spec(value: &ValueInfoProto, side: &str) -> Result<TensorSpec, InspectError> {
    let place = format!("{side} '{}'", short(&value.name));
    let Some(tensor) = value.r#type.as_ref().and_then(|r#type| r#type.tensor_type.as_ref()) else {
        return Err(InspectError::structure(
            place,
            "is not a tensor",
            "export the model with tensors only (for scikit-learn: with the option zipmap=False)",
        ));
    };
    let Some(datatype) = onnx::data_type(tensor.elem_type) else {
        return Err(InspectError::structure(
            place,
            format!("has elements of the ONNX type {}, which cannot be sent", tensor.elem_type),
            "use FP64, FP32, FP16, BF16, BOOL or integers of 8 to 64 bits",
        ));
    };
    let shape = shape(value, tensor, &place)?;
    Ok(TensorSpec { name: value.name.clone(), datatype, shape })
}

fn shape(value: &ValueInfoProto, tensor: &TensorTypeProto, place: &str) -> Result<Vec<Dim>, InspectError> {
    let Some(shape) = &tensor.shape else {
        return Err(InspectError::structure(
            place,
            "has no shape",
            "add shapes, for example with onnx.shape_inference.infer_shapes, and publish the result",
        ));
    };
    if shape.dim.len() > MAX_RANK {
        let problem = format!("has {} axes; allowed are {MAX_RANK}", shape.dim.len());
        return Err(InspectError::structure(place, problem, "use fewer axes"));
    }
    shape.dim.iter().enumerate().map(|(axis, dim)| axis_length(value, axis, dim, place)).collect()
}

/// A missing or negative length is a variable axis of its own.
fn axis_length(
    value: &ValueInfoProto,
    axis: usize,
    dim: &DimensionProto,
    place: &str,
) -> Result<Dim, InspectError> {
    match (dim.dim_value, dim.dim_param.as_deref()) {
        (Some(0), _) => {
            Err(InspectError::structure(place, "has an axis of length 0", "give the axis a length or a name"))
        }
        (Some(length), _) if length > 0 => Ok(Dim::Fixed(length.unsigned_abs())),
        (_, Some(symbol)) if !symbol.is_empty() && symbol != "?" => Ok(Dim::Symbol(short(symbol))),
        _ => Ok(Dim::Symbol(format!("{}.{axis}", short(&value.name)))),
    }
}

/// The first axes of a shape that is too long or negative.
fn first(dims: &[i64]) -> &[i64] {
    &dims[..dims.len().min(MAX_RANK)]
}
