//! Sentences that the server and the device say about the same thing: whoever asks either hears the same words.

use crate::{
    id::ReleaseId,
    report::{DeploymentEvent, Evidence, RollbackReason},
};

/// A device that nobody gave work.
pub const NOTHING_ASSIGNED: &str = "no rollout asks it to run anything";

/// A device without a session.
pub const OFFLINE: &str = "it is offline: its desired state waits for it";

/// What happened to a release, with the test that decided where one did.
#[must_use]
pub fn told(release: &ReleaseId, event: &DeploymentEvent) -> String {
    match test_of(event) {
        Some(test) => format!("{release}: {event}; {test}"),
        None => format!("{release}: {event}"),
    }
}

/// The test that condemned a version, with its threshold.
#[must_use]
pub fn test_of(event: &DeploymentEvent) -> Option<String> {
    let DeploymentEvent::RolledBack(RollbackReason::Failures(evidence) | RollbackReason::Slow(evidence)) =
        event
    else {
        return None;
    };
    Some(test(evidence))
}

fn test(evidence: &Evidence) -> String {
    format!(
        "the sequential test of {} % against {} % stood at {:.2} bits, {:.2} condemn",
        percent(evidence.good_ppm),
        percent(evidence.bad_ppm),
        thousandths(evidence.log2_ratio_milli),
        thousandths(evidence.log2_threshold_milli)
    )
}

fn percent(ppm: u32) -> f64 {
    f64::from(ppm) / 10_000.0
}

/// Near enough for people: the numbers here are small.
fn thousandths(milli: i64) -> f64 {
    milli as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_is_told_with_its_counts_its_test_and_its_threshold() {
        let evidence = Evidence {
            inferences: 300,
            bad: 39,
            non_finite: 39,
            good_ppm: 1_000,
            bad_ppm: 50_000,
            log2_ratio_milli: 12_345,
            log2_threshold_milli: 9_966,
            after_ms: 1_200,
        };
        let event = DeploymentEvent::RolledBack(RollbackReason::Failures(evidence));
        assert_eq!(
            told(&"digits@2".parse().unwrap(), &event),
            "digits@2: rolled back: 39 of 300 inferences failed (39 with non-finite outputs) within 1200 ms; \
             the sequential test of 0.1 % against 5 % stood at 12.35 bits, 9.97 condemn"
        );
    }

    #[test]
    fn an_end_that_no_test_decided_is_told_without_one() {
        let event = DeploymentEvent::RolledBack(RollbackReason::CrashLoop { starts: 3 });
        let words = "digits@2: rolled back: started 3 times without passing probation";
        assert_eq!(told(&"digits@2".parse().unwrap(), &event), words);
        assert_eq!(test_of(&DeploymentEvent::Superseded), None);
    }
}
