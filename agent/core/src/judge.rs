//! The judge of a version on probation.
//!
//! Two sequential tests run side by side, one on failed inferences and one on slow ones, by the policy of the
//! signed manifest. Either may condemn at any moment, after as few inferences as the evidence allows. The version
//! is kept only after the whole time of probation *and* enough inferences, and not while the latest of them speak against
//! it ([`Trend`]): silence is not health, so a version that nobody asks stays on probation.

use shared::{
    manifest::{ErrorTest, ProbationPolicy},
    report::{Evidence, RollbackReason},
    telemetry::Counts,
};

use crate::{sprt, trend::Trend};

/// What the judge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it.
    Healthy {
        /// Inferences seen.
        inferences: u64,
        /// How many failed.
        failures: u64,
    },
    /// Go back, and why.
    Degraded(RollbackReason),
    /// Not enough evidence or time: go on watching.
    Insufficient,
}

/// Judges one version; the variant says how much was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthJudge {
    /// Fewer inferences than a decision to keep needs.
    Warming(Case),
    /// Enough inferences; the time is not over.
    Watching(Case),
    /// Nothing changes any more.
    Decided(Verdict),
}

/// What was seen, and by which rules it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    policy: ProbationPolicy,
    counts: Counts,
    trend: Trend,
}

impl HealthJudge {
    /// Goes on from `counts` and their `trend`, which were seen before a restart.
    #[must_use]
    pub fn new(policy: ProbationPolicy, counts: Counts, trend: Trend) -> Self {
        Case { policy, counts, trend }.classify()
    }

    /// Adds what the version did, `watched_ms` after it was activated.
    pub fn observe(&mut self, more: &Counts, watched_ms: u64) -> Verdict {
        if let Self::Warming(case) | Self::Watching(case) = self {
            case.counts.merge(more);
            case.trend.add(&case.policy, more);
            *self = case.clone().classify();
        }
        self.look(watched_ms)
    }

    /// Judges what was seen so far, `watched_ms` after activation.
    pub fn look(&mut self, watched_ms: u64) -> Verdict {
        let verdict = match self {
            Self::Decided(verdict) => return verdict.clone(),
            Self::Warming(case) => case.condemn(watched_ms),
            Self::Watching(case) => case.condemn(watched_ms).or_else(|| case.acquit(watched_ms)),
        };
        if let Some(verdict) = verdict {
            *self = Self::Decided(verdict.clone());
            return verdict;
        }
        Verdict::Insufficient
    }

    /// After which time of watching the version would be kept if nothing more happened; `None` when time alone
    /// changes nothing.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        match self {
            Self::Watching(case) if !case.trend.holds_back(&case.policy) => Some(case.duration_ms()),
            Self::Watching(_) | Self::Warming(_) | Self::Decided(_) => None,
        }
    }

    /// What was seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        match self {
            Self::Warming(case) | Self::Watching(case) => case.counts,
            Self::Decided(_) => Counts::default(),
        }
    }

    /// What was seen last.
    #[must_use]
    pub fn trend(&self) -> Trend {
        match self {
            Self::Warming(case) | Self::Watching(case) => case.trend.clone(),
            Self::Decided(_) => Trend::default(),
        }
    }
}

impl Case {
    fn classify(self) -> HealthJudge {
        if self.counts.judged() < u64::from(self.policy.min_inferences) {
            HealthJudge::Warming(self)
        } else {
            HealthJudge::Watching(self)
        }
    }

    fn duration_ms(&self) -> u64 {
        u64::from(self.policy.duration_secs) * 1_000
    }

    fn condemn(&self, watched_ms: u64) -> Option<Verdict> {
        let Self { policy, counts, trend } = self;
        let judge = |test, counts: &Counts, bad, handicap| evidence(test, counts, bad, handicap, watched_ms);
        let late = trend.handicap_log2();
        let failing = judge(&policy.failures, counts, counts.failures(), 0.0)
            .or_else(|| judge(&policy.failures, &trend.failing, trend.failing.failures(), late));
        let slow = || {
            let all = judge(&policy.slow, counts, counts.slow, 0.0);
            all.or_else(|| judge(&policy.slow, &trend.slow, trend.slow.slow, late))
        };
        let reason = failing.map(RollbackReason::Failures).or_else(|| slow().map(RollbackReason::Slow))?;
        Some(Verdict::Degraded(reason))
    }

    fn acquit(&self, watched_ms: u64) -> Option<Verdict> {
        let (inferences, failures) = (self.counts.judged(), self.counts.failures());
        let over = watched_ms >= self.duration_ms() && !self.trend.holds_back(&self.policy);
        over.then_some(Verdict::Healthy { inferences, failures })
    }
}

/// The evidence, if the ratio of `counts` passes the threshold and the handicap.
fn evidence(
    test: &ErrorTest,
    counts: &Counts,
    bad: u64,
    handicap_log2: f64,
    after_ms: u64,
) -> Option<Evidence> {
    let inferences = counts.judged();
    let bad = bad.min(inferences);
    let (ratio, threshold) =
        (sprt::log2_ratio(test, inferences, bad), sprt::log2_threshold(test) + handicap_log2);
    (ratio >= threshold).then(|| Evidence {
        inferences,
        bad,
        non_finite: counts.non_finite,
        good_ppm: test.good_ppm,
        bad_ppm: test.bad_ppm,
        log2_ratio_milli: sprt::in_thousandths(ratio),
        log2_threshold_milli: sprt::in_thousandths(threshold),
        after_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_MS: u64 = 600_000;

    fn judge() -> HealthJudge {
        HealthJudge::new(ProbationPolicy::default(), Counts::default(), Trend::default())
    }

    fn ok(n: u64) -> Counts {
        Counts { ok: n, ..Counts::default() }
    }

    #[test]
    fn a_version_that_nobody_asks_is_never_kept() {
        assert_eq!(judge().look(u64::MAX), Verdict::Insufficient);
        assert_eq!(judge().observe(&ok(49), u64::MAX), Verdict::Insufficient);
    }

    #[test]
    fn a_busy_version_is_kept_only_when_the_time_is_over() {
        let mut judge = judge();
        assert_eq!(judge.observe(&ok(1_000_000), LONG_MS - 1), Verdict::Insufficient);
        assert_eq!(judge.due_ms(), Some(LONG_MS));
        assert_eq!(judge.look(LONG_MS), Verdict::Healthy { inferences: 1_000_000, failures: 0 });
    }

    #[test]
    fn five_failures_condemn_at_once_and_the_evidence_says_so() {
        let mut judge = judge();
        assert_eq!(judge.observe(&Counts { engine_error: 4, ..ok(0) }, 10), Verdict::Insufficient);
        let verdict = judge.observe(&Counts { non_finite: 1, ..ok(0) }, 20);
        let Verdict::Degraded(RollbackReason::Failures(evidence)) = verdict else { panic!("{verdict:?}") };
        assert_eq!(
            (evidence.inferences, evidence.bad, evidence.non_finite, evidence.after_ms),
            (5, 5, 1, 20)
        );
        assert!(evidence.log2_ratio_milli >= evidence.log2_threshold_milli);
    }

    #[test]
    fn slow_inferences_condemn_although_none_fails() {
        let verdict = judge().observe(&Counts { slow: 20, ..ok(20) }, 5);
        assert!(matches!(verdict, Verdict::Degraded(RollbackReason::Slow(_))), "{verdict:?}");
    }

    #[test]
    fn bad_requests_and_full_queues_say_nothing() {
        let noise = Counts { bad_request: 1_000, busy: 1_000, ..Counts::default() };
        assert_eq!(judge().observe(&noise, u64::MAX), Verdict::Insufficient);
    }

    #[test]
    fn a_verdict_stands_whatever_comes_later() {
        let mut judge = judge();
        let verdict = judge.observe(&Counts { timeout: 9, ..ok(0) }, 1);
        assert_eq!(judge.observe(&ok(1_000_000), u64::MAX), verdict);
    }

    #[test]
    fn counts_from_before_a_restart_go_on_counting() {
        let before = Counts { engine_error: 4, ..ok(0) };
        let mut judge = HealthJudge::new(ProbationPolicy::default(), before, Trend::default());
        assert!(matches!(judge.observe(&Counts { timeout: 1, ..ok(0) }, 0), Verdict::Degraded(_)));
    }

    /// A second of good inferences at a time.
    fn after_a_good_hour() -> HealthJudge {
        let mut judge = judge();
        (0..3_600).for_each(|second| assert_eq!(judge.observe(&ok(10), second * 100), Verdict::Insufficient));
        judge
    }

    #[test]
    fn a_version_that_was_fine_for_long_goes_back_soon_after_it_began_to_fail() {
        let mut judge = after_a_good_hour();
        let bad = Counts { non_finite: 1, ..ok(0) };
        let failures = (1..100).find(|_| judge.observe(&bad, 400_000) != Verdict::Insufficient);
        assert_eq!(failures, Some(11), "the totals alone would have needed 2,500");
        let Verdict::Degraded(RollbackReason::Failures(evidence)) = judge.look(400_000) else { panic!() };
        assert_eq!((evidence.inferences, evidence.bad, evidence.non_finite), (11, 11, 11));
        assert!(evidence.log2_ratio_milli >= evidence.log2_threshold_milli);
    }

    #[test]
    fn a_version_whose_latest_inferences_fail_is_not_kept_until_they_no_longer_do() {
        let mut judge = after_a_good_hour();
        judge.observe(&Counts { timeout: 3, ..ok(0) }, LONG_MS - 1);
        assert_eq!((judge.look(LONG_MS), judge.due_ms()), (Verdict::Insufficient, None));
        let kept = Verdict::Healthy { inferences: 36_033, failures: 3 };
        assert_eq!(judge.observe(&ok(30), LONG_MS), kept);
    }

    #[test]
    fn the_usual_errors_of_a_good_version_neither_condemn_it_nor_hold_it_back() {
        let mut judge = judge();
        for second in 0..100_000 {
            let error = u64::from(second % 100 == 0);
            judge.observe(&Counts { engine_error: error, ..ok(1 - error) }, 0);
        }
        assert!(matches!(judge.look(LONG_MS), Verdict::Healthy { .. }), "{judge:?}");
    }

    #[test]
    fn a_trend_from_before_a_restart_goes_on() {
        let judge = after_a_good_hour();
        let mut again = HealthJudge::new(ProbationPolicy::default(), judge.counts(), judge.trend());
        assert_eq!(again, judge);
        again.observe(&Counts { timeout: 9, ..ok(0) }, 400_000);
        let mut after = HealthJudge::new(ProbationPolicy::default(), again.counts(), again.trend());
        assert!(matches!(after.observe(&Counts { timeout: 2, ..ok(0) }, 400_001), Verdict::Degraded(_)));
    }
}
