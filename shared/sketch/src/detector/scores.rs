//! What is looked at in a feature's bins, and the tables of bets on it. Made from the reference alone.

mod build;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::elementary;

/// A reference or baseline of fewer rows is refused: its own error would hide what is looked for.
pub const MIN_ROWS: u64 = 1_000;

/// Categories with a score of their own, the most frequent ones; the others share one.
pub const MAX_CATEGORY_SCORES: usize = 64;

/// More bins than any feature or list of classes has.
const MAX_BINS: usize = 65_536;

/// Stakes on a polynomial, whose values are from -1 to 1 around 0. The best stake for a small move `d` is three
/// times `d` for the first: the smallest is for 0.01, the largest leaves a twentieth when everything is lost.
const POLYNOMIAL_STAKES: [f64; STAKES] = [0.03, 0.06, 0.12, 0.22, 0.4, 0.6, 0.8, 0.95];

/// Smallest and largest stake on a larger share, with the others in equal ratios between; the best for a share that becomes
/// `k` times as large is about `k - 1`.
const LEAST_SHARE_STAKE: f64 = 0.15;
const LARGEST_SHARE_STAKE: f64 = 100.0;

/// No bet risks more of what it has.
const MAX_RISK: f64 = 0.95;

/// Stakes of each direction.
pub(super) const STAKES: usize = 8;

/// Why counts cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadCounts {
    /// Nothing to compare, or more than is handled.
    #[error(
        "{bins} bins: an ordered feature needs 3 (below, inside and above the reference's range) to 65,536, \
             a categorical one 2 (one category and unseen)"
    )]
    Bins {
        /// How many there are.
        bins: usize,
    },
    /// Counts of another reference.
    #[error(
        "{found} bins where the reference has {expected}: counts of different references are never compared"
    )]
    OtherReference {
        /// Bins of the counts.
        found: usize,
        /// Bins of the reference.
        expected: usize,
    },
    /// Too little to compare with.
    #[error("a baseline of {rows} rows: at least 1,000 are needed")]
    TooFewRows {
        /// How many there are.
        rows: u64,
    },
    /// Evidence of another set of scores.
    #[error("evidence on {found} bets where the reference has {expected}: it belongs to another reference")]
    OtherEvidence {
        /// Bets of the evidence.
        found: usize,
        /// Bets of the scores.
        expected: usize,
    },
}

/// Whether a category that the reference lacks can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vocabulary {
    /// All categories are known, as the classes of a model are. Anything else is news.
    Closed,
    /// The categories are those that happened to be in the reference. Rare ones may be missing: with three standard errors
    /// nearly seven samples in as many as the reference has rows may be new.
    Sampled,
}

/// What a score looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreName {
    /// Rank in the reference: larger or smaller values.
    Location,
    /// Second Legendre polynomial of the rank: more or less at both ends.
    Spread,
    /// Third Legendre polynomial of the rank.
    Skew,
    /// Lowest bins with at most 2.5 % of the reference.
    LowerTail,
    /// Highest bins with at most 2.5 %.
    UpperTail,
    /// Lowest bins with at most 0.6 %.
    FarLowerTail,
    /// Highest bins with at most 0.6 %.
    FarUpperTail,
    /// First and last bin.
    OutsideRange,
    /// An eighth of the reference, from 0 for the lowest. A stuck sensor is in one of them.
    Region(u8),
    /// The category of this bin.
    Category(u32),
    /// The categories that are too rare for a score of their own.
    OtherCategories,
    /// What the reference lacks.
    UnseenCategory,
}

/// Upwards or downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// The mean of the score rose.
    Up,
    /// It fell.
    Down,
}

impl Sign {
    pub(super) fn of(self, value: f64) -> f64 {
        match self {
            Self::Up => value,
            Self::Down => -value,
        }
    }
}

/// A score and where its mean went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direction {
    /// What was looked at.
    pub score: ScoreName,
    /// Which way it went.
    pub sign: Sign,
}

/// A function on the bins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Score {
    pub(super) name: ScoreName,
    pub(super) shape: Shape,
    /// Mean and standard deviation under the reference, the latter with one row that was never seen.
    pub(super) mean: f64,
    pub(super) deviation: f64,
    /// Its values are between these.
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

/// How its values are given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// One for each bin.
    Graded(Vec<f64>),
    /// 1 in these bins, 0 in the others.
    Share(Vec<usize>),
}

/// Bets on one direction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bets {
    pub(super) direction: Direction,
    /// Index of its score.
    pub(super) score: usize,
    pub(super) stakes: [f64; STAKES],
    /// For each stake the log-payoffs: of each bin, or within and outside of a share.
    pub(super) tables: Vec<f64>,
}

/// The scores of one feature with the tables of their bets. Not stored: made again from the reference's counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub(super) bins: usize,
    pub(super) vocabulary: Option<Vocabulary>,
    pub(super) scores: Vec<Score>,
    pub(super) bets: Vec<Bets>,
    /// Rank of the middle of each bin, from 0 to 1.
    pub(super) midranks: Vec<f64>,
}

impl Scores {
    /// Of an ordered feature, whose first and last bin are what is below and above the reference's range.
    ///
    /// # Errors
    /// When there are fewer than 3 bins, too many, or fewer than [`MIN_ROWS`] rows.
    pub fn numeric(reference: &[u64]) -> Result<Self, BadCounts> {
        let rows = check(reference, 3)?;
        let midranks = build::midranks(reference, rows);
        let scores = build::numeric(reference, rows, &midranks);
        Ok(Self::with(reference.len(), None, scores, midranks))
    }

    /// Of a categorical feature, whose last bin is for what is none of the categories.
    ///
    /// # Errors
    /// When there are fewer than 2 bins, too many, or fewer than [`MIN_ROWS`] rows.
    pub fn categorical(reference: &[u64], vocabulary: Vocabulary) -> Result<Self, BadCounts> {
        let rows = check(reference, 2)?;
        let scores = build::categorical(reference, rows);
        Ok(Self::with(reference.len(), Some(vocabulary), scores, build::midranks(reference, rows)))
    }

    fn with(bins: usize, vocabulary: Option<Vocabulary>, scores: Vec<Score>, midranks: Vec<f64>) -> Self {
        let bets = scores.iter().enumerate().flat_map(|(index, score)| {
            let signs = match score.name {
                // What left a region is in another one.
                ScoreName::Region(_) => &[Sign::Up][..],
                _ => &[Sign::Up, Sign::Down][..],
            };
            signs.iter().map(move |&sign| Bets::on(index, score, sign))
        });
        Self { bins, vocabulary, bets: bets.collect(), scores, midranks }
    }

    /// Bins that counts have to have.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// What is looked at, in the order of the evidence.
    pub fn directions(&self) -> impl ExactSizeIterator<Item = Direction> + '_ {
        self.bets.iter().map(|bets| bets.direction)
    }

    pub(super) fn check_bins(&self, counts: &[u64]) -> Result<(), BadCounts> {
        if counts.len() == self.bins {
            Ok(())
        } else {
            Err(BadCounts::OtherReference { found: counts.len(), expected: self.bins })
        }
    }
}

fn check(reference: &[u64], least_bins: usize) -> Result<u64, BadCounts> {
    if !(least_bins..=MAX_BINS).contains(&reference.len()) {
        return Err(BadCounts::Bins { bins: reference.len() });
    }
    enough_rows(reference)
}

pub(super) fn enough_rows(counts: &[u64]) -> Result<u64, BadCounts> {
    let rows = total(counts);
    if rows < MIN_ROWS { Err(BadCounts::TooFewRows { rows }) } else { Ok(rows) }
}

pub(super) fn total(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
}

impl Bets {
    fn on(index: usize, score: &Score, sign: Sign) -> Self {
        let most_lost = match sign {
            Sign::Up => score.mean - score.lowest,
            Sign::Down => score.highest - score.mean,
        };
        let largest = MAX_RISK / most_lost.max(MAX_RISK / LARGEST_SHARE_STAKE);
        let stakes = match (&score.shape, sign) {
            (Shape::Share(_), Sign::Up) => spread_stakes(largest),
            (Shape::Share(_), Sign::Down) | (Shape::Graded(_), _) => {
                POLYNOMIAL_STAKES.map(|stake| stake.min(largest))
            }
        };
        let payoff = |stake: f64, value: f64| elementary::ln(1.0 + stake * sign.of(value - score.mean));
        let tables = match &score.shape {
            Shape::Graded(values) => stakes
                .iter()
                .flat_map(|&stake| values.iter().map(move |&value| payoff(stake, value)))
                .collect(),
            Shape::Share(_) => {
                stakes.iter().flat_map(|&stake| [payoff(stake, 1.0), payoff(stake, 0.0)]).collect()
            }
        };
        Self { direction: Direction { score: score.name, sign }, score: index, stakes, tables }
    }
}

fn spread_stakes(largest: f64) -> [f64; STAKES] {
    let steps = elementary::ln(largest / LEAST_SHARE_STAKE) / (STAKES as f64 - 1.0);
    std::array::from_fn(|step| LEAST_SHARE_STAKE * elementary::exp(steps * step as f64))
}

impl Score {
    /// Sum over samples, and sum of squares.
    pub(super) fn sums(&self, counts: &[u64]) -> (f64, f64) {
        match &self.shape {
            Shape::Graded(values) => {
                values.iter().zip(counts).fold((0.0, 0.0), |(sum, squares), (&value, &count)| {
                    let count = count as f64;
                    (sum + value * count, squares + value * value * count)
                })
            }
            Shape::Share(bins) => {
                let inside = share(bins, counts) as f64;
                (inside, inside)
            }
        }
    }
}

pub(super) fn share(bins: &[usize], counts: &[u64]) -> u64 {
    bins.iter().fold(0, |sum, &bin| sum.saturating_add(counts[bin]))
}
