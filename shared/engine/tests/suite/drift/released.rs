//! The demo's model with the reference of its training images, and what a device makes of it.

use std::{fs, sync::Arc};

use bytes::Bytes;
use muster_engine::{
    Engine, Session, Tensor, TractEngine,
    features::{Extractor, Row},
    inspect,
};
use muster_sketch::{
    detector::{Rule, Scores, Threshold, Vocabulary, Zone},
    reference::{CategoryReference, FeatureReference, NumericReference, Reference, ReferenceValues},
};
use shared::manifest::{FeatureSource, ImageLayout, ImageOrder, ImageStatistic, Reading, Side};

use super::cameras::{Picture, SIDE, demo, training_pictures};

/// One look in ten minutes and one false alarm in ten years: as a device does with the defaults of a release and that guardrail.
const LOOKS_A_YEAR: f64 = 365.25 * 24.0 * 6.0;
const YEARS: f64 = 10.0;

/// What is watched: what a server chooses for an image model whose publisher does not say.
fn sources() -> Vec<(&'static str, FeatureSource)> {
    let side = SIDE as u32;
    let layout = ImageLayout { order: ImageOrder::Chw, channels: 1, height: side, width: side };
    let image = |statistic| Reading::Image { layout, statistic };
    let input = |reading| FeatureSource { side: Side::Input, tensor: "image".into(), reading };
    let output = |reading| FeatureSource { side: Side::Output, tensor: "probabilities".into(), reading };
    vec![
        ("mean", input(image(ImageStatistic::Mean { channel: 0 }))),
        ("deviation", input(image(ImageStatistic::Deviation { channel: 0 }))),
        ("sharpness", input(image(ImageStatistic::Sharpness))),
        ("gradient", input(image(ImageStatistic::Gradient))),
        ("saturated", input(image(ImageStatistic::Saturated))),
        ("confidence", output(Reading::Confidence)),
        ("entropy", output(Reading::Entropy)),
        ("top class", output(Reading::TopClass)),
    ]
}

/// A model that answers, and the reader of its features.
struct Model {
    session: Box<dyn Session>,
    extractor: Extractor,
}

impl Model {
    fn digits() -> Self {
        let model = Bytes::from(fs::read(demo("digits-v2.onnx")).unwrap());
        let inspected = inspect(&model).unwrap();
        let session = TractEngine.load(model, &inspected.inputs, &inspected.outputs).unwrap();
        let sources: Vec<_> = sources().into_iter().map(|(_, source)| source).collect();
        let extractor = Extractor::new(&sources, session.inputs(), session.outputs()).unwrap();
        Self { session, extractor }
    }

    /// What a device reads off a picture and the model's answer to it.
    fn read(&self, picture: &Picture) -> Row {
        let shape = vec![1, 1, SIDE as u64, SIDE as u64];
        let inputs = vec![("image".to_owned(), Tensor::from_f32(shape, picture).unwrap())];
        let outputs = self.session.run(&inputs).unwrap();
        let mut row = Row::default();
        self.extractor.read(&inputs, &outputs, 0, &mut row);
        row
    }
}

/// The reference of the training images, with what a device makes of it.
pub struct Released {
    model: Model,
    pub reference: Arc<Reference>,
    pub scores: Vec<Scores>,
    pub rule: Rule,
}

impl Released {
    pub fn digits() -> Self {
        let model = Model::digits();
        let rows: Vec<_> = training_pictures().iter().map(|picture| model.read(picture)).collect();
        let features: Vec<_> = sources().iter().map(|(name, _)| *name).collect();
        let (classes, numbers) = features.split_last().unwrap();
        let of_number = |(place, name): (usize, &&str)| {
            let sample: Vec<_> = rows.iter().map(|row| row.numbers[place]).collect();
            let values = NumericReference::from_sample(name, &sample).unwrap();
            FeatureReference { name: (*name).to_owned(), values: ReferenceValues::Numeric(values) }
        };
        let mut features: Vec<_> = numbers.iter().enumerate().map(of_number).collect();
        features.push(FeatureReference { name: (*classes).to_owned(), values: top_classes(classes, &rows) });
        let scores = features.iter().map(|feature| match &feature.values {
            ReferenceValues::Numeric(numeric) => Scores::numeric(numeric.counts().bins()).unwrap(),
            ReferenceValues::Category(category) => {
                Scores::categorical(category.counts().bins(), Vocabulary::Closed).unwrap()
            }
        });
        let scores: Vec<_> = scores.collect();
        let directions = scores.iter().map(|scores| scores.directions().len() as u64).sum();
        let threshold = Threshold::one_false_alarm_in(YEARS, LOOKS_A_YEAR, scores.len() as u64).unwrap();
        let rule =
            Rule { zone: Zone::for_baselines(1, directions, 0.0).unwrap(), threshold, suppress_secs: 0 };
        Self { model, reference: Arc::new(Reference::new(features).unwrap()), scores, rule }
    }

    pub fn read(&self, picture: &Picture) -> Row {
        self.model.read(picture)
    }
}

fn top_classes(name: &str, rows: &[Row]) -> ReferenceValues {
    let mut counts = [0; 10];
    rows.iter().for_each(|row| counts[row.places[0].unwrap()] += 1);
    let named = counts.iter().enumerate().map(|(class, &count)| (class.to_string(), count)).collect();
    ReferenceValues::Category(CategoryReference::from_counts(name, named, 0).unwrap())
}
