//! What of a model's inputs and outputs is watched for drift, and what it looked like when the model was made.
//!
//! The publisher's sample is read once, by the server's gate: it cuts a reference for each feature and writes it into
//! the manifest, with where on the device the feature's values come from. So a device needs nothing but the signed manifest
//! to count, and both sides count alike.

use std::collections::BTreeSet;

use muster_sketch::{
    detector::{BadCounts, MAX_THINNING, Scores, Vocabulary},
    reference::{Reference, ReferenceValues},
    window::MIN_WINDOW_ROWS,
};
use serde::{Deserialize, Serialize};

use super::TensorSpec;

/// Pixels of one channel of an image, at most: 16 megapixels.
const MAX_PIXELS: u64 = 1 << 24;

/// Channels of an image; multispectral cameras have a dozen.
const MAX_CHANNELS: u32 = 64;

/// Projections of one embedding: more say no more than these.
pub const MAX_PROJECTIONS: u32 = 64;

/// What is watched of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftSpec {
    /// Where the values of each feature come from, in the order of the reference's features.
    pub sources: Vec<FeatureSource>,
    /// What they were when the model was made.
    pub reference: Reference,
    /// How devices count.
    #[serde(default)]
    pub capture: CapturePolicy,
    /// Whether a device raises alarms by itself, which needs no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail: Option<DriftGuardrail>,
}

/// Where the values of one feature come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSource {
    /// On which side of the model.
    pub side: Side,
    /// Name of the tensor.
    pub tensor: String,
    /// What is read from each of its rows.
    pub reading: Reading,
}

/// A side of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What goes in.
    Input,
    /// What comes out.
    Output,
}

/// What is read from a row of a tensor. A row is what one case brings: an entry of the first axis where that is
/// variable in all inputs, otherwise all of an inference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// A number: the element at this place of the row, in row-major order.
    Element {
        /// From 0.
        index: u32,
    },
    /// A category: the whole number at this place.
    Code {
        /// From 0.
        index: u32,
        /// The number of each category of the reference, in its order; each once.
        codes: Vec<i64>,
        /// Whether other numbers can be.
        vocabulary: Vocabulary,
    },
    /// A number: one figure of an image.
    Image {
        /// How the row is laid out.
        layout: ImageLayout,
        /// Which figure.
        statistic: ImageStatistic,
    },
    /// A number: one projection of an embedding, its dot product with a random direction that `seed` and `number` make.
    Projection {
        /// Shared by all projections of this output.
        seed: u64,
        /// Which of them, from 0.
        number: u32,
    },
    /// A number: the largest probability of the row.
    Confidence,
    /// A number: the entropy of the row's probabilities, in nats.
    Entropy,
    /// A category: the place of the largest value of the row. All classes are known.
    TopClass,
}

/// How an image lies in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageLayout {
    /// Which axis comes first.
    pub order: ImageOrder,
    /// 1 to 64.
    pub channels: u32,
    /// In pixels.
    pub height: u32,
    /// In pixels.
    pub width: u32,
}

/// Which axis of an image comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageOrder {
    /// Channels, rows, columns, as in NCHW.
    Chw,
    /// Rows, columns, channels, as in NHWC.
    Hwc,
}

/// One figure of an image. Only some rows of large images are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageStatistic {
    /// Mean of a channel: exposure, colour cast.
    Mean {
        /// From 0.
        channel: u32,
    },
    /// Standard deviation of a channel: contrast.
    Deviation {
        /// From 0.
        channel: u32,
    },
    /// Mean absolute value of the Laplacian over all channels: blur lowers it, noise raises it.
    Sharpness,
    /// Mean absolute difference of neighbours in a row over all channels.
    Gradient,
    /// Share of pixels at the largest value of their own image: over-exposure, a lamp in the picture.
    Saturated,
}

/// How a device counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CapturePolicy {
    /// Count every so manieth row; measured on the device when absent, from how alike its first rows are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u32>,
    /// A window is closed after this many seconds,
    pub window_secs: u32,
    /// and not before it has this many rows.
    pub min_rows: u32,
}

impl Default for CapturePolicy {
    /// A window of ten minutes: forty bytes a feature, six times an hour.
    fn default() -> Self {
        Self { every: None, window_secs: 600, min_rows: 50 }
    }
}

/// How rarely a device that watches itself may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftGuardrail {
    /// At most one false alarm in so many years of this device, over all its features, unless one of its baselines is further
    /// off than its zone, which has a chance of about 5 %.
    pub one_false_alarm_in_years: f64,
}

impl FeatureSource {
    /// Whether its values are categories.
    #[must_use]
    pub fn is_category(&self) -> bool {
        match self.reading {
            Reading::Code { .. } | Reading::TopClass => true,
            Reading::Element { .. }
            | Reading::Image { .. }
            | Reading::Projection { .. }
            | Reading::Confidence
            | Reading::Entropy => false,
        }
    }

    /// Whether there can be other categories than those of the reference. `None` for a number.
    #[must_use]
    pub fn vocabulary(&self) -> Option<Vocabulary> {
        match self.reading {
            Reading::Code { vocabulary, .. } => Some(vocabulary),
            Reading::TopClass => Some(Vocabulary::Closed),
            Reading::Element { .. }
            | Reading::Image { .. }
            | Reading::Projection { .. }
            | Reading::Confidence
            | Reading::Entropy => None,
        }
    }
}

impl DriftSpec {
    /// What a detector looks at in each feature, in the order of the reference.
    ///
    /// # Errors
    /// When a reference has too few rows or bins, which no manifest that was checked has.
    pub fn scores(&self) -> Result<Vec<Scores>, BadCounts> {
        let pairs = self.sources.iter().zip(self.reference.features());
        pairs
            .map(|(source, feature)| match source.vocabulary() {
                Some(vocabulary) => Scores::categorical(feature.values.bins(), vocabulary),
                None => Scores::numeric(feature.values.bins()),
            })
            .collect()
    }

    /// Checks that sources and reference belong together and to a model with these tensors, and that every number is in
    /// its range. What only the tensors' element types and sizes tell, the reader of features checks.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn check(&self, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Result<(), String> {
        let features = self.reference.features();
        if features.len() != self.sources.len() {
            let (sources, features) = (self.sources.len(), features.len());
            return Err(format!("drift: {sources} sources for {features} features"));
        }
        for (source, feature) in self.sources.iter().zip(features) {
            let side = match source.side {
                Side::Input => inputs,
                Side::Output => outputs,
            };
            if !side.iter().any(|spec| spec.name == source.tensor) {
                return Err(format!(
                    "drift: feature '{}' reads an unknown '{}'",
                    feature.name, source.tensor
                ));
            }
            check_source(source, &feature.values)
                .map_err(|why| format!("drift: feature '{}': {why}", feature.name))?;
        }
        self.scores().map_err(|error| format!("drift: {error}"))?;
        self.capture.check().map_err(|why| format!("drift: {why}"))?;
        self.guardrail.as_ref().map_or(Ok(()), DriftGuardrail::check).map_err(|why| format!("drift: {why}"))
    }
}

impl DriftGuardrail {
    /// Checks its number.
    ///
    /// # Errors
    /// When it is out of range.
    pub fn check(&self) -> Result<(), String> {
        let years = self.one_false_alarm_in_years;
        if (0.01..=10_000.0).contains(&years) {
            return Ok(());
        }
        Err(format!("one false alarm in {years} years; allowed are 0.01 to 10000"))
    }
}

impl CapturePolicy {
    /// Checks its numbers.
    ///
    /// # Errors
    /// Names the first that is out of range.
    pub fn check(&self) -> Result<(), String> {
        if self.every.is_some_and(|every| !(1..=MAX_THINNING).contains(&every)) {
            return Err(format!("`every` must be from 1 to {MAX_THINNING}"));
        }
        if !(1..=86_400).contains(&self.window_secs) {
            return Err("`window_secs`: a window takes 1 second to a day (86400)".into());
        }
        if !(MIN_WINDOW_ROWS..=1_000_000).contains(&u64::from(self.min_rows)) {
            return Err(format!("`min_rows`: a window needs {MIN_WINDOW_ROWS} to 1000000 rows"));
        }
        Ok(())
    }
}

fn check_source(source: &FeatureSource, values: &ReferenceValues) -> Result<(), String> {
    let categories = match values {
        ReferenceValues::Category(category) => Some(category.names().len()),
        ReferenceValues::Numeric(_) => None,
    };
    if source.is_category() != categories.is_some() {
        return Err("its values are of another kind than its reference".into());
    }
    match &source.reading {
        Reading::Code { codes, .. } => {
            let distinct: BTreeSet<_> = codes.iter().collect();
            if distinct.len() != codes.len() || Some(codes.len()) != categories {
                return Err("it needs one number for each category, each once".into());
            }
            Ok(())
        }
        Reading::Image { layout, statistic } => layout.check(*statistic),
        Reading::Projection { number, .. } if *number >= MAX_PROJECTIONS => {
            Err(format!("projection {number}; allowed are 0 to {}", MAX_PROJECTIONS - 1))
        }
        Reading::Element { .. }
        | Reading::Projection { .. }
        | Reading::Confidence
        | Reading::Entropy
        | Reading::TopClass => Ok(()),
    }
}

impl ImageLayout {
    /// Elements of a row.
    #[must_use]
    pub fn elements(&self) -> u64 {
        u64::from(self.channels) * u64::from(self.height) * u64::from(self.width)
    }

    fn check(self, statistic: ImageStatistic) -> Result<(), String> {
        let pixels = u64::from(self.height) * u64::from(self.width);
        if !(1..=MAX_PIXELS).contains(&pixels) || !(1..=MAX_CHANNELS).contains(&self.channels) {
            return Err(format!(
                "an image of {} × {} pixels and {} channels; allowed are up to {MAX_PIXELS} pixels and {MAX_CHANNELS} channels",
                self.height, self.width, self.channels
            ));
        }
        match statistic {
            ImageStatistic::Mean { channel } | ImageStatistic::Deviation { channel }
                if channel >= self.channels =>
            {
                Err(format!("channel {channel} of an image of {}", self.channels))
            }
            ImageStatistic::Mean { .. }
            | ImageStatistic::Deviation { .. }
            | ImageStatistic::Sharpness
            | ImageStatistic::Gradient
            | ImageStatistic::Saturated => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_sketch::reference::{CategoryReference, FeatureReference, NumericReference};

    use super::*;
    use crate::manifest::{DataType, Dim};

    fn spec() -> DriftSpec {
        let sample: Vec<f32> = (0..1_000_u16).map(f32::from).collect();
        let classes = vec![("cat".to_owned(), 600), ("dog".to_owned(), 500)];
        let features = vec![
            FeatureReference {
                name: "level".into(),
                values: ReferenceValues::Numeric(NumericReference::from_sample("level", &sample).unwrap()),
            },
            FeatureReference {
                name: "class".into(),
                values: ReferenceValues::Category(
                    CategoryReference::from_counts("class", classes, 0).unwrap(),
                ),
            },
        ];
        let source = |side, tensor: &str, reading| FeatureSource { side, tensor: tensor.into(), reading };
        DriftSpec {
            sources: vec![
                source(Side::Input, "x", Reading::Element { index: 3 }),
                source(Side::Output, "p", Reading::TopClass),
            ],
            reference: Reference::new(features).unwrap(),
            capture: CapturePolicy::default(),
            guardrail: None,
        }
    }

    fn check(spec: &DriftSpec) -> Result<(), String> {
        let tensor = |name: &str| TensorSpec {
            name: name.into(),
            datatype: DataType::Fp32,
            shape: vec![Dim::Symbol("N".into()), Dim::Fixed(4)],
        };
        spec.check(&[tensor("x")], &[tensor("p")])
    }

    #[test]
    fn a_spec_survives_its_json_with_the_same_reference() {
        let spec = spec();
        check(&spec).unwrap();
        let read: DriftSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!((read.reference.id(), &read), (spec.reference.id(), &spec));
        assert_eq!(read.scores().unwrap().len(), 2);
    }

    #[test]
    fn what_a_device_could_not_count_is_refused() {
        let image = |channels, statistic| Reading::Image {
            layout: ImageLayout { order: ImageOrder::Chw, channels, height: 8, width: 8 },
            statistic,
        };
        let code = |codes| Reading::Code { index: 0, codes, vocabulary: Vocabulary::Closed };
        let wrong: [(usize, Reading); 6] = [
            (0, Reading::TopClass),
            (1, Reading::Confidence),
            (0, image(3, ImageStatistic::Mean { channel: 3 })),
            (0, image(0, ImageStatistic::Sharpness)),
            (1, code(vec![1, 1])),
            (1, code(vec![1])),
        ];
        for (place, reading) in wrong {
            let mut spec = spec();
            spec.sources[place].reading = reading.clone();
            assert!(check(&spec).is_err(), "{reading:?}");
        }
        let mut spec = spec();
        spec.sources[0].tensor = "y".into();
        assert!(check(&spec).unwrap_err().contains("unknown 'y'"));
        spec.sources.pop();
        assert!(check(&spec).is_err());
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let policies = [
            CapturePolicy { every: Some(0), ..CapturePolicy::default() },
            CapturePolicy { every: Some(101), ..CapturePolicy::default() },
            CapturePolicy { window_secs: 0, ..CapturePolicy::default() },
            CapturePolicy { min_rows: 19, ..CapturePolicy::default() },
        ];
        for capture in policies {
            assert!(check(&DriftSpec { capture, ..spec() }).is_err(), "{capture:?}");
        }
        let guardrail = Some(DriftGuardrail { one_false_alarm_in_years: f64::NAN });
        assert!(check(&DriftSpec { guardrail, ..spec() }).is_err());
    }
}
