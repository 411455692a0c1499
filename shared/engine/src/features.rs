//! Reading the features of a model off its inputs and outputs, row by row: the same code makes the reference at the
//! server's gate and counts on the device, so both see the same numbers.
//!
//! # Rows
//! Where the first axis of every input is variable, each of its entries is a row, and outputs with as many entries have
//! one for each. Otherwise an inference is one row, and a row of a tensor is all of it.
//!
//! # What is not there
//! NaN in an input is how tables say that a value is missing, so it is a missing number; other numbers that are not finite
//! are told as they are. What a row is too short for is missing too. Of an answer with NaN or infinities no probabilities can
//! be computed: its confidence and entropy are NaN, and it has no class.

mod distribution;
mod group;
mod image;
mod lanes;
mod projection;
mod values;

#[cfg(test)]
mod tests;

use shared::manifest::{Dim, FeatureSource, Side, TensorSpec};
use thiserror::Error;

use crate::tensor::Tensor;
use group::Group;
pub use values::Code;
use values::Values;

/// Why a source does not fit a model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{tensor}': {why}")]
pub struct UnfitSource {
    /// Its place in the list of sources.
    pub place: usize,
    /// The tensor that it reads.
    pub tensor: String,
    /// What is wrong.
    pub why: String,
}

/// The features of one row, in the order of their sources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Of sources that give numbers. A value that is missing is [`MISSING`](muster_sketch::window::MISSING), one that cannot
    /// be computed another NaN.
    pub numbers: Vec<f32>,
    /// Of sources that give categories: the place in the reference, beyond the last where it has none. `None` where the
    /// value is missing.
    pub places: Vec<Option<usize>>,
}

/// Reads the features of one model.
#[derive(Debug)]
pub struct Extractor {
    /// Each tensor that is read, with what is read from it. Sources that share a computation are side by side.
    tensors: Vec<Watched>,
    batched: bool,
    /// The input whose first axis counts the rows.
    counting: String,
    numbers: usize,
    places: usize,
}

/// A tensor and the groups of figures that are read from it.
#[derive(Debug)]
struct Watched {
    tensor: Place,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Input(String),
    Output(usize),
}

impl Place {
    fn side(&self) -> Side {
        match self {
            Self::Input(_) => Side::Input,
            Self::Output(_) => Side::Output,
        }
    }
}

impl Watched {
    /// How many of these values are looked at.
    fn cost(&self, values: &Values<'_>) -> usize {
        self.groups.iter().map(|group| group.cost(values)).sum()
    }
}

impl Extractor {
    /// Prepares to read `sources` off a model with these inputs and outputs.
    ///
    /// # Errors
    /// Names the first source that does not fit.
    pub fn new(
        sources: &[FeatureSource],
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, UnfitSource> {
        let batched = is_batched(inputs);
        let counting = inputs.first().map(|spec| spec.name.clone()).unwrap_or_default();
        let mut extractor = Self { tensors: vec![], batched, counting, numbers: 0, places: 0 };
        for (place, source) in sources.iter().enumerate() {
            let unfit = |why| UnfitSource { place, tensor: source.tensor.clone(), why };
            let (tensor, spec) =
                find(source, inputs, outputs).ok_or_else(|| unfit("no such tensor".into()))?;
            extractor.add(source, tensor, spec).map_err(unfit)?;
        }
        Ok(extractor)
    }

    /// Number of rows that an inference brings.
    #[must_use]
    pub fn rows(&self, inputs: &[(String, Tensor)]) -> usize {
        if !self.batched {
            return 1;
        }
        let counting = inputs.iter().find(|(name, _)| *name == self.counting);
        counting.and_then(|(_, tensor)| usize::try_from(*tensor.shape().first()?).ok()).unwrap_or(0)
    }

    /// How many values [`read_inputs`](Self::read_inputs) looks at for a row of these.
    #[must_use]
    pub fn input_cost(&self, inputs: &[(String, Tensor)]) -> usize {
        let rows = self.rows(inputs);
        let costs = self.tensors.iter().filter_map(|watched| {
            let Place::Input(name) = &watched.tensor else { return None };
            let (_, tensor) = inputs.iter().find(|(input, _)| input == name)?;
            let values = Values::of_row(tensor, self.batched, 0, rows)?;
            Some(watched.cost(&values))
        });
        costs.sum()
    }

    /// Reads row number `row` of an inference into `into`, whose memory is used again. Gives how many values were looked at, which
    /// is what it costs: about a nanosecond each.
    pub fn read(&self, inputs: &[(String, Tensor)], outputs: &[Tensor], row: usize, into: &mut Row) -> usize {
        self.read_inputs(inputs, row, into) + self.read_outputs(outputs, row, self.rows(inputs), into)
    }

    /// The same of what is known before there is an answer. What outputs give is missing until it is
    /// [read](Self::read_outputs).
    pub fn read_inputs(&self, inputs: &[(String, Tensor)], row: usize, into: &mut Row) -> usize {
        into.numbers.clear();
        into.numbers.resize(self.numbers, muster_sketch::window::MISSING);
        into.places.clear();
        into.places.resize(self.places, None);
        let (rows, mut looked_at) = (self.rows(inputs), 0);
        for watched in &self.tensors {
            if let Place::Input(name) = &watched.tensor
                && let Some((_, tensor)) = inputs.iter().find(|(input, _)| input == name)
            {
                looked_at += self.read_tensor(watched, tensor, (row, rows), into);
            }
        }
        looked_at
    }

    /// Adds what the answer to `rows` rows says of row number `row` to what was read of its inputs. Gives how many values were
    /// looked at.
    pub fn read_outputs(&self, outputs: &[Tensor], row: usize, rows: usize, into: &mut Row) -> usize {
        let mut looked_at = 0;
        for watched in &self.tensors {
            if let Place::Output(index) = watched.tensor
                && let Some(tensor) = outputs.get(index)
            {
                looked_at += self.read_tensor(watched, tensor, (row, rows), into);
            }
        }
        looked_at
    }

    fn read_tensor(
        &self,
        watched: &Watched,
        tensor: &Tensor,
        (row, rows): (usize, usize),
        into: &mut Row,
    ) -> usize {
        let Some(values) = Values::of_row(tensor, self.batched, row, rows) else { return 0 };
        let side = watched.tensor.side();
        watched.groups.iter().for_each(|group| group.read(side, &values, into));
        watched.cost(&values)
    }

    /// The whole number at place `index` of a row, as categories are read: for whoever does not know yet which there are.
    /// `rows` are those of the inference that the tensor is of.
    #[must_use]
    pub fn code(&self, tensor: &Tensor, row: usize, rows: usize, index: usize) -> Code {
        Values::of_row(tensor, self.batched, row, rows).map_or(Code::Missing, |values| values.code(index))
    }

    /// Elements that a row of a tensor has.
    #[must_use]
    pub fn row_len(&self, tensor: &Tensor, row: usize, rows: usize) -> usize {
        Values::of_row(tensor, self.batched, row, rows).map_or(0, |values| values.len())
    }

    fn add(&mut self, source: &FeatureSource, tensor: Place, spec: &TensorSpec) -> Result<(), String> {
        let elements = row_elements(spec, self.batched);
        group::check(&source.reading, spec, elements)?;
        let slot = if source.is_category() { &mut self.places } else { &mut self.numbers };
        let slot = std::mem::replace(slot, *slot + 1);
        let groups = match self.tensors.iter().position(|watched| watched.tensor == tensor) {
            Some(place) => &mut self.tensors[place].groups,
            None => {
                self.tensors.push(Watched { tensor, groups: vec![] });
                let last = self.tensors.len() - 1;
                &mut self.tensors[last].groups
            }
        };
        if !groups.iter_mut().any(|group| group.join(&source.reading, slot)) {
            groups.push(Group::new(&source.reading, slot, elements));
        }
        Ok(())
    }
}

fn find<'a>(
    source: &FeatureSource,
    inputs: &'a [TensorSpec],
    outputs: &'a [TensorSpec],
) -> Option<(Place, &'a TensorSpec)> {
    match source.side {
        Side::Input => {
            let spec = inputs.iter().find(|spec| spec.name == source.tensor)?;
            Some((Place::Input(spec.name.clone()), spec))
        }
        Side::Output => {
            let place = outputs.iter().position(|spec| spec.name == source.tensor)?;
            Some((Place::Output(place), &outputs[place]))
        }
    }
}

/// Whether each entry of the first axis is a row.
fn is_batched(inputs: &[TensorSpec]) -> bool {
    inputs.iter().all(|spec| matches!(spec.shape.first(), Some(Dim::Symbol(_))))
}

/// Elements of a row of a tensor of a model with these inputs. `None` where an axis of it is variable, or where they are
/// more than can be counted.
#[must_use]
pub fn elements_of_row(spec: &TensorSpec, inputs: &[TensorSpec]) -> Option<u64> {
    row_elements(spec, is_batched(inputs))
}

fn row_elements(spec: &TensorSpec, batched: bool) -> Option<u64> {
    let skip = usize::from(batched && matches!(spec.shape.first(), Some(Dim::Symbol(_))));
    spec.shape.iter().skip(skip).try_fold(1_u64, |product, dim| match dim {
        Dim::Fixed(length) => product.checked_mul(*length),
        Dim::Symbol(_) => None,
    })
}
