//! The walk over graphs and the graphs inside their nodes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{InspectError, MAX_DEPTH, MAX_NODES, domain, node, short, tensors};
use crate::onnx::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Domains whose operators the engine tells apart by name alone.
const DOMAINS: [&str; 3] = ["ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Everything of this name scope that is known before anything runs.
pub(super) type Constants<'a> = BTreeMap<&'a str, &'a TensorProto>;

/// What the walk has seen so far.
pub(super) struct Walk {
    known_operators: &'static HashSet<String>,
    /// As `domain.Name`.
    pub(super) operators: BTreeSet<String>,
    pub(super) node_count: usize,
    pub(super) constant_bytes: u64,
}

impl Walk {
    pub(super) fn new(known_operators: &'static HashSet<String>) -> Self {
        Self { known_operators, operators: BTreeSet::new(), node_count: 0, constant_bytes: 0 }
    }

    /// Checks the model's main graph and all that lies in it.
    pub(super) fn graph(&mut self, graph: &GraphProto) -> Result<(), InspectError> {
        self.scope(graph, &HashSet::new(), 1)
    }

    fn scope<'a>(
        &mut self,
        graph: &'a GraphProto,
        outer: &HashSet<&'a str>,
        depth: usize,
    ) -> Result<(), InspectError> {
        self.count(graph, depth)?;
        if !graph.sparse_initializer.is_empty() {
            return Err(InspectError::structure(
                "the graph",
                "has sparse constants, which the engine cannot read",
                "store its weights as dense tensors",
            ));
        }
        for tensor in &graph.initializer {
            self.constant(tensor, &format!("constant '{}'", short(&tensor.name)))?;
        }
        let mut names = outer.clone();
        names.extend(defined(graph)?);
        let constants = constants(graph);
        for node in &graph.node {
            self.node(node, &names, &constants, depth)?;
        }
        graph
            .output
            .iter()
            .try_for_each(|output| check_defined(&names, &output.name, || "the graph's output list".into()))
    }

    fn count(&mut self, graph: &GraphProto, depth: usize) -> Result<(), InspectError> {
        if depth > MAX_DEPTH {
            return Err(InspectError::structure(
                "the graph",
                format!("nests graphs more than {MAX_DEPTH} deep"),
                "export it with less nested control flow",
            ));
        }
        self.node_count += graph.node.len();
        if self.node_count > MAX_NODES {
            return Err(InspectError::structure(
                "the graph",
                format!("has more than {MAX_NODES} nodes"),
                "simplify it, for example by folding constants",
            ));
        }
        Ok(())
    }

    fn node<'a>(
        &mut self,
        node: &'a NodeProto,
        names: &HashSet<&'a str>,
        constants: &Constants<'a>,
        depth: usize,
    ) -> Result<(), InspectError> {
        self.operator(node)?;
        for input in node.input.iter().filter(|name| !name.is_empty()) {
            check_defined(names, input, || place(node))?;
        }
        node::check(node, constants)?;
        for attribute in &node.attribute {
            self.attribute(node, attribute, names, depth)?;
        }
        Ok(())
    }

    fn operator(&mut self, node: &NodeProto) -> Result<(), InspectError> {
        let domain = domain(&node.domain);
        let operator = format!("{}.{}", short(domain), short(&node.op_type));
        if !DOMAINS.contains(&domain) || !self.known_operators.contains(&node.op_type) {
            return Err(InspectError::UnsupportedOperator { operator, place: place(node) });
        }
        self.operators.insert(operator);
        Ok(())
    }

    fn attribute<'a>(
        &mut self,
        node: &NodeProto,
        attribute: &'a AttributeProto,
        names: &HashSet<&'a str>,
        depth: usize,
    ) -> Result<(), InspectError> {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            self.constant(tensor, &format!("{}, attribute '{}'", place(node), short(&attribute.name)))?;
        }
        if attribute.sparse_tensor.is_some() {
            return Err(InspectError::structure(
                place(node),
                "has a sparse constant, which the engine cannot read",
                "store it as a dense tensor",
            ));
        }
        attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.scope(graph, names, depth + 1))
    }

    /// Checks a constant. The sum of all needs no bound of its own: each is as long as its bytes in the file.
    fn constant(&mut self, tensor: &TensorProto, place: &str) -> Result<(), InspectError> {
        self.constant_bytes += tensors::check_constant(tensor, place)?;
        Ok(())
    }
}

/// `node 'conv1' (Conv)`
pub(super) fn place(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    let name = name.map_or("", String::as_str);
    format!("node '{}' ({})", short(name), short(&node.op_type))
}

/// Every name that the graph defines; each may be defined once.
fn defined(graph: &GraphProto) -> Result<HashSet<&str>, InspectError> {
    // An initialiser may repeat an input's name: that is its default value.
    let mut names: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    names.extend(graph.input.iter().map(|input| input.name.as_str()));
    for node in &graph.node {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !names.insert(output) {
                return Err(InspectError::structure(
                    place(node),
                    format!("defines '{}', which is defined already", short(output)),
                    "export the model again; every value must have one origin",
                ));
            }
        }
    }
    Ok(names)
}

fn check_defined(
    names: &HashSet<&str>,
    name: &str,
    place: impl FnOnce() -> String,
) -> Result<(), InspectError> {
    if names.contains(name) {
        return Ok(());
    }
    Err(InspectError::structure(
        place(),
        format!("names '{}', which nothing defines", short(name)),
        "export the model again; the file is incomplete",
    ))
}

fn constants(graph: &GraphProto) -> Constants<'_> {
    let nodes = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
        let value = node.attribute.iter().find(|attribute| attribute.name == "value")?;
        Some((node.output.first()?.as_str(), value.t.as_ref()?))
    });
    graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).chain(nodes).collect()
}
