//! How sure a model is of its answers, read off answers that are probabilities.
//!
//! Nobody has to say so: a model whose only output of floating point numbers has rows of probabilities is a classifier,
//! and the confidence of a row is its largest one. The first answer of another kind shows that the version is none, and
//! nothing is read from it any more; logits, boxes and masks have no confidence here.

use std::sync::atomic::{AtomicBool, Ordering};

use muster_engine::Tensor;
use shared::{
    manifest::{DataType, TensorSpec},
    telemetry::Sums,
};

/// A row of probabilities adds up to 1 but for this: what FP16 and eight bit quantisation lose over many classes.
const TOLERANCE: f64 = 0.01;

/// More numbers than this are no classes but a picture, which takes too long to read at every inference: 64 rows of the
/// 1,000 classes of ImageNet.
const MAX_ELEMENTS: usize = 64_000;

/// Reads the confidence of one version's answers.
#[derive(Debug)]
pub(crate) struct Confidence {
    /// Where the probabilities are; `None` when they can be nowhere.
    output: Option<usize>,
    /// An answer was something else.
    is_none: AtomicBool,
}

impl Confidence {
    /// For a version with these outputs.
    pub(crate) fn new(outputs: &[TensorSpec]) -> Self {
        let mut floats = outputs.iter().enumerate().filter(|(_, spec)| is_float(spec.datatype));
        let output = match (floats.next(), floats.next()) {
            (Some((index, _)), None) => Some(index),
            _ => None,
        };
        Self { output, is_none: AtomicBool::new(false) }
    }

    /// The confidence of each row of an answer, as sums; nothing when the version is no classifier.
    pub(crate) fn of(&self, outputs: &[Tensor]) -> Sums {
        let Some(tensor) = self.output.and_then(|index| outputs.get(index)) else { return Sums::default() };
        // No rows say nothing about what rows are.
        if self.is_none.load(Ordering::Relaxed) || tensor.is_empty() {
            return Sums::default();
        }
        let sums = of_rows(tensor);
        if sums.is_none() {
            self.is_none.store(true, Ordering::Relaxed);
        }
        sums.unwrap_or_default()
    }
}

fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}

/// `None` when a row is no distribution over two classes or more.
fn of_rows(tensor: &Tensor) -> Option<Sums> {
    let classes = match tensor.shape() {
        [classes] | [_, classes] => usize::try_from(*classes).ok()?,
        _ => return None,
    };
    if classes < 2 || tensor.len() > MAX_ELEMENTS {
        return None;
    }
    let mut sums = Sums::default();
    for row in tensor.to_f64().chunks_exact(classes) {
        sums.record(largest_probability(row)?);
    }
    Some(sums)
}

fn largest_probability(row: &[f64]) -> Option<f64> {
    let are_shares = row.iter().all(|share| (0.0..=1.0 + TOLERANCE).contains(share));
    let adds_up = (row.iter().sum::<f64>() - 1.0).abs() <= TOLERANCE;
    let largest = row.iter().copied().fold(0.0, f64::max);
    (are_shares && adds_up).then_some(largest.min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, datatype: DataType) -> TensorSpec {
        TensorSpec { name: name.into(), datatype, shape: vec![] }
    }

    fn floats(shape: Vec<u64>, values: &[f32]) -> Tensor {
        Tensor::from_f32(shape, values).unwrap()
    }

    fn classifier() -> Confidence {
        Confidence::new(&[spec("probabilities", DataType::Fp32)])
    }

    #[test]
    fn the_largest_probability_of_each_row_counts() {
        let rows = floats(vec![2, 3], &[0.2, 0.7, 0.1, 0.0, 0.0, 1.0]);
        let sums = classifier().of(&[rows]);
        assert!((sums.sum - 1.7).abs() < 1e-6 && sums.count == 2, "{sums:?}");
        assert_eq!(classifier().of(&[floats(vec![2], &[0.25, 0.75])]), Sums { sum: 0.75, count: 1 });
    }

    #[test]
    fn a_label_beside_the_probabilities_is_no_hindrance_and_another_float_output_is() {
        let (label, scores) = (spec("label", DataType::Int64), spec("scores", DataType::Fp32));
        let answer = [Tensor::zeros(DataType::Int64, vec![1]).unwrap(), floats(vec![1, 2], &[0.5, 0.5])];
        assert_eq!(Confidence::new(&[label.clone(), scores.clone()]).of(&answer).count, 1);
        let two = Confidence::new(&[scores.clone(), label, scores]);
        assert_eq!(two.of(&[floats(vec![1, 2], &[0.5, 0.5])]).count, 0);
    }

    #[test]
    fn the_first_answer_that_is_no_distribution_shows_that_there_is_no_confidence() {
        let answers = [
            floats(vec![1, 3], &[2.0, -1.0, 0.0]),
            floats(vec![1, 3], &[0.9, 0.9, 0.1]),
            floats(vec![1, 1], &[1.0]),
            floats(vec![1, 1, 2], &[0.5, 0.5]),
            floats(vec![1, 2], &[f32::NAN, 1.0]),
        ];
        for answer in answers {
            let confidence = classifier();
            assert!(confidence.of(std::slice::from_ref(&answer)).is_empty(), "{:?}", answer.shape());
            assert!(confidence.of(&[floats(vec![1, 2], &[0.5, 0.5])]).is_empty(), "{:?}", answer.shape());
        }
    }

    #[test]
    fn an_answer_without_rows_decides_nothing() {
        let confidence = classifier();
        assert!(confidence.of(&[floats(vec![0, 3], &[])]).is_empty());
        assert_eq!(confidence.of(&[floats(vec![1, 2], &[0.5, 0.5])]).count, 1);
    }
}
