//! Bounds on what a single node may ask for, where that can be known before it runs.

use super::{InspectError, graph::Constants, graph::place, tensors, trees};
use crate::onnx::{AttributeProto, NodeProto};

/// Largest padding on one side of an axis. Real paddings are a kernel wide at most; a padding of 2³⁰ makes the
/// engine compute for ever.
const MAX_PAD: i64 = 8_192;

/// Largest kernel, stride or dilation along one axis.
const MAX_WINDOW: i64 = 65_536;

/// Most elements that a node may make out of a constant shape: 256 MiB of FP32, far above any real use.
const MAX_MADE_ELEMENTS: i64 = 64 * 1_024 * 1_024;

/// Attributes that count something along each axis, so that each entry must be at least one.
const WINDOWS: [&str; 3] = ["strides", "dilations", "kernel_shape"];

/// Operators that make a tensor whose shape, or whose factors of growth, stand in a constant: which input it is.
const SHAPE_INPUTS: [(&str, usize); 5] =
    [("ConstantOfShape", 0), ("Expand", 1), ("Tile", 1), ("Resize", 3), ("Reshape", 1)];

pub(super) fn check(node: &NodeProto, constants: &Constants<'_>) -> Result<(), InspectError> {
    for attribute in &node.attribute {
        check_attribute(node, attribute)?;
    }
    check_pad_input(node, constants)?;
    check_range(node, constants)?;
    trees::check(node)?;
    let shape_input = SHAPE_INPUTS.iter().find(|(operator, _)| *operator == node.op_type);
    let Some(&(_, index)) = shape_input else { return Ok(()) };
    integers(node, index, constants).map_or(Ok(()), |shape| check_made(node, &shape))
}

fn check_attribute(node: &NodeProto, attribute: &AttributeProto) -> Result<(), InspectError> {
    let name = attribute.name.as_str();
    if WINDOWS.contains(&name) {
        return check_window(node, name, &attribute.ints);
    }
    match name {
        "pads" | "output_padding" => check_pads(node, &attribute.ints),
        "group" if attribute.i < 1 => check_window(node, name, &[attribute.i]),
        "shape" | "output_shape" => check_made(node, &attribute.ints),
        _ => Ok(()),
    }
}

fn check_window(node: &NodeProto, name: &str, values: &[i64]) -> Result<(), InspectError> {
    match values.iter().find(|value| !(1..=MAX_WINDOW).contains(*value)) {
        None => Ok(()),
        Some(wrong) => Err(InspectError::structure(
            place(node),
            format!("has {wrong} in its attribute '{name}'; allowed are 1 to {MAX_WINDOW}"),
            "correct the layer and export the model again",
        )),
    }
}

fn check_pads(node: &NodeProto, pads: &[i64]) -> Result<(), InspectError> {
    match pads.iter().find(|pad| pad.unsigned_abs() > MAX_PAD.unsigned_abs()) {
        None => Ok(()),
        Some(wrong) => Err(InspectError::structure(
            place(node),
            format!("pads an axis by {wrong}; allowed are up to {MAX_PAD}"),
            "correct the layer and export the model again",
        )),
    }
}

fn check_pad_input(node: &NodeProto, constants: &Constants<'_>) -> Result<(), InspectError> {
    if node.op_type != "Pad" {
        return Ok(());
    }
    integers(node, 1, constants).map_or(Ok(()), |pads| check_pads(node, &pads))
}

fn check_range(node: &NodeProto, constants: &Constants<'_>) -> Result<(), InspectError> {
    if node.op_type != "Range" {
        return Ok(());
    }
    let number = |index| integers(node, index, constants).and_then(|values| values.first().copied());
    let (Some(start), Some(limit), Some(delta)) = (number(0), number(1), number(2)) else { return Ok(()) };
    let steps = limit.saturating_sub(start).checked_div(delta).unwrap_or(i64::MAX);
    check_made(node, &[steps.max(0)])
}

/// Entries of zero and below are placeholders in `Reshape`, and make an empty tensor elsewhere.
fn check_made(node: &NodeProto, shape: &[i64]) -> Result<(), InspectError> {
    let made = shape.iter().filter(|&&dim| dim > 0).fold(1_i64, |product, &dim| product.saturating_mul(dim));
    if made <= MAX_MADE_ELEMENTS {
        return Ok(());
    }
    Err(InspectError::structure(
        place(node),
        format!("makes a tensor of {made} elements or more; allowed are {MAX_MADE_ELEMENTS}"),
        "correct its shape and export the model again",
    ))
}

/// Input `index` of the node, when it is a constant of integers.
fn integers(node: &NodeProto, index: usize, constants: &Constants<'_>) -> Option<Vec<i64>> {
    tensors::integers(constants.get(node.input.get(index)?.as_str())?)
}
