//! Decision trees: their nodes name each other and their classes by numbers, which the engine follows unchecked.
//!
//! A vote for a class that does not exist is added to memory that belongs to something else, and a branch that leads
//! back is followed for ever. Both wait for an input that takes that way, so no golden vector finds them.

use std::collections::BTreeMap;

use super::{InspectError, graph::place};
use crate::onnx::{AttributeProto, NodeProto};

/// The operator whose attributes are checked here; the engine has no other of the kind.
const OPERATOR: &str = "TreeEnsembleClassifier";

/// How a node that decides nothing is called.
const LEAF: &[u8] = b"LEAF";

pub(super) fn check(node: &NodeProto) -> Result<(), InspectError> {
    if node.op_type != OPERATOR {
        return Ok(());
    }
    check_classes(node)?;
    check_branches(node)
}

fn check_classes(node: &NodeProto) -> Result<(), InspectError> {
    let labels = ints(node, "classlabels_int64s").len().max(strings(node, "classlabels_strings").len());
    let outside = |class: &&i64| usize::try_from(**class).map_or(true, |class| class >= labels);
    match ints(node, "class_ids").iter().find(outside) {
        None => Ok(()),
        Some(class) => Err(wrong(node, format!("votes for class {class}; it has {labels}"))),
    }
}

/// Where every node is the child of one branch at most, and the root of none, no way leads back.
fn check_branches(node: &NodeProto) -> Result<(), InspectError> {
    let (trees, ids) = (ints(node, "nodes_treeids"), ints(node, "nodes_nodeids"));
    let mut nodes: BTreeMap<(i64, i64), usize> =
        trees.iter().copied().zip(ids.iter().copied()).map(|key| (key, 0)).collect();
    let sides = [ints(node, "nodes_truenodeids"), ints(node, "nodes_falsenodeids")];
    for (index, mode) in strings(node, "nodes_modes").iter().enumerate().filter(|(_, mode)| *mode != LEAF) {
        for side in sides {
            let (Some(&tree), Some(&child)) = (trees.get(index), side.get(index)) else {
                return Err(wrong(node, format!("has a {} without a child", String::from_utf8_lossy(mode))));
            };
            let Some(parents) = nodes.get_mut(&(tree, child)) else {
                return Err(wrong(node, format!("leads to node {child} of tree {tree}, which is not there")));
            };
            *parents += 1;
            if child == 0 || *parents > 1 {
                return Err(wrong(node, format!("leads to node {child} of tree {tree} in two ways")));
            }
        }
    }
    Ok(())
}

fn wrong(node: &NodeProto, problem: String) -> InspectError {
    InspectError::structure(place(node), problem, "export the trees again; the file is damaged")
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn ints<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    attribute(node, name).map_or(&[], |attribute| &attribute.ints)
}

fn strings<'a>(node: &'a NodeProto, name: &str) -> &'a [bytes::Bytes] {
    attribute(node, name).map_or(&[], |attribute| &attribute.strings)
}
