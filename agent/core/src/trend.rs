//! What the totals of a probation hide: a version that was fine for long and fails now.
//!
//! The totals of ten thousand good inferences outweigh hundreds of failures. So beside the test over everything runs
//! one over the *stretch*: what was seen since the evidence of being bad last stood at nothing (Page, 1954). Its ratio is the
//! largest over all the observations at which one could have begun to look.
//!
//! - **It condemns** when the stretch passes the threshold and `2·log₂(observations + 1)` more. Give the test that begins with
//!   observation k the weight 1/(k·(k+1)); the weights add up to 1, so the weighted sum of their ratios is a
//!   martingale under the rate that is fine, and by Ville's inequality it passes the threshold with a probability of at most one in
//!   `one_wrong_in`, however long one looks. A stretch that passes the threshold by `log₂(k·(k+1))` carries the sum
//!   over it alone.
//! - **It holds back** a version from being kept while the stretch is half the way to the threshold. A version that is fine
//!   stands there at a given moment with a probability of at most one in √`one_wrong_in`, one in a thousand by default, and some
//!   good inferences later it does not. Holding back condemns nobody, so the rule needs no more proof than that.

use serde::{Deserialize, Serialize};
use shared::{
    manifest::{ErrorTest, ProbationPolicy},
    telemetry::Counts,
};

use crate::sprt;

/// The stretches of both tests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trend {
    /// Since the evidence of failing last stood at nothing.
    pub failing: Counts,
    /// Since the evidence of being slow last stood at nothing.
    pub slow: Counts,
    /// Observations that said something, ever.
    pub observations: u64,
}

impl Trend {
    /// Adds an observation.
    pub(crate) fn add(&mut self, policy: &ProbationPolicy, more: &Counts) {
        if more.judged() == 0 {
            return;
        }
        self.observations = self.observations.saturating_add(1);
        stretch(&mut self.failing, &policy.failures, more, Counts::failures);
        stretch(&mut self.slow, &policy.slow, more, |counts| counts.slow);
    }

    /// What a stretch must pass beyond the threshold, since it could have begun with any observation.
    pub(crate) fn handicap_log2(&self) -> f64 {
        2.0 * (self.observations.saturating_add(1) as f64).log2()
    }

    /// True while what was seen last speaks against keeping the version.
    pub(crate) fn holds_back(&self, policy: &ProbationPolicy) -> bool {
        let near = |test: &ErrorTest, counts: &Counts, bad: u64| {
            sprt::log2_ratio(test, counts.judged(), bad) >= sprt::log2_threshold(test) / 2.0
        };
        near(&policy.failures, &self.failing, self.failing.failures())
            || near(&policy.slow, &self.slow, self.slow.slow)
    }
}

fn stretch(counts: &mut Counts, test: &ErrorTest, more: &Counts, bad: impl Fn(&Counts) -> u64) {
    counts.merge(more);
    if sprt::log2_ratio(test, counts.judged(), bad(counts)) <= 0.0 {
        *counts = Counts::default();
    }
}
