//! Reading the features of a model off its inputs and outputs, row by row: the same code makes the reference at the
//! server's gate and counts on the device, so both see the same numbers.
//!
//! # Rows
//! Where the first axis of every input is variable, each of its entries is a row, and outputs with as many entries have
//! one for each. Otherwise an inference is one row, and a row of a tensor is all of it.

mod distribution;
mod image;
mod projection;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use shared::manifest::{DataType, Dim, FeatureSource, ImageLayout, ImageStatistic, Reading, Side, TensorSpec};
use thiserror::Error;

use crate::tensor::Tensor;
use distribution::Distribution;
use image::ImageFigures;
use projection::Projections;
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
    /// Of sources that give numbers. A value that is missing or cannot be computed is NaN.
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

/// Figures of one pass over a row. Slots say where in a [`Row`] they go.
#[derive(Debug)]
enum Group {
    Elements(Vec<(usize, usize)>),
    Codes { index: usize, slot: usize, places: BTreeMap<i64, usize> },
    Image { layout: ImageLayout, slots: Vec<(ImageStatistic, usize)> },
    Projections { projections: Projections, slots: Vec<usize> },
    Distribution { confidence: Vec<usize>, entropy: Vec<usize>, top_class: Vec<usize> },
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
        let batched = inputs.iter().all(|spec| matches!(spec.shape.first(), Some(Dim::Symbol(_))));
        let counting = inputs.first().map(|spec| spec.name.clone()).unwrap_or_default();
        let mut extractor = Self { tensors: vec![], batched, counting, numbers: 0, places: 0 };
        for (place, source) in sources.iter().enumerate() {
            let unfit = |why| UnfitSource { place, tensor: source.tensor.clone(), why };
            let (tensor, spec) = find(source, inputs, outputs).ok_or_else(|| unfit("no such tensor".into()))?;
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

    /// Reads row number `row` into `into`, whose memory is used again.
    pub fn read(&self, inputs: &[(String, Tensor)], outputs: &[Tensor], row: usize, into: &mut Row) {
        let rows = self.rows(inputs);
        into.numbers.clear();
        into.numbers.resize(self.numbers, muster_sketch::window::MISSING);
        into.places.clear();
        into.places.resize(self.places, None);
        for watched in &self.tensors {
            let tensor = match &watched.tensor {
                Place::Input(name) => inputs.iter().find(|(input, _)| input == name).map(|(_, tensor)| tensor),
                Place::Output(index) => outputs.get(*index),
            };
            if let Some(values) = tensor.and_then(|tensor| Values::of_row(tensor, self.batched, row, rows)) {
                watched.groups.iter().for_each(|group| group.read(&values, into));
            }
        }
    }

    fn add(&mut self, source: &FeatureSource, tensor: Place, spec: &TensorSpec) -> Result<(), String> {
        let elements = elements_of_row(spec, self.batched);
        check_reading(&source.reading, spec, elements)?;
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

impl Group {
    /// A group of one figure. `elements` is the length of a row, where it is known.
    fn new(reading: &Reading, slot: usize, elements: Option<u64>) -> Self {
        match reading {
            Reading::Element { index } => Self::Elements(vec![(*index as usize, slot)]),
            Reading::Code { index, codes, .. } => {
                let places = codes.iter().enumerate().map(|(place, &code)| (code, place)).collect();
                Self::Codes { index: *index as usize, slot, places }
            }
            Reading::Image { layout, statistic } => {
                Self::Image { layout: *layout, slots: vec![(*statistic, slot)] }
            }
            Reading::Projection { seed, number } => {
                let length = elements.and_then(|elements| usize::try_from(elements).ok()).unwrap_or(0);
                let mut projections = Projections::new(*seed, length);
                projections.add(*number);
                Self::Projections { projections, slots: vec![slot] }
            }
            Reading::Confidence => {
                Self::Distribution { confidence: vec![slot], entropy: vec![], top_class: vec![] }
            }
            Reading::Entropy => {
                Self::Distribution { confidence: vec![], entropy: vec![slot], top_class: vec![] }
            }
            Reading::TopClass => {
                Self::Distribution { confidence: vec![], entropy: vec![], top_class: vec![slot] }
            }
        }
    }

    /// Takes one more figure, if the same pass gives it.
    fn join(&mut self, reading: &Reading, slot: usize) -> bool {
        match (self, reading) {
            (Self::Elements(slots), Reading::Element { index }) => slots.push((*index as usize, slot)),
            (Self::Image { layout: own, slots }, Reading::Image { layout, statistic }) if own == layout => {
                slots.push((*statistic, slot));
            }
            (Self::Projections { projections, slots }, Reading::Projection { seed, number })
                if projections.seed() == *seed =>
            {
                projections.add(*number);
                slots.push(slot);
            }
            (Self::Distribution { confidence, .. }, Reading::Confidence) => confidence.push(slot),
            (Self::Distribution { entropy, .. }, Reading::Entropy) => entropy.push(slot),
            (Self::Distribution { top_class, .. }, Reading::TopClass) => top_class.push(slot),
            _ => return false,
        }
        true
    }

    fn read(&self, values: &Values<'_>, into: &mut Row) {
        match self {
            Self::Elements(slots) => {
                for &(index, slot) in slots {
                    into.numbers[slot] = values.at(index).unwrap_or(muster_sketch::window::MISSING);
                }
            }
            Self::Codes { index, slot, places } => into.places[*slot] = values.code(*index, places),
            Self::Image { layout, slots } => {
                let Some(figures) = ImageFigures::of(values, *layout) else { return };
                slots.iter().for_each(|&(statistic, slot)| into.numbers[slot] = figures.get(statistic));
            }
            Self::Projections { projections, slots } => {
                let found = projections.of(&values.all());
                slots.iter().zip(found).for_each(|(&slot, found)| into.numbers[slot] = found);
            }
            Self::Distribution { confidence, entropy, top_class } => {
                let Some(found) = Distribution::of(&values.all()) else { return };
                confidence.iter().for_each(|&slot| into.numbers[slot] = found.confidence);
                entropy.iter().for_each(|&slot| into.numbers[slot] = found.entropy);
                top_class.iter().for_each(|&slot| into.places[slot] = Some(found.top_class));
            }
        }
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

/// Elements of a row, if no axis of it is variable.
fn elements_of_row(spec: &TensorSpec, batched: bool) -> Option<u64> {
    let skip = usize::from(batched && matches!(spec.shape.first(), Some(Dim::Symbol(_))));
    spec.shape.iter().skip(skip).try_fold(1_u64, |product, dim| match dim {
        Dim::Fixed(length) => product.checked_mul(*length),
        Dim::Symbol(_) => None,
    })
}

fn check_reading(reading: &Reading, spec: &TensorSpec, elements: Option<u64>) -> Result<(), String> {
    let in_row = |index: u32| match elements {
        Some(elements) if u64::from(index) >= elements => {
            Err(format!("no element {index} in a row of {elements}"))
        }
        Some(_) | None => Ok(()),
    };
    match reading {
        Reading::Element { index } => in_row(*index),
        Reading::Code { index, .. } => in_row(*index),
        Reading::Image { layout, .. } => match elements {
            Some(elements) if elements == layout.elements() => Ok(()),
            Some(elements) => {
                let asked = layout.elements();
                Err(format!("an image of {asked} elements in a row of {elements}"))
            }
            None => Err("an image needs a row of fixed size".into()),
        },
        Reading::Projection { .. } if elements.is_none() => {
            Err("an embedding needs a row of fixed size".into())
        }
        Reading::Confidence | Reading::Entropy | Reading::TopClass if !is_float(spec.datatype) => {
            Err(format!("probabilities are floating point numbers, not {}", spec.datatype))
        }
        Reading::Projection { .. } | Reading::Confidence | Reading::Entropy | Reading::TopClass => Ok(()),
    }
}

fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}
