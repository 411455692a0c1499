//! What one device, or the reference, was like: the means that a detector holds against what comes.

use super::scores::{BadCounts, ScoreName, Scores, Sign, Vocabulary, enough_rows};

/// Of a closed vocabulary so much of one row is allowed to be unseen, in place of an error that there is none of: with
/// three standard errors about one sample in as many as there are rows.
const CLOSED_REACH: f64 = 0.25;

/// Means of all scores with their errors. Not stored: made again from counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    pub(super) scores: Vec<Moments>,
    pub(super) errors: Vec<Doubt>,
}

/// Of one score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
    /// Of the mean.
    pub(super) error: f64,
}

/// How well the mean is known, in one direction: a part that grows with the number `c` of standard errors, and one with `c²`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Doubt {
    pub(super) error: f64,
    pub(super) reach: f64,
}

impl Doubt {
    /// Further off than `c` standard errors' chance. For a share that was seen `k` times this is `c·√(k+1) + (c²+2)/3`
    /// counts above it, the Cornish-Fisher expansion of a Poisson quantile with one count more under the root: within 2 % of
    /// the exact limit at three standard errors for every `k`, zero included.
    pub(super) fn at(self, standard_errors: f64) -> f64 {
        standard_errors * self.error + (standard_errors * standard_errors + 2.0) / 3.0 * self.reach
    }
}

impl Baseline {
    /// Of the counts of a device's own baseline, or of the reference itself.
    ///
    /// # Errors
    /// When they are of another reference, or of fewer than [`MIN_ROWS`](super::MIN_ROWS) samples.
    pub fn of(scores: &Scores, counts: &[u64]) -> Result<Self, BadCounts> {
        scores.check_bins(counts)?;
        let rows = enough_rows(counts)? as f64;
        let moments = scores.scores.iter().map(|score| {
            let (sum, squares) = score.sums(counts);
            let mean = sum / rows;
            let variance = (squares / rows - mean * mean).max(0.0);
            Moments { mean, variance, error: (variance / rows).sqrt() }
        });
        let moments: Vec<_> = moments.collect();
        let errors = scores.bets.iter().map(|bets| {
            let (score, own) = (&scores.scores[bets.score], moments[bets.score]);
            let closed = scores.vocabulary == Some(Vocabulary::Closed);
            if closed && score.name == ScoreName::UnseenCategory && own.mean == 0.0 {
                return Doubt { error: 0.0, reach: CLOSED_REACH / rows };
            }
            // One row that was not seen, as far out as rows can be.
            let furthest = match bets.direction.sign {
                Sign::Up => score.highest - own.mean,
                Sign::Down => own.mean - score.lowest,
            };
            let error = ((own.variance + furthest * furthest / rows) / rows).sqrt();
            Doubt { error, reach: furthest / rows }
        });
        Ok(Self { errors: errors.collect(), scores: moments })
    }
}
