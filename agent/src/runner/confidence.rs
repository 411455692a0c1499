//! How sure a model is of its answers, read off answers that are probabilities.
//!
//! Nobody has to say so: a model whose only output of floating point numbers has rows of probabilities is a classifier,
//! and the confidence of a row is its largest one. An answer of another shape shows that the version is none, and so do
//! numbers that are no probabilities several times in a row; then nothing is read from it any more. Logits, boxes and masks
//! have no confidence here.

use std::sync::atomic::{AtomicU32, Ordering};

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

/// So many answers in a row whose numbers are no distribution show that they never are. One alone may be a row that
/// rounding threw off.
const MAX_MISSES: u32 = 8;

/// Reads the confidence of one version's answers.
#[derive(Debug)]
pub(crate) struct Confidence {
    /// Where the probabilities are; `None` when they can be nowhere.
    output: Option<usize>,
    /// Answers in a row that were something else; from [`MAX_MISSES`] on nothing is read any more.
    misses: AtomicU32,
}

impl Confidence {
    /// For a version with these outputs.
    pub(crate) fn new(outputs: &[TensorSpec]) -> Self {
        let mut floats = outputs.iter().enumerate().filter(|(_, spec)| is_float(spec.datatype));
        let output = match (floats.next(), floats.next()) {
            (Some((index, _)), None) => Some(index),
            _ => None,
        };
        Self { output, misses: AtomicU32::new(0) }
    }

    /// The confidence of each row of an answer, as sums; nothing when it has none, or more rows than are read.
    pub(crate) fn of(&self, outputs: &[Tensor]) -> Sums {
        let Some(tensor) = self.output.and_then(|index| outputs.get(index)) else { return Sums::default() };
        // No rows say nothing about what rows are, and neither does a batch that is not read.
        if self.misses.load(Ordering::Relaxed) >= MAX_MISSES || tensor.is_empty() {
            return Sums::default();
        }
        let Some(classes) = classes_of(tensor) else {
            self.misses.store(MAX_MISSES, Ordering::Relaxed);
            return Sums::default();
        };
        if tensor.len() > MAX_ELEMENTS {
            return Sums::default();
        }
        let sums = of_rows(tensor, classes);
        match sums {
            // Threads that answer at once may lose a miss among them, but none makes one.
            Some(_) => self.misses.store(0, Ordering::Relaxed),
            None => drop(self.misses.fetch_add(1, Ordering::Relaxed)),
        }
        sums.unwrap_or_default()
    }
}

fn is_float(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}

/// `None` where the shape is not that of rows of two classes or more.
fn classes_of(tensor: &Tensor) -> Option<usize> {
    match tensor.shape() {
        [classes] | [_, classes] => usize::try_from(*classes).ok().filter(|classes| *classes >= 2),
        _ => None,
    }
}

/// `None` when a row is no distribution.
fn of_rows(tensor: &Tensor, classes: usize) -> Option<Sums> {
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
    fn answers_that_are_never_distributions_show_that_there_is_no_confidence() {
        // At an answer of another shape it shows at once.
        let answers = [
            (MAX_MISSES, floats(vec![1, 3], &[2.0, -1.0, 0.0])),
            (MAX_MISSES, floats(vec![1, 3], &[0.9, 0.9, 0.1])),
            (1, floats(vec![1, 1], &[1.0])),
            (1, floats(vec![1, 1, 2], &[0.5, 0.5])),
            (MAX_MISSES, floats(vec![1, 2], &[f32::NAN, 1.0])),
        ];
        for (times, answer) in answers {
            let confidence = classifier();
            for _ in 0..times {
                assert!(confidence.of(std::slice::from_ref(&answer)).is_empty(), "{:?}", answer.shape());
            }
            assert!(confidence.of(&[floats(vec![1, 2], &[0.5, 0.5])]).is_empty(), "{:?}", answer.shape());
        }
    }

    #[test]
    fn a_row_that_rounding_threw_off_is_left_out_and_ends_nothing() {
        let (off, right) = (floats(vec![1, 2], &[0.52, 0.5]), floats(vec![1, 2], &[0.5, 0.5]));
        let confidence = classifier();
        for _ in 0..3 * MAX_MISSES {
            assert!(confidence.of(std::slice::from_ref(&off)).is_empty());
            assert_eq!(confidence.of(std::slice::from_ref(&right)).count, 1);
        }
    }

    #[test]
    fn a_batch_that_is_too_large_to_be_read_ends_nothing() {
        let rows = MAX_ELEMENTS / 2 + 1;
        let large = floats(vec![rows as u64, 2], &vec![0.5; 2 * rows]);
        let confidence = classifier();
        for _ in 0..=MAX_MISSES {
            assert!(confidence.of(std::slice::from_ref(&large)).is_empty());
        }
        assert_eq!(confidence.of(&[floats(vec![1, 2], &[0.5, 0.5])]).count, 1);
    }

    #[test]
    fn an_answer_without_rows_decides_nothing() {
        let confidence = classifier();
        assert!(confidence.of(&[floats(vec![0, 3], &[])]).is_empty());
        assert_eq!(confidence.of(&[floats(vec![1, 2], &[0.5, 0.5])]).count, 1);
    }
}
