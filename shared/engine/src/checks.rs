//! What every output must be, whatever the model: finite, and of the type and shape that the manifest says.

use std::collections::BTreeMap;

use shared::manifest::{Dim, TensorSpec};
use thiserror::Error;

use crate::tensor::Tensor;

/// What is wrong with the outputs of a run.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum WrongOutput {
    /// A NaN or an infinity.
    #[error("output '{0}' has a value that is NaN or infinite")]
    NotFinite(String),
    /// More or fewer outputs than the manifest lists.
    #[error("{found} outputs where the manifest lists {expected}")]
    Count {
        /// In the manifest.
        expected: usize,
        /// Found.
        found: usize,
    },
    /// Another type or shape.
    #[error("output is {found} where the manifest says {expected}")]
    Mismatch {
        /// In the manifest.
        expected: String,
        /// Found.
        found: String,
    },
}

/// Checks that no output holds a NaN or an infinity.
///
/// # Errors
/// Names the first output that does.
pub fn outputs_are_finite(specs: &[TensorSpec], outputs: &[Tensor]) -> Result<(), WrongOutput> {
    let wrong = outputs.iter().position(|output| !output.is_finite());
    let name = |index: usize| specs.get(index).map_or_else(|| index.to_string(), |spec| spec.name.clone());
    wrong.map_or(Ok(()), |index| Err(WrongOutput::NotFinite(name(index))))
}

/// Checks number, types and shapes of the outputs.
///
/// # Errors
/// Names the first output that differs.
pub fn outputs_match(specs: &[TensorSpec], outputs: &[Tensor]) -> Result<(), WrongOutput> {
    if specs.len() != outputs.len() {
        return Err(WrongOutput::Count { expected: specs.len(), found: outputs.len() });
    }
    let fits = |(spec, output): &(&TensorSpec, &Tensor)| {
        spec.datatype == output.datatype() && admits_output(spec, output.shape())
    };
    match specs.iter().zip(outputs).find(|pair| !fits(pair)) {
        None => Ok(()),
        Some((spec, output)) => {
            Err(WrongOutput::Mismatch { expected: spec.to_string(), found: format!("{output:?}") })
        }
    }
}

/// Like [`TensorSpec::admits`], but a variable axis may be empty: a detector that sees nothing answers that.
fn admits_output(spec: &TensorSpec, shape: &[u64]) -> bool {
    spec.shape.len() == shape.len()
        && spec.shape.iter().zip(shape).all(|(dim, &length)| match dim {
            Dim::Fixed(fixed) => *fixed == length,
            Dim::Symbol(_) => true,
        })
}

/// Checks that inputs are those of `specs`, each once, in any order, and that equal symbols have equal lengths;
/// gives them in the order of the specs.
pub(crate) fn order_inputs<'a>(
    specs: &[TensorSpec],
    inputs: &'a [(String, Tensor)],
) -> Result<Vec<&'a Tensor>, String> {
    if let Some((name, _)) = inputs.iter().find(|(name, _)| specs.iter().all(|spec| spec.name != *name)) {
        return Err(format!("the model has no input '{name}'; it has {}", list(specs)));
    }
    let mut symbols = BTreeMap::new();
    specs.iter().map(|spec| find_input(spec, inputs, &mut symbols)).collect()
}

fn find_input<'a, 's>(
    spec: &'s TensorSpec,
    inputs: &'a [(String, Tensor)],
    symbols: &mut BTreeMap<&'s str, u64>,
) -> Result<&'a Tensor, String> {
    let mut given = inputs.iter().filter(|(name, _)| *name == spec.name);
    let (_, tensor) = given.next().ok_or_else(|| format!("input '{}' is missing", spec.name))?;
    if given.next().is_some() {
        return Err(format!("input '{}' is given twice", spec.name));
    }
    if spec.datatype != tensor.datatype() || !spec.admits(tensor.shape()) {
        return Err(format!("input '{}' is {tensor:?} where the model takes {spec}", spec.name));
    }
    for (dim, &length) in spec.shape.iter().zip(tensor.shape()) {
        let Dim::Symbol(symbol) = dim else { continue };
        let bound = *symbols.entry(symbol).or_insert(length);
        if bound != length {
            return Err(format!("input '{}': axis '{symbol}' is {length}, but {bound} elsewhere", spec.name));
        }
    }
    Ok(tensor)
}

fn list(specs: &[TensorSpec]) -> String {
    specs.iter().map(TensorSpec::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::manifest::DataType;

    fn spec(name: &str, shape: Vec<Dim>) -> TensorSpec {
        TensorSpec { name: name.into(), datatype: DataType::Fp32, shape }
    }

    #[test]
    fn axes_of_one_symbol_must_agree() {
        let n = || Dim::Symbol("n".into());
        let specs = [spec("a", vec![n()]), spec("b", vec![n(), Dim::Fixed(1)])];
        let inputs = |a: u64, b: u64| {
            let zeros = |shape| Tensor::zeros(DataType::Fp32, shape).unwrap();
            [("b".to_owned(), zeros(vec![b, 1])), ("a".to_owned(), zeros(vec![a]))]
        };
        assert_eq!(order_inputs(&specs, &inputs(2, 2)).unwrap()[0].shape(), [2]);
        assert!(order_inputs(&specs, &inputs(2, 3)).unwrap_err().contains("axis 'n'"));
        assert!(order_inputs(&specs, &inputs(2, 2)[..1]).unwrap_err().contains("'a' is missing"));
    }

    #[test]
    fn an_output_of_another_shape_is_told_with_both_shapes() {
        let specs = [spec("y", vec![Dim::Fixed(2)])];
        let wrong = outputs_match(&specs, &[Tensor::zeros(DataType::Fp32, vec![3]).unwrap()]).unwrap_err();
        assert_eq!(wrong.to_string(), "output is FP32 [3] where the manifest says y FP32 [2]");
    }
}
