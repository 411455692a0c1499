//! The last inferences of a model, so that a label or a figure that comes later finds the version that answered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use muster_engine::Tensor;
use shared::manifest::DataType;

use super::figures::Figures;

/// Inferences remembered per model: an hour at one a second, and some hundred KiB.
pub(crate) const MAX_RECENT: usize = 4_096;

/// What is remembered of an inference.
#[derive(Clone)]
pub(crate) struct Answered {
    pub(crate) figures: Arc<Figures>,
    /// What a label is compared with; `None` without a single class, and once the label has come.
    pub(crate) top_class: Option<i64>,
}

/// A ring of inferences by id. A later inference of the same id takes the place of the earlier.
#[derive(Default)]
pub(crate) struct Recent {
    order: VecDeque<(u64, String)>,
    by_id: BTreeMap<String, (u64, Answered)>,
    next: u64,
}

impl Recent {
    pub(crate) fn insert(&mut self, id: String, answered: Answered) {
        if self.order.len() >= MAX_RECENT
            && let Some((number, oldest)) = self.order.pop_front()
            && self.by_id.get(&oldest).is_some_and(|(current, _)| *current == number)
        {
            self.by_id.remove(&oldest);
        }
        self.order.push_back((self.next, id.clone()));
        self.by_id.insert(id, (self.next, answered));
        self.next += 1;
    }

    /// The class that an inference decided for, and who counts it. Taken out, so that one label counts once.
    pub(crate) fn take_class(&mut self, id: &str) -> Option<(Arc<Figures>, i64)> {
        let (_, answered) = self.by_id.get_mut(id)?;
        let top_class = answered.top_class.take()?;
        Some((Arc::clone(&answered.figures), top_class))
    }

    /// Who counts what an inference did.
    pub(crate) fn figures(&self, id: &str) -> Option<Arc<Figures>> {
        self.by_id.get(id).map(|(_, answered)| Arc::clone(&answered.figures))
    }
}

/// The class that an inference of one row decided for: the index of the largest score, or the number itself when
/// the model answers with a single integer. `None` for anything else.
pub(crate) fn top_class(outputs: &[Tensor]) -> Option<i64> {
    let first = outputs.first()?;
    let rows = if first.shape().len() > 1 { first.shape()[0] } else { 1 };
    if rows != 1 || first.is_empty() {
        return None;
    }
    match first.datatype() {
        DataType::Int64 => first.map(i64::from_le_bytes).first().copied().filter(|_| first.len() == 1),
        DataType::Int32 => {
            first.map(i32::from_le_bytes).first().map(|&c| c.into()).filter(|_| first.len() == 1)
        }
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => largest(&first.to_f64()),
        _ => None,
    }
}

fn largest(scores: &[f64]) -> Option<i64> {
    let (index, _) = scores.iter().enumerate().rev().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    i64::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered() -> Answered {
        let figures = Figures::new("m@1".parse().unwrap(), Arc::default());
        Answered { figures: Arc::new(figures), top_class: Some(0) }
    }

    #[test]
    fn the_oldest_inference_is_forgotten_first() {
        let mut recent = Recent::default();
        (0..=MAX_RECENT).for_each(|i| recent.insert(i.to_string(), answered()));
        assert!(recent.take_class("0").is_none() && recent.figures("0").is_none());
        assert!(recent.take_class("1").is_some());
        assert!(recent.take_class("1").is_none(), "a label counts once");
        assert!(recent.figures("1").is_some(), "whose inference it was is still known");
    }

    #[test]
    fn an_id_used_again_is_not_forgotten_with_its_first_use() {
        let mut recent = Recent::default();
        recent.insert("again".into(), answered());
        recent.insert("again".into(), answered());
        (1..MAX_RECENT).for_each(|i| recent.insert(i.to_string(), answered()));
        assert!(recent.take_class("again").is_some());
    }

    #[test]
    fn the_top_class_of_equal_scores_is_the_first() {
        let scores = Tensor::from_f32(vec![1, 3], &[0.1, 0.5, 0.5]).unwrap();
        assert_eq!(top_class(&[scores]), Some(1));
        assert_eq!(top_class(&[Tensor::from_f32(vec![2, 1], &[0.1, 0.5]).unwrap()]), None);
    }
}
