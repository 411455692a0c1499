//! Two answers to one input, side by side.

use muster_engine::Tensor;
use shared::{challenger::ChallengerFigures, manifest::DataType};

use crate::runner::recent::top_class;

/// Counts how far the challenger's answer is from the champion's.
pub(crate) fn compare(figures: &mut ChallengerFigures, champion: &[Tensor], challenger: &[Tensor]) {
    figures.compared = figures.compared.saturating_add(1);
    figures.decided(top_class(champion), top_class(challenger));
    if let (Some(champion), Some(challenger)) = (champion.first(), challenger.first())
        && let Some(delta) = largest_delta(champion, challenger)
    {
        figures.differed(delta);
    }
}

/// The largest difference between scores in the same place; `None` where there are none to compare.
#[allow(clippy::cast_possible_truncation)] // a difference needs no more than single precision
fn largest_delta(champion: &Tensor, challenger: &Tensor) -> Option<f32> {
    let scores = |tensor: &Tensor| {
        matches!(tensor.datatype(), DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
    };
    if !scores(champion) || !scores(challenger) || champion.shape() != challenger.shape() {
        return None;
    }
    let (champion, challenger) = (champion.to_f64(), challenger.to_f64());
    let deltas = champion.iter().zip(&challenger).map(|(a, b)| (a - b).abs());
    deltas.max_by(f64::total_cmp).map(|delta| delta as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> ChallengerFigures {
        ChallengerFigures::new("m@1".parse().unwrap(), "m@2".parse().unwrap())
    }

    fn scores(values: &[f32]) -> Vec<Tensor> {
        vec![Tensor::from_f32(vec![1, values.len() as u64], values).unwrap()]
    }

    #[test]
    fn classes_and_scores_are_compared_apart() {
        let mut figures = figures();
        compare(&mut figures, &scores(&[0.1, 0.9]), &scores(&[0.3, 0.7]));
        compare(&mut figures, &scores(&[0.6, 0.4]), &scores(&[0.4, 0.6]));
        assert_eq!((figures.compared, figures.agreed, figures.disagreed), (2, 1, 1));
        assert_eq!((figures.disagreements[0].champion, figures.disagreements[0].challenger), (0, 1));
        let median = figures.score_delta.quantile(0.5).unwrap();
        assert!((median - 0.2).abs() < 0.02, "{median}");
    }

    #[test]
    fn answers_of_another_kind_are_counted_and_not_compared_in_scores() {
        let mut figures = figures();
        compare(&mut figures, &scores(&[0.1, 0.9]), &scores(&[0.1, 0.8, 0.1]));
        let number = |n: i64| vec![Tensor::new(DataType::Int64, vec![1], n.to_le_bytes().to_vec()).unwrap()];
        compare(&mut figures, &number(4), &number(4));
        compare(&mut figures, &[], &scores(&[0.1]));
        assert_eq!((figures.compared, figures.agreed), (3, 2));
        assert!(figures.score_delta.is_empty());
    }
}
