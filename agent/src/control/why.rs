//! Why a device runs what it runs, as sentences: what runs, what is coming, what was refused and on which evidence.

use shared::words;

use super::{ClockTrust, LastView, ModelView, StatusView};
use crate::clock;

/// The reasons for the whole device, then those of each model.
#[must_use]
pub fn reasons(status: &StatusView) -> Vec<String> {
    let models = status.models.iter().flat_map(reasons_of);
    device_reasons(status).into_iter().chain(models).collect()
}

fn device_reasons(status: &StatusView) -> Vec<String> {
    let mut reasons = Vec::new();
    if !status.link.up {
        reasons.push(words::OFFLINE.to_owned());
        reasons.extend(
            status.link.last_error.as_ref().map(|error| format!("the last failure: {}", error.words)),
        );
    }
    if !status.taken_in {
        let generation = status.generation;
        reasons.push(format!("not all of generation {generation} could be taken in; it is tried again"));
    }
    if status.models.is_empty() {
        reasons.push(words::NOTHING_ASSIGNED.to_owned());
    }
    reasons.extend(doubtful_clock(status));
    reasons
}

fn doubtful_clock(status: &StatusView) -> Option<String> {
    let (system, now) = (clock::in_words(status.clock.system), clock::in_words(status.clock.now));
    match status.clock.trust {
        ClockTrust::System => None,
        ClockTrust::Floor => {
            Some(format!("the system's clock says {system}, which is too early; {now} is used"))
        }
        ClockTrust::Ahead => Some(format!("the system's clock says {system}; the agent goes by {now}")),
    }
}

/// The reasons of one model: what runs, what is coming, how the last deployment ended.
#[must_use]
pub fn reasons_of(view: &ModelView) -> Vec<String> {
    let ModelView { model, committed, candidate, step, detail, last, last_bad, .. } = view;
    let runs = match committed {
        Some(release) => format!("{release} is committed: it runs, and the device goes back to it"),
        None => format!("no version of {model} is committed"),
    };
    let coming = match candidate {
        Some(release) => Some(format!("{release} is coming, {}: {detail}", step.replace('_', " "))),
        None => Some(detail.clone()).filter(|detail| !detail.is_empty()),
    };
    let ended = last.as_ref().map(|last| end_of("the last deployment", last));
    let bad = last_bad.as_ref().filter(|bad| last.as_ref() != Some(*bad));
    let bad = bad.map(|bad| end_of("the last one that went wrong", bad));
    let away = last_bad.as_ref().filter(|bad| ![committed, candidate].contains(&&Some(bad.release.clone())));
    let away = away.map(|bad| {
        format!("{} is not tried again unless a higher generation asks for it explicitly", bad.release)
    });
    [Some(runs), coming, ended, bad, away].into_iter().flatten().collect()
}

fn end_of(which: &str, last: &LastView) -> String {
    format!("{which}, of generation {}: {}", last.generation, words::told(&last.release, &last.event))
}

#[cfg(test)]
mod tests {
    use shared::{
        Generation, Timestamp,
        report::{DeploymentEvent, Evidence, RollbackReason},
    };

    use super::*;
    use crate::control::{
        ClockView, ErrorView,
        tests::{model, status},
    };

    #[test]
    fn a_rolled_back_version_is_told_with_its_evidence_and_that_it_stays_away() {
        let evidence = Evidence {
            inferences: 60,
            bad: 6,
            non_finite: 6,
            good_ppm: 10_000,
            bad_ppm: 200_000,
            log2_ratio_milli: 20_100,
            log2_threshold_milli: 19_932,
            after_ms: 900,
        };
        let event = DeploymentEvent::RolledBack(RollbackReason::Failures(evidence));
        let last = LastView { generation: Generation(3), release: "digits@2".parse().unwrap(), event };
        let committed = DeploymentEvent::Committed { inferences: 0, failures: 0 };
        let restored =
            LastView { generation: Generation(4), release: "digits@1".parse().unwrap(), event: committed };
        let view = ModelView { last: Some(restored), last_bad: Some(last), ..model() };
        let told = reasons_of(&view).join("\n");
        for words in [
            "digits@1 is committed",
            "of generation 3: digits@2: rolled back: 6 of 60 inferences failed (6 with non-finite",
            "test of 1 % against 20 % stood at 20.10 bits, 19.93 condemn",
            "digits@2 is not tried again",
        ] {
            assert!(told.contains(words), "'{words}' is missing in\n{told}");
        }
    }

    #[test]
    fn a_candidate_is_told_with_its_step_and_what_it_waits_for() {
        let candidate = Some("digits@2".parse().unwrap());
        let view = ModelView {
            candidate,
            step: "self_testing".into(),
            detail: "the trial process replays the golden vectors".into(),
            ..model()
        };
        let told = reasons_of(&view);
        assert_eq!(told[1], "digits@2 is coming, self testing: the trial process replays the golden vectors");
    }

    #[test]
    fn a_device_that_is_offline_with_a_clock_of_1970_says_both() {
        let mut status = status();
        status.link.up = false;
        status.link.last_error = Some(ErrorView { at: Timestamp(0), words: "connection refused".into() });
        status.clock = ClockView::of(Timestamp(1_800_000_000_000), Timestamp(0));
        status.models.clear();
        let told = reasons(&status).join("\n");
        for words in ["it is offline", "connection refused", "1970-01-01", "no rollout asks it"] {
            assert!(told.contains(words), "'{words}' is missing in\n{told}");
        }
    }
}
