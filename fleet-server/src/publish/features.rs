//! Which features of a model are watched: as the publisher's schema says, or derived from the model.
//!
//! Both give a [`Plan`], a list of features of which it is known where they are read. What their values were, and for
//! categories which there are, only the sample tells ([`reference`](super::reference)).

mod derive;
mod entries;
mod file;

use muster_engine::features::elements_of_row;
use muster_sketch::{detector::Vocabulary, reference::MAX_FEATURES};
use shared::manifest::{
    CapturePolicy, DriftGuardrail, FeatureSource, ImageLayout, ImageStatistic, Reading, Side, TensorSpec,
};

use super::sample::ElementNames;
use crate::config::ConfigError;

/// Projections of an embedding when the schema does not say how many: as many as found every change of the test images
/// together with the other figures.
const PROJECTIONS: u32 = 8;

/// A model's inputs and outputs.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    pub(super) inputs: &'a [TensorSpec],
    pub(super) outputs: &'a [TensorSpec],
}

/// What is to be watched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// In the order of the reference. None when they are to be derived.
    pub(super) features: Vec<Planned>,
    pub(super) capture: CapturePolicy,
    pub(super) guardrail: Option<DriftGuardrail>,
}

/// A feature to be watched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) name: String,
    /// Whether the publisher named it, so that columns of a table are found by the name.
    pub(super) is_named: bool,
    pub(super) side: Side,
    pub(super) tensor: String,
    pub(super) what: What,
}

/// What is read, as far as it is known without the sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// A number, all of which is known.
    Number(Reading),
    /// A whole number that names a category.
    Code {
        index: u32,
        /// The numbers with what they are called; those of the sample where the publisher does not list them.
        codes: Option<Vec<(i64, String)>>,
        vocabulary: Vocabulary,
    },
    /// The class with the largest score.
    TopClass {
        /// What classes are called, in the order of the scores.
        names: Option<Vec<String>>,
    },
}

impl<'a> Model<'a> {
    pub(super) fn tensors(&self, side: Side) -> &'a [TensorSpec] {
        match side {
            Side::Input => self.inputs,
            Side::Output => self.outputs,
        }
    }

    /// Elements of a row of a tensor, where the model fixes them.
    fn elements(&self, spec: &TensorSpec) -> Option<u64> {
        elements_of_row(spec, self.inputs)
    }
}

impl Plan {
    /// Reads a schema.
    ///
    /// # Errors
    /// Names line and column.
    pub(super) fn read(text: &str, model: Model<'_>) -> Result<Self, ConfigError> {
        file::read(text, model)
    }

    /// What a publisher without a schema gets.
    pub(super) fn derived() -> Self {
        Self { features: vec![], capture: CapturePolicy::default(), guardrail: None }
    }

    /// Whether the features are to be derived from the model.
    pub(super) fn is_derived(&self) -> bool {
        self.features.is_empty()
    }

    /// The features, derived where the schema names none. `header` are the columns of the sample, if it is a table of one
    /// input.
    ///
    /// # Errors
    /// When nothing can be derived, or more than is watched.
    pub(super) fn features(
        &self,
        model: Model<'_>,
        header: Option<&[String]>,
    ) -> Result<Vec<Planned>, String> {
        if !self.is_derived() {
            return Ok(self.features.clone());
        }
        let derived = derive::features(model, header);
        match derived.len() {
            0 => Err("nothing of this model can be watched without being told: it has no image and no small table as input, \
                      and no scores as output; say in features.toml what is to be watched"
                .into()),
            1..=MAX_FEATURES => Ok(derived),
            many => Err(format!(
                "{many} features could be watched, and {MAX_FEATURES} are: choose in features.toml those that the model depends on"
            )),
        }
    }

    /// What the publisher calls elements of inputs.
    pub(super) fn element_names(&self) -> ElementNames {
        let named = |feature: &Planned| {
            let index = match &feature.what {
                What::Number(Reading::Element { index }) | What::Code { index, .. } => *index,
                What::Number(_) | What::TopClass { .. } => return None,
            };
            let is_element = feature.is_named && feature.side == Side::Input;
            is_element.then(|| ((feature.tensor.clone(), index), feature.name.clone()))
        };
        self.features.iter().filter_map(named).collect()
    }
}

impl Planned {
    /// Where devices read it. `codes` are the numbers of its categories, where it has such.
    pub(super) fn source(&self, codes: Vec<i64>) -> FeatureSource {
        let reading = match &self.what {
            What::Number(reading) => reading.clone(),
            What::TopClass { .. } => Reading::TopClass,
            What::Code { index, vocabulary, .. } => {
                Reading::Code { index: *index, codes, vocabulary: *vocabulary }
            }
        };
        FeatureSource { side: self.side, tensor: self.tensor.clone(), reading }
    }
}

/// The statistics of an image with their names in `features.toml`.
fn statistics(name: &str, channels: u32) -> Option<Vec<ImageStatistic>> {
    Some(match name {
        "mean" => (0..channels).map(|channel| ImageStatistic::Mean { channel }).collect(),
        "deviation" => (0..channels).map(|channel| ImageStatistic::Deviation { channel }).collect(),
        "sharpness" => vec![ImageStatistic::Sharpness],
        "gradient" => vec![ImageStatistic::Gradient],
        "saturated" => vec![ImageStatistic::Saturated],
        _ => return None,
    })
}

/// All that [`statistics`] knows.
const STATISTICS: [&str; 5] = ["mean", "deviation", "sharpness", "gradient", "saturated"];

/// `image.mean[2]`, `image.sharpness`
fn statistic_name(image: &str, statistic: ImageStatistic) -> String {
    match statistic {
        ImageStatistic::Mean { channel } => format!("{image}.mean[{channel}]"),
        ImageStatistic::Deviation { channel } => format!("{image}.deviation[{channel}]"),
        ImageStatistic::Sharpness => format!("{image}.sharpness"),
        ImageStatistic::Gradient => format!("{image}.gradient"),
        ImageStatistic::Saturated => format!("{image}.saturated"),
    }
}

/// `x[3]`, or `x` where it has one element
fn element_name(tensor: &str, index: u32, elements: Option<u64>) -> String {
    if elements == Some(1) { tensor.to_owned() } else { format!("{tensor}[{index}]") }
}

fn image_features(tensor: &str, name: &str, layout: ImageLayout, chosen: &[ImageStatistic]) -> Vec<Planned> {
    let feature = |&statistic: &ImageStatistic| Planned {
        name: statistic_name(name, statistic),
        is_named: false,
        side: Side::Input,
        tensor: tensor.to_owned(),
        what: What::Number(Reading::Image { layout, statistic }),
    };
    chosen.iter().map(feature).collect()
}

#[cfg(test)]
mod tests;
