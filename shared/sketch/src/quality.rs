//! What is broken in the data, beside what drifts: values that are missing, not finite, out of the reference's range or of no
//! category that it has, and sensors that are stuck. Looked for in counts that are merged over any windows and devices.
//!
//! # The rule
//! A [`QualityFinding`] is what a feature like its reference shows at one look with a chance of at most [`CHANCE`], one in a
//! billion: an hourly look at thirty features of each of a hundred devices finds something that is not there at most once in
//! nine years, over all kinds. And it is large enough to matter: [`MIN_EXCESS`], [`MIN_GROWTH`], [`MIN_STUCK_RUN`].
//!
//! | finding | rows that have it | bound of the chance |
//! |---|---|---|
//! | missing, non-finite | more than in the reference | given how many rows of both have it, which ones do is a draw without replacement: Hoeffding's bound of its tail (1963, theorem 1 and section 6) |
//! | out of range | any | the `x` outermost of `n + m` values are all new ones: `(x + 1)·(n/(n + m))^x`, for every split between both ends |
//! | new category | more than the reference's rare ones lead to expect | an e-value, see below |
//! | stuck | the longest run of one value | `n·p^(run − 1)` with `p` at least the chance of the most frequent value |
//!
//! All but the last hold whatever the true shares are, and allow for the error that the reference has as a sample itself.
//!
//! **New categories.** How many rows to expect of categories that a reference of `m` rows lacks is told by those that it has
//! once, twice … (Good 1953). Let a category have `c` rows in the reference and `x` of `n` new ones. While its share is the same in
//! both, `(1 + w·m/n)^x` where `c = 0`, and `1 − w^c` where it is not, is 1 on average for every `w` between 0 and 1, for
//! numbers of rows that are Poisson's. So the product over all categories is an e-value, which needs only the total of
//! the unseen ones; the mean over several `w` is one too, and reaches `1/chance` at most with that chance (Markov).
//! A feature such as a user's name, new in every row of the reference, thus never has new categories.
//!
//! **Stuck.** The chance of the most frequent value is bounded from the fullest bin of the reference, which holds that value's rows
//! and more (Hoeffding's bound, inverted); half of the chance is for that bound. A value that the reference has nearly always
//! is never stuck. Where the reference was given in its order, its own longest run tells how long values usually stay.
//!
//! # What it assumes
//! Rows are independent, and like those of the reference but for what is found. Whole stretches without values, or a sensor that
//! is slow or coarse against the pace of rows, come in clusters: they are found by these rules with less than they say. Nothing is
//! hidden by that. Looks at growing sums are many looks, each with its own chance.
//!
//! # What it does not see
//! A run ends with its window, so where windows have fewer rows than [`MIN_STUCK_RUN`] nothing is found stuck; nor is a sensor
//! that repeats a short pattern. What is not a row at all, such as a camera that sends nothing, is no matter of counts. A category
//! that is new in fewer than one row in a thousand is left to the [detector](crate::detector).

mod chance;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{
    categories::CategoryCounts,
    reference::{CategoryReference, NumericReference, ReferenceValues},
    window::{CountsError, FeatureCounts, NumericCounts},
};

/// The chance that a look at one feature finds one kind of thing that is not there.
pub const CHANCE: f64 = 1e-9;

/// A share has to exceed the reference's by this much. Of a million rows fewer are certain soon, and harm nobody.
pub const MIN_EXCESS: f64 = 0.001;

/// And by this part of it: devices differ from each other, so a share of a third that becomes 0.34 somewhere is no news.
pub const MIN_GROWTH: f64 = 0.1;

/// Shorter runs are not called stuck: a coarse sensor in a quiet room repeats itself.
pub const MIN_STUCK_RUN: u64 = 100;

/// And a run has to be so many times as long as the longest in the reference.
const MIN_STUCK_GROWTH: u64 = 2;

/// More rows are taken for this many with the same share: beside a reference of at most a sixteenth of that they add nothing, and
/// chances stay exact to a millionth.
const MOST_ROWS: u64 = 1 << 32;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityKind {
    /// Rows without a value, of all rows.
    Missing,
    /// Values that are NaN or infinite, of those that are there.
    NonFinite,
    /// Finite values below or above everything in the reference.
    OutOfRange,
    /// Values of no category that the reference has.
    NewCategory,
    /// The longest run of one finite value within a window.
    Stuck,
}

/// One thing that is broken in one feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityFinding {
    /// What.
    pub kind: QualityKind,
    /// Rows that have it; of a stuck value its longest run.
    pub count: u64,
    /// Rows that could have it, as [`QualityKind`] says.
    pub rows: u64,
    /// The one divided by the other, from 0 to 1.
    pub share: f64,
    /// The same of the reference; of a new category the share to expect, from those that the reference has once.
    pub expected: f64,
}

/// What is broken in the merged `counts` of one feature, in the order of [`QualityKind`]. Nothing in counts of nothing.
///
/// # Errors
/// When the counts are of another reference, or of no windows against this one.
pub fn findings(
    reference: &ReferenceValues,
    counts: &FeatureCounts,
) -> Result<Vec<QualityFinding>, CountsError> {
    counts.check(reference)?;
    Ok(match (reference, counts) {
        (ReferenceValues::Numeric(reference), FeatureCounts::Numeric(counts)) => numeric(reference, counts),
        (ReferenceValues::Category(reference), FeatureCounts::Category(counts)) => {
            category(reference, counts)
        }
        (ReferenceValues::Numeric(_), FeatureCounts::Category(_))
        | (ReferenceValues::Category(_), FeatureCounts::Numeric(_)) => vec![], // was refused above
    })
}

fn numeric(reference: &NumericReference, counts: &NumericCounts) -> Vec<QualityFinding> {
    let (now, then) = (counts, reference.counts());
    let values = |it: &NumericCounts| it.finite().saturating_add(it.non_finite());
    let missing = Shares::new((now.missing(), now.rows()), (then.missing(), then.rows()));
    let non_finite = Shares::new((now.non_finite(), values(now)), (then.non_finite(), values(then)));
    let outside = Shares::new((now.outside(), now.finite()), (0, then.finite()));
    let run = Shares::new((now.longest_run(), now.finite()), (then.longest_run(), then.finite()));
    let found = [
        missing.found(QualityKind::Missing, Shares::ln_of_more),
        non_finite.found(QualityKind::NonFinite, Shares::ln_of_more),
        outside.found(QualityKind::OutOfRange, Shares::ln_of_outside),
        is_stuck(&run, then.bins()).then(|| run.finding(QualityKind::Stuck)),
    ];
    found.into_iter().flatten().collect()
}

fn category(reference: &CategoryReference, counts: &CategoryCounts) -> Vec<QualityFinding> {
    let (now, then) = (counts, reference.counts());
    let missing = Shares::new((now.missing(), now.rows()), (then.missing(), then.rows()));
    let once = then.bins().iter().filter(|&&rows| rows == 1).count() as u64;
    let unseen = Shares::new((now.unseen(), now.seen()), (once, then.seen()));
    let ln_of_unseen =
        |unseen: &Shares| -chance::ln_evidence_of_new(unseen.now(), unseen.rows_then(), then.bins());
    let found = [
        missing.found(QualityKind::Missing, Shares::ln_of_more),
        unseen.found(QualityKind::NewCategory, ln_of_unseen),
    ];
    found.into_iter().flatten().collect()
}

/// How many of how many, now and in the reference.
struct Shares {
    now: (u64, u64),
    then: (u64, u64),
}

impl Shares {
    fn new(now: (u64, u64), then: (u64, u64)) -> Self {
        Self { now, then }
    }

    /// `ln_of` is the logarithm of a bound of the chance that it is none.
    fn found(&self, kind: QualityKind, ln_of: impl FnOnce(&Self) -> f64) -> Option<QualityFinding> {
        let finding = self.finding(kind);
        let matters = finding.share - finding.expected >= MIN_EXCESS.max(MIN_GROWTH * finding.expected);
        (matters && ln_of(self) <= chance::ln(CHANCE)).then_some(finding)
    }

    fn finding(&self, kind: QualityKind) -> QualityFinding {
        let share = |(count, rows): (u64, u64)| if rows == 0 { 0.0 } else { count as f64 / rows as f64 };
        let (count, rows) = self.now;
        QualityFinding { kind, count, rows, share: share(self.now), expected: share(self.then) }
    }

    fn ln_of_more(&self) -> f64 {
        chance::ln_of_more(self.now(), self.then())
    }

    fn ln_of_outside(&self) -> f64 {
        let splits = self.now().0 + 1.0;
        chance::ln_of_all_new(self.now(), self.rows_then()) + chance::ln(splits)
    }

    fn now(&self) -> (f64, f64) {
        let (count, rows) = (self.now.0 as f64, self.now.1 as f64);
        let kept = rows.min(MOST_ROWS as f64);
        ((count * (kept / rows)).floor(), kept)
    }

    fn then(&self) -> (f64, f64) {
        (self.then.0 as f64, self.then.1 as f64)
    }

    fn rows_then(&self) -> f64 {
        self.then().1
    }
}

fn is_stuck(run: &Shares, bins: &[u64]) -> bool {
    let (longest, values) = run.now;
    if longest < MIN_STUCK_RUN.max(run.then.0.saturating_mul(MIN_STUCK_GROWTH)) {
        return false;
    }
    let fullest = bins.iter().copied().max().unwrap_or(0) as f64;
    let half = chance::ln(CHANCE / 2.0);
    let most_frequent = chance::share_at_most((fullest, run.rows_then()), half);
    chance::ln(values as f64) + (longest - 1) as f64 * chance::ln(most_frequent) <= half
}
