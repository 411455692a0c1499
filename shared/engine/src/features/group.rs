//! What one pass over a row gives: sources that need the same work share it.

use std::collections::BTreeMap;

use muster_sketch::window::MISSING;
use shared::manifest::{DataType, ImageLayout, ImageStatistic, Reading, Side, TensorSpec};

use super::{Row, distribution::Distribution, image::ImageFigures, projection::Projections, values::Values};

/// Elements of an embedding: none in use has more than some ten thousand, and each direction keeps a bit of each.
const MAX_EMBEDDING: u64 = 1 << 20;

/// Scores of one answer: vocabularies of language models have up to some hundred thousand.
const MAX_SCORES: usize = 1 << 18;

/// Figures of one pass over a row. Slots say where in a [`Row`] they go.
#[derive(Debug)]
pub(super) enum Group {
    Elements(Vec<(usize, usize)>),
    Codes { index: usize, slot: usize, places: BTreeMap<i64, usize> },
    Image { layout: ImageLayout, slots: Vec<(ImageStatistic, usize)> },
    Projections { projections: Projections, slots: Vec<usize> },
    Distribution { confidence: Vec<usize>, entropy: Vec<usize>, top_class: Vec<usize> },
}

impl Group {
    /// A group of one figure. `elements` is the length of a row, where it is known.
    pub(super) fn new(reading: &Reading, slot: usize, elements: Option<u64>) -> Self {
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
    pub(super) fn join(&mut self, reading: &Reading, slot: usize) -> bool {
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

    /// How many values of a row [`read`](Self::read) looks at, which is what it costs.
    pub(super) fn cost(&self, values: &Values<'_>) -> usize {
        let length = values.len();
        match self {
            Self::Elements(slots) => slots.len(),
            Self::Codes { .. } => 1,
            Self::Image { layout, .. } if length as u64 == layout.elements() => {
                ImageFigures::values_of(*layout)
            }
            Self::Projections { projections, slots } if length == projections.length() => {
                slots.len() * length
            }
            Self::Distribution { .. } if (1..=MAX_SCORES).contains(&length) => length,
            Self::Image { .. } | Self::Projections { .. } | Self::Distribution { .. } => 0,
        }
    }

    /// Puts the figures of a row into their slots, which say "missing" so far.
    pub(super) fn read(&self, side: Side, values: &Values<'_>, into: &mut Row) {
        match self {
            Self::Elements(slots) => {
                for &(index, slot) in slots {
                    let found = values.at(index).filter(|value| side == Side::Output || !value.is_nan());
                    into.numbers[slot] = found.unwrap_or(MISSING);
                }
            }
            Self::Codes { index, slot, places } => into.places[*slot] = values.place(*index, places),
            Self::Image { layout, slots } => {
                let Some(figures) = ImageFigures::of(values, *layout) else { return };
                slots.iter().for_each(|&(statistic, slot)| into.numbers[slot] = figures.get(statistic));
            }
            Self::Projections { projections, slots } => {
                if values.len() != projections.length() {
                    return;
                }
                let found = projections.of(&values.all());
                slots.iter().zip(found).for_each(|(&slot, found)| into.numbers[slot] = found);
            }
            Self::Distribution { confidence, entropy, top_class } => {
                if !(1..=MAX_SCORES).contains(&values.len()) {
                    return;
                }
                let found = Distribution::of(&values.all());
                let number = |figure: fn(Distribution) -> f32| found.map_or(f32::NAN, figure);
                confidence.iter().for_each(|&slot| into.numbers[slot] = number(|found| found.confidence));
                entropy.iter().for_each(|&slot| into.numbers[slot] = number(|found| found.entropy));
                top_class.iter().for_each(|&slot| into.places[slot] = found.map(|found| found.top_class));
            }
        }
    }
}

/// Whether a reading fits a tensor whose rows have so many elements, where that is known.
pub(super) fn check(reading: &Reading, spec: &TensorSpec, elements: Option<u64>) -> Result<(), String> {
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
        Reading::Projection { .. } => match elements {
            Some(1..=MAX_EMBEDDING) => Ok(()),
            Some(elements) => {
                Err(format!("an embedding of {elements} elements; allowed are 1 to {MAX_EMBEDDING}"))
            }
            None => Err("an embedding needs a row of fixed size".into()),
        },
        Reading::Confidence | Reading::Entropy | Reading::TopClass if !is_float(spec.datatype) => {
            Err(format!("probabilities are floating point numbers, not {}", spec.datatype))
        }
        Reading::Confidence | Reading::Entropy | Reading::TopClass => match elements {
            Some(elements) if !(1..=MAX_SCORES as u64).contains(&elements) => {
                Err(format!("{elements} scores; allowed are 1 to {MAX_SCORES}"))
            }
            Some(_) | None => Ok(()),
        },
    }
}

fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}
