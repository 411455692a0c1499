//! Which version of a model answered on a device, and when: folded from what the device reported.
//!
//! A version answers from the beginning of its probation. When it goes back, the version that was committed before
//! answers again. Refused versions and versions that did not arrive never answered, so they change nothing.
//!
//! Moments are those of the device's clock, since only the device was there; but nothing that it tells can have
//! happened after it was told. A clock that is behind the true time makes everything seem earlier.

use shared::{
    ReleaseId, Timestamp,
    report::{DeploymentEvent, Report},
};

use crate::store::ReportRow;

/// A time in which one version answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which version.
    pub release: ReleaseId,
    /// From when.
    pub since: Timestamp,
    /// Until when; absent while it still does.
    pub until: Option<Timestamp>,
    /// The report by which it first began to answer; older than the span when it came back.
    pub brought: ReportRow,
    /// The reports that speak for it, oldest first: its self-test, its probation, its commit, and the end of the version
    /// after which it came back.
    pub evidence: Vec<ReportRow>,
}

/// How sure the device was of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answered and was watched.
    Probation,
    /// It was kept.
    Committed,
}

impl Span {
    /// How the version stood at `at`.
    #[must_use]
    pub fn standing(&self, at: Timestamp) -> Standing {
        let kept = self.evidence.iter().any(|row| is_commit(&row.report) && happened(row) <= at);
        if kept { Standing::Committed } else { Standing::Probation }
    }

    /// The span, cut off where the version was taken away without a report.
    #[must_use]
    pub fn ended_by(mut self, taken_away: Option<Timestamp>) -> Self {
        let ends = taken_away.filter(|at| *at > self.since);
        self.until = [self.until, ends].into_iter().flatten().min();
        self
    }

    /// Whether the version answered at `at`.
    #[must_use]
    pub fn covers(&self, at: Timestamp) -> bool {
        self.since <= at && self.until.is_none_or(|until| at < until)
    }

    fn is_committed(&self) -> bool {
        self.evidence.iter().any(|row| is_commit(&row.report))
    }
}

/// When the thing happened that a report tells.
#[must_use]
pub fn happened(row: &ReportRow) -> Timestamp {
    row.report.at.min(row.received_at)
}

/// The spans of one model, in order, from its reports in the order in which they came.
#[must_use]
pub fn spans(mut reports: Vec<ReportRow>) -> Vec<Span> {
    // Stable: what happened in the same millisecond stays as it came.
    reports.sort_by_key(happened);
    let mut fold = Fold::default();
    reports.into_iter().for_each(|row| fold.take(row));
    fold.spans
}

/// The newest span that began no later than `at`; it may be over then.
#[must_use]
pub fn last_before(spans: &[Span], at: Timestamp) -> Option<&Span> {
    spans.iter().rev().find(|span| span.since <= at)
}

/// Spans as they grow.
#[derive(Default)]
struct Fold {
    spans: Vec<Span>,
    /// The self-test of a version that does not answer yet.
    tested: Option<ReportRow>,
}

impl Fold {
    fn take(&mut self, row: ReportRow) {
        match &row.report.event {
            DeploymentEvent::Transferring { .. } | DeploymentEvent::Staged { .. } => {}
            DeploymentEvent::SelfTested(_) => self.tested = Some(row),
            DeploymentEvent::Probation => {
                // A version that is kept is not watched again, so it had been taken away and is brought anew.
                if !self.answers(&row.report.release) || self.is_kept() {
                    self.begin(row);
                }
            }
            DeploymentEvent::Committed { .. } => self.commit(row),
            DeploymentEvent::Rejected(_) | DeploymentEvent::Failed(_) => self.tested = None,
            // Only a version on probation can go back; of one that is kept this tells another attempt.
            DeploymentEvent::RolledBack(_) | DeploymentEvent::Superseded => {
                if self.answers(&row.report.release) && !self.is_kept() {
                    self.go_back(row);
                }
            }
        }
    }

    fn answers(&self, release: &ReleaseId) -> bool {
        self.spans.last().is_some_and(|span| span.until.is_none() && span.release == *release)
    }

    fn is_kept(&self) -> bool {
        self.spans.last().is_some_and(Span::is_committed)
    }

    fn commit(&mut self, row: ReportRow) {
        if !self.answers(&row.report.release) {
            return self.begin(row);
        }
        // Asked for again, a version that is kept is committed again; its first commit is the evidence.
        if let Some(span) = self.spans.last_mut().filter(|span| !span.is_committed()) {
            span.evidence.push(row);
        }
    }

    fn begin(&mut self, row: ReportRow) {
        let since = happened(&row);
        self.end(since);
        let release = row.report.release.clone();
        let tested = self.tested.take().filter(|tested| tested.report.release == release);
        let evidence = tested.into_iter().chain([row.clone()]).collect();
        self.spans.push(Span { release, since, until: None, brought: row, evidence });
    }

    /// The version that was kept before answers again.
    fn go_back(&mut self, row: ReportRow) {
        let since = happened(&row);
        self.end(since);
        let gone = &row.report.release;
        let kept = self.spans.iter().rev().find(|span| span.release != *gone && span.is_committed());
        let Some(kept) = kept.cloned() else { return };
        let own = kept.evidence.into_iter().filter(|before| before.report.release == kept.release);
        let evidence = own.chain([row]).collect();
        self.spans.push(Span { release: kept.release, since, until: None, brought: kept.brought, evidence });
    }

    fn end(&mut self, at: Timestamp) {
        if let Some(span) = self.spans.last_mut().filter(|span| span.until.is_none()) {
            span.until = Some(at);
        }
    }
}

fn is_commit(report: &Report) -> bool {
    matches!(report.event, DeploymentEvent::Committed { .. })
}

#[cfg(test)]
mod tests {
    use shared::{
        BootId, DeviceId, Generation,
        report::{RejectReason, RollbackReason, TrialFigures},
    };

    use super::*;

    const COMMITTED: DeploymentEvent = DeploymentEvent::Committed { inferences: 120, failures: 0 };
    const TESTED: DeploymentEvent = DeploymentEvent::SelfTested(TrialFigures {
        load_ms: 1,
        latency_p50_us: 1,
        latency_max_us: 1,
        peak_memory_kib: 1,
        cases: 8,
    });
    const BACK: DeploymentEvent = DeploymentEvent::RolledBack(RollbackReason::CrashLoop { starts: 3 });

    fn row(at: u64, version: u32, event: DeploymentEvent) -> ReportRow {
        let report = Report {
            device: DeviceId::new("cam-7").unwrap(),
            boot: BootId::new("b1").unwrap(),
            sequence: at,
            at: Timestamp(at),
            generation: Generation(1),
            release: format!("digits@{version}").parse().unwrap(),
            event,
        };
        ReportRow { report, received_at: Timestamp(at) }
    }

    /// Version, since, until, and when each piece of evidence happened.
    fn told(reports: Vec<ReportRow>) -> Vec<(u32, u64, Option<u64>, Vec<u64>)> {
        let told = |span: &Span| {
            let evidence = span.evidence.iter().map(|row| happened(row).0).collect();
            (span.release.version.get(), span.since.0, span.until.map(|at| at.0), evidence)
        };
        spans(reports).iter().map(told).collect()
    }

    #[test]
    fn a_version_answers_from_its_probation_with_its_self_test_and_its_commit_as_evidence() {
        let reports = vec![row(1, 1, TESTED), row(2, 1, DeploymentEvent::Probation), row(5, 1, COMMITTED)];
        assert_eq!(told(reports.clone()), [(1, 2, None, vec![1, 2, 5])]);
        let spans = spans(reports);
        assert_eq!(spans[0].standing(Timestamp(4)), Standing::Probation);
        assert_eq!(spans[0].standing(Timestamp(5)), Standing::Committed);
        assert_eq!(last_before(&spans, Timestamp(1)), None);
    }

    #[test]
    fn after_a_rollback_the_version_before_answers_again_and_the_rollback_is_evidence() {
        let reports = vec![
            row(1, 1, COMMITTED),
            row(10, 2, TESTED),
            row(11, 2, DeploymentEvent::Probation),
            row(15, 2, BACK),
            row(20, 3, DeploymentEvent::Probation),
            row(21, 3, BACK),
        ];
        let expected = [
            (1, 1, Some(11), vec![1]),
            (2, 11, Some(15), vec![10, 11]),
            (1, 15, Some(20), vec![1, 15]),
            (3, 20, Some(21), vec![20]),
            (1, 21, None, vec![1, 21]),
        ];
        assert_eq!(told(reports.clone()), expected);
        assert_eq!(spans(reports)[4].brought, row(1, 1, COMMITTED));
    }

    #[test]
    fn what_never_answered_changes_nothing() {
        let refused = RejectReason::RememberedBad { digest: shared::Digest::of(b"x") };
        let reports = vec![
            row(1, 1, COMMITTED),
            row(2, 2, TESTED),
            row(3, 2, DeploymentEvent::Rejected(refused)),
            row(4, 2, DeploymentEvent::Superseded),
            row(5, 3, DeploymentEvent::Transferring { size_bytes: 1, resumed_bytes: 0 }),
            row(6, 1, COMMITTED),
        ];
        assert_eq!(told(reports), [(1, 1, None, vec![1])]);
    }

    #[test]
    fn a_first_version_that_goes_back_leaves_nobody() {
        let reports = vec![row(1, 1, DeploymentEvent::Probation), row(4, 1, BACK)];
        assert_eq!(told(reports), [(1, 1, Some(4), vec![1])]);
    }

    #[test]
    fn a_version_that_was_taken_away_without_a_report_and_brought_anew_answers_in_a_span_of_its_own() {
        let reports = vec![
            row(1, 1, DeploymentEvent::Probation),
            row(2, 1, COMMITTED),
            row(10, 1, TESTED),
            row(11, 1, DeploymentEvent::Probation),
            row(15, 1, COMMITTED),
        ];
        let (first, second) = ((1, 1, Some(11), vec![1, 2]), (1, 11, None, vec![10, 11, 15]));
        assert_eq!(told(reports.clone()), [first, second]);
        let spans = spans(reports);
        assert_eq!(spans[1].brought.received_at, Timestamp(11));
        assert_eq!(spans[1].standing(Timestamp(12)), Standing::Probation);
        assert!(!spans[0].clone().ended_by(Some(Timestamp(5))).covers(Timestamp(7)));
    }

    #[test]
    fn a_version_that_is_superseded_on_probation_gives_way_to_the_one_before() {
        let reports = vec![
            row(1, 1, COMMITTED),
            row(2, 2, DeploymentEvent::Probation),
            row(3, 2, DeploymentEvent::Superseded),
        ];
        assert_eq!(told(reports)[2], (1, 3, None, vec![1, 3]));
    }

    #[test]
    fn nothing_happened_after_it_was_told_and_late_reports_find_their_place() {
        let mut ahead = row(9, 1, COMMITTED);
        ahead.received_at = Timestamp(3);
        let mut late = row(5, 2, DeploymentEvent::Probation);
        late.received_at = Timestamp(100);
        let reports = vec![ahead, row(50, 3, DeploymentEvent::Probation), late];
        let found: Vec<_> = told(reports).into_iter().map(|(version, since, ..)| (version, since)).collect();
        assert_eq!(found, [(1, 3), (2, 5), (3, 50)]);
    }

    #[test]
    fn what_was_taken_away_without_a_report_answers_no_longer() {
        let span = spans(vec![row(5, 1, COMMITTED)]).remove(0);
        assert!(span.clone().ended_by(None).covers(Timestamp(99)));
        assert!(span.clone().ended_by(Some(Timestamp(3))).covers(Timestamp(99)), "an older rollout's end");
        let ended = span.ended_by(Some(Timestamp(8)));
        assert!(ended.covers(Timestamp(7)) && !ended.covers(Timestamp(8)));
    }
}
