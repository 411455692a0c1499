//! Where the bins of a feature begin.

use serde::{Deserialize, Serialize};

use super::{ReferenceError, f32s_as_base64};

/// Edges of one feature: two around the range of the reference, six in its tails, 23 in the middle.
pub const MAX_EDGES: usize = 31;

/// Shares of the reference below an edge, in thousandths: 0.1, 0.5 and 2 % on each side, 24 equal parts between.
const THOUSANDTHS: [usize; MAX_EDGES - 2] = [
    1, 5, 20, 60, 100, 140, 180, 220, 260, 300, 340, 380, 420, 460, 500, 540, 580, 620, 660, 700, 740, 780,
    820, 860, 900, 940, 980, 995, 999,
];

/// Where the bins of a numeric feature begin: at most 31 edges, ascending, hence at most 32 bins.
///
/// A value belongs to an edge when it is **at least** the edge, everywhere. Bin 0 is below the first edge, which is the
/// smallest value of the reference; the last bin is from the last edge on, which is the next number above its largest
/// value. So the first and the last bin are always "outside the range of the reference" and empty in it. Quantiles that
/// coincide collapse: a feature of zeros and ones has the edges 0, 1 and just above 1, a constant one has two.
///
/// Without bins for the tails, one outlier in a hundred is found by no test on the counts, however long it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "EdgesForm", into = "EdgesForm")]
pub struct Edges(Vec<f32>);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct EdgesForm(#[serde(with = "f32s_as_base64")] Vec<f32>);

impl Edges {
    /// Cuts edges from finite values in ascending order. `None` without any.
    pub(super) fn cut(sorted: &[f32]) -> Option<Self> {
        let (&smallest, &largest) = (sorted.first()?, sorted.last()?);
        let quantiles = THOUSANDTHS.iter().map(|share| sorted[sorted.len() * share / 1_000]);
        let mut edges: Vec<f32> =
            std::iter::once(smallest).chain(quantiles).map(without_sign_of_zero).collect();
        edges.push(without_sign_of_zero(largest).next_up());
        edges.dedup();
        Some(Self(edges))
    }

    /// The edges, ascending. All are finite except perhaps the last: nothing finite is above `f32::MAX`.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Number of bins: one more than edges.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.0.len() + 1
    }

    /// The bin of a finite value.
    #[must_use]
    pub fn bin_of(&self, value: f32) -> usize {
        self.0.partition_point(|&edge| value >= edge)
    }

    /// Whether `value` is finite, in this bin, and a zero without a sign.
    #[inline]
    pub(crate) fn has_in(&self, bin: usize, value: f32) -> bool {
        let reaches_bin = bin == 0 || self.0.get(bin - 1).is_some_and(|&edge| value >= edge);
        let leaves_next = self.0.get(bin).is_none_or(|&edge| value < edge);
        let is_plain = value.is_finite() && without_sign_of_zero(value).to_bits() == value.to_bits();
        is_plain && reaches_bin && leaves_next
    }
}

/// Zero has two signs that compare equal, so it needs one form for merged extremes and hashes to agree to the bit.
pub(crate) fn without_sign_of_zero(value: f32) -> f32 {
    value + 0.0
}

impl TryFrom<EdgesForm> for Edges {
    type Error = ReferenceError;
    fn try_from(EdgesForm(edges): EdgesForm) -> Result<Self, ReferenceError> {
        let ascending = edges.is_sorted_by(|a, b| a < b);
        let inner_are_finite = edges.iter().rev().skip(1).all(|edge| edge.is_finite());
        let zero_has_no_sign =
            edges.iter().all(|&edge| without_sign_of_zero(edge).to_bits() == edge.to_bits());
        if (2..=MAX_EDGES).contains(&edges.len()) && ascending && inner_are_finite && zero_has_no_sign {
            return Ok(Self(edges));
        }
        Err(ReferenceError::Damaged { what: "its edges are not 2 to 31 ascending numbers" })
    }
}

impl From<Edges> for EdgesForm {
    fn from(edges: Edges) -> Self {
        Self(edges.0)
    }
}
