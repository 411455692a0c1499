//! Golden vectors: inputs with the outputs that they must give, on every device, before a model is activated.
//!
//! The file is in the safetensors format, which is a table and the bytes and nothing that could be executed.
//! Tensors are named `inputs/<name>` and `outputs/<name>`; their first axis counts the cases, the others are the
//! shape of the tensor.

mod replay;

use std::collections::BTreeMap;

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use shared::manifest::{DataType, TensorSpec};
use thiserror::Error;

pub use replay::{GoldenFailure, ReplayFigures, replay};

use crate::tensor::Tensor;

/// Most cases: a self-test should take seconds.
pub const MAX_GOLDEN_CASES: u32 = 1_024;

const INPUTS: &str = "inputs/";
const OUTPUTS: &str = "outputs/";

/// Named tensors whose first axis counts the cases.
type Side = BTreeMap<String, Tensor>;

/// Golden vectors of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    cases: u32,
    inputs: Side,
    outputs: Side,
}

/// Why a file does not hold golden vectors, or not those of this model.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum InvalidGolden {
    /// Not a safetensors file.
    #[error("the golden vectors are not a safetensors file: {0}")]
    Format(String),
    /// A tensor is wrong.
    #[error("golden tensor '{name}' {problem}")]
    Tensor {
        /// With its side, for example `inputs/image`.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No case, or too many.
    #[error("{0} golden cases; allowed are 1 to {MAX_GOLDEN_CASES}")]
    Cases(u64),
}

impl Golden {
    /// Golden vectors out of named tensors whose first axis counts the cases.
    ///
    /// # Errors
    /// When the tensors disagree about the number of cases, or an output is NaN or infinite.
    pub fn new(
        inputs: BTreeMap<String, Tensor>,
        outputs: BTreeMap<String, Tensor>,
    ) -> Result<Self, InvalidGolden> {
        let count = inputs.values().next().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0);
        let cases = u32::try_from(count).ok().filter(|cases| (1..=MAX_GOLDEN_CASES).contains(cases));
        let cases = cases.ok_or(InvalidGolden::Cases(count))?;
        check_side(INPUTS, &inputs, count)?;
        check_side(OUTPUTS, &outputs, count)?;
        match outputs.iter().find(|(_, tensor)| !tensor.is_finite()) {
            Some((name, _)) => Err(wrong(OUTPUTS, name, "has a value that is NaN or infinite")),
            None => Ok(Self { cases, inputs, outputs }),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it is not safetensors, or holds other tensors than inputs and outputs of equally many cases.
    pub fn read(file: &Bytes) -> Result<Self, InvalidGolden> {
        let tensors =
            SafeTensors::deserialize(file).map_err(|error| InvalidGolden::Format(format!("{error:?}")))?;
        let (mut inputs, mut outputs) = (Side::new(), Side::new());
        for (name, view) in tensors.iter() {
            let (side, prefix, short) = match (name.strip_prefix(INPUTS), name.strip_prefix(OUTPUTS)) {
                (Some(short), _) => (&mut inputs, INPUTS, short),
                (_, Some(short)) => (&mut outputs, OUTPUTS, short),
                (None, None) => return Err(wrong("", name, "is neither under inputs/ nor under outputs/")),
            };
            let tensor = from_view(file, &view).map_err(|problem| wrong(prefix, short, problem))?;
            side.insert(short.to_owned(), tensor);
        }
        Self::new(inputs, outputs)
    }

    /// Writes the file; the same golden vectors give the same bytes.
    ///
    /// # Errors
    /// When the format cannot hold them.
    pub fn write(&self) -> Result<Vec<u8>, InvalidGolden> {
        let named = |prefix: &'static str, side: &Side| -> Vec<(String, Tensor)> {
            side.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
        };
        let all = [named(INPUTS, &self.inputs), named(OUTPUTS, &self.outputs)].concat();
        let views: Result<Vec<_>, _> =
            all.iter().map(|(name, tensor)| to_view(tensor).map(|view| (name, view))).collect();
        let format = |error| InvalidGolden::Format(format!("{error:?}"));
        safetensors::serialize(views.map_err(format)?, None).map_err(format)
    }

    /// Number of cases.
    #[must_use]
    pub fn cases(&self) -> u32 {
        self.cases
    }

    /// Inputs of case `index`; empty past the end.
    #[must_use]
    pub fn inputs(&self, index: u32) -> Vec<(String, Tensor)> {
        case(&self.inputs, index)
    }

    /// Outputs of case `index`; empty past the end.
    #[must_use]
    pub fn outputs(&self, index: u32) -> Vec<(String, Tensor)> {
        case(&self.outputs, index)
    }

    /// Checks that the vectors are of a model with these inputs and outputs: each there, none besides.
    ///
    /// # Errors
    /// Names the first tensor that does not fit.
    pub fn check_fits(&self, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Result<(), InvalidGolden> {
        fits(INPUTS, &self.inputs, inputs)?;
        fits(OUTPUTS, &self.outputs, outputs)
    }
}

fn case(side: &Side, index: u32) -> Vec<(String, Tensor)> {
    side.iter().filter_map(|(name, tensor)| Some((name.clone(), tensor.nth(index.into())?))).collect()
}

fn check_side(prefix: &str, side: &Side, cases: u64) -> Result<(), InvalidGolden> {
    if side.is_empty() {
        return Err(wrong(prefix, "", "is missing: there is no tensor of this kind"));
    }
    match side.iter().find(|(_, tensor)| tensor.shape().first() != Some(&cases)) {
        Some((name, tensor)) => {
            let problem = format!("is {tensor:?}, but the first axis must count the {cases} cases");
            Err(wrong(prefix, name, problem))
        }
        None => Ok(()),
    }
}

fn fits(prefix: &str, side: &Side, specs: &[TensorSpec]) -> Result<(), InvalidGolden> {
    if let Some(name) = side.keys().find(|name| specs.iter().all(|spec| spec.name != **name)) {
        return Err(wrong(prefix, name, "is not a tensor of the model"));
    }
    for spec in specs {
        let Some(tensor) = side.get(&spec.name) else {
            return Err(wrong(prefix, &spec.name, "is missing"));
        };
        let shape = tensor.shape().get(1..).unwrap_or_default();
        if tensor.datatype() != spec.datatype || !spec.admits(shape) {
            let problem = format!("is {tensor:?}; after the axis of the cases it must be {spec}");
            return Err(wrong(prefix, &spec.name, problem));
        }
    }
    Ok(())
}

fn wrong(prefix: &str, name: &str, problem: impl Into<String>) -> InvalidGolden {
    InvalidGolden::Tensor { name: format!("{prefix}{name}"), problem: problem.into() }
}

const DTYPES: [(Dtype, DataType); 13] = [
    (Dtype::BOOL, DataType::Bool),
    (Dtype::U8, DataType::Uint8),
    (Dtype::U16, DataType::Uint16),
    (Dtype::U32, DataType::Uint32),
    (Dtype::U64, DataType::Uint64),
    (Dtype::I8, DataType::Int8),
    (Dtype::I16, DataType::Int16),
    (Dtype::I32, DataType::Int32),
    (Dtype::I64, DataType::Int64),
    (Dtype::F16, DataType::Fp16),
    (Dtype::BF16, DataType::Bf16),
    (Dtype::F32, DataType::Fp32),
    (Dtype::F64, DataType::Fp64),
];

/// The tensor of a view into `file`, sharing its bytes.
fn from_view(file: &Bytes, view: &TensorView<'_>) -> Result<Tensor, String> {
    let known = DTYPES.iter().find(|(dtype, _)| *dtype == view.dtype());
    let (_, datatype) = known.ok_or_else(|| format!("has the element type {:?}", view.dtype()))?;
    let shape = view.shape().iter().map(|&length| length as u64).collect();
    Tensor::new(*datatype, shape, file.slice_ref(view.data())).map_err(|error| error.to_string())
}

fn to_view(tensor: &Tensor) -> Result<TensorView<'_>, safetensors::SafeTensorError> {
    let known = DTYPES.iter().find(|(_, datatype)| *datatype == tensor.datatype());
    let dtype = known.expect("every element type of the wire has a counterpart in safetensors").0;
    let shape = tensor.shape().iter().map(|&length| usize::try_from(length));
    let shape =
        shape.collect::<Result<_, _>>().map_err(|_| safetensors::SafeTensorError::ValidationOverflow)?;
    TensorView::new(dtype, shape, tensor.data())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str, shape: Vec<u64>, values: &[f32]) -> Side {
        Side::from([(name.to_owned(), Tensor::from_f32(shape, values).unwrap())])
    }

    #[test]
    fn golden_vectors_survive_their_file() {
        let golden =
            Golden::new(side("x", vec![2, 1], &[1.0, 2.0]), side("y", vec![2], &[3.0, 4.0])).unwrap();
        let file = Bytes::from(golden.write().unwrap());
        let read = Golden::read(&file).unwrap();
        assert_eq!(read, golden);
        assert_eq!(read.outputs(1)[0].1.to_f64(), [4.0]);
        assert!(read.inputs(2).is_empty());
    }

    #[test]
    fn golden_vectors_that_disagree_about_the_cases_are_refused() {
        let wrong = Golden::new(side("x", vec![2, 1], &[1.0, 2.0]), side("y", vec![1], &[3.0])).unwrap_err();
        assert!(wrong.to_string().contains("outputs/y"), "{wrong}");
    }

    #[test]
    fn a_golden_output_that_is_nan_is_refused() {
        assert!(Golden::new(side("x", vec![1], &[1.0]), side("y", vec![1], &[f32::NAN])).is_err());
    }

    #[test]
    fn a_file_that_is_not_safetensors_is_refused() {
        for bytes in [&b""[..], b"garbage", &[0xff; 64]] {
            assert!(matches!(Golden::read(&Bytes::copy_from_slice(bytes)), Err(InvalidGolden::Format(_))));
        }
    }
}
