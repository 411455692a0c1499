//! Why a device runs what it runs, as sentences: what runs, what is coming, what was refused and on which evidence.

use shared::words;

use muster_sketch::detector::{Alarm, Direction, ScoreName, Sign};
use shared::telemetry::DriftAlarm;

use super::{ClockTrust, DriftView, LastView, ModelView, StatusView};
use crate::clock;

/// Alarms of drift that are told of one release. Where every feature moved, the newest say enough.
const TOLD_ALARMS: usize = 8;

/// What an alarm of the device is worth, as the guardrail's [zone](muster_sketch::detector::Zone) and threshold make it.
const PROMISE: &str = "the rate of false alarms holds where no feature's first thousand rows were further off than allowed for; \
     on about one device in twenty they were, and it may alarm more often";

/// The reasons for the whole device, then those of each model, then what drifts.
#[must_use]
pub fn reasons(status: &StatusView) -> Vec<String> {
    let models = status.models.iter().flat_map(reasons_of);
    let drift = status.drift.iter().flat_map(drift_of);
    device_reasons(status).into_iter().chain(models).chain(drift).collect()
}

/// What is odd about the features of a release: that they cannot be counted, rows that are too alike, and alarms that the
/// device has raised, newest first.
#[must_use]
pub fn drift_of(view: &DriftView) -> Vec<String> {
    let uncounted = view.uncounted.as_ref().map(|why| {
        format!(
            "{}: its features are not counted for drift, as the manifest cannot be followed: {why}",
            view.release
        )
    });
    let alike = view.beyond_limit.then(|| {
        format!(
            "{}: rows are alike for longer than one of {} is counted; drift may be told that is none: sample by time",
            view.release,
            view.every.unwrap_or_default()
        )
    });
    let alarms = view.alarms.iter().rev().take(TOLD_ALARMS).map(told);
    let more = view.alarms.len().saturating_sub(TOLD_ALARMS);
    let more = (more > 0).then(|| format!("{}: {more} older alarms of drift", view.release));
    let promise = (!view.alarms.is_empty()).then(|| format!("{}: {PROMISE}", view.release));
    uncounted.into_iter().chain(alike).chain(alarms).chain(more).chain(promise).collect()
}

fn told(DriftAlarm { release, feature, alarm }: &DriftAlarm) -> String {
    let Alarm { direction, evidence, threshold, at_secs, since_secs, samples, shift, .. } = *alarm;
    let at = |secs: u64| clock::in_words(shared::Timestamp(secs.saturating_mul(1_000)));
    let since =
        if since_secs == 0 { "from the first check on".into() } else { format!("since {}", at(since_secs)) };
    format!(
        "{release}: the feature '{feature}' has drifted, {since}: {}, by {:.2} standard deviations of its score over {samples} rows; \
         found at {} with evidence {evidence:.3e} where {threshold:.3e} are asked for",
        moved(direction),
        shift.abs(),
        at(at_secs)
    )
}

fn moved(Direction { score, sign }: Direction) -> String {
    let more = match sign {
        Sign::Up => "more",
        Sign::Down => "less",
    };
    match (score, sign) {
        (ScoreName::Location, Sign::Up) => "its values are larger".into(),
        (ScoreName::Location, Sign::Down) => "its values are smaller".into(),
        (ScoreName::Spread, _) => format!("there is {more} at both ends"),
        (ScoreName::Skew, _) => "it leans to another side".into(),
        (ScoreName::LowerTail | ScoreName::FarLowerTail, _) => format!("there are {more} very small values"),
        (ScoreName::UpperTail | ScoreName::FarUpperTail, _) => format!("there are {more} very large values"),
        (ScoreName::OutsideRange, _) => format!("{more} lies outside of what the reference had"),
        (ScoreName::Region(eighth), _) => {
            format!("{more} lies in eighth {} of the reference", u32::from(eighth) + 1)
        }
        (ScoreName::Category(bin), _) => format!("category {} is {more} frequent", bin + 1),
        (ScoreName::OtherCategories, _) => format!("rare categories are {more} frequent"),
        (ScoreName::UnseenCategory, _) => format!("there are {more} categories that the reference lacks"),
    }
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
        tests::{drift, model, status},
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
    fn a_feature_that_drifts_is_told_with_its_evidence_and_the_newest_first() {
        let mut view = drift();
        let told = drift_of(&view);
        assert_eq!(
            told[..1],
            [
                "digits@1: the feature 'ink' has drifted, since 2027-01-15T08:00:20Z: its values are larger, by 0.50 standard \
              deviations of its score over 600 rows; found at 2027-01-15T08:01:20Z with evidence 2.000e6 where 1.000e6 are asked for"
            ]
        );
        assert!(told.len() == 2 && told[1].contains("one device in twenty"), "{told:?}");
        let older = view.alarms[0].clone();
        view.alarms = (0..20).map(|n| DriftAlarm { feature: format!("f{n}"), ..older.clone() }).collect();
        view.beyond_limit = true;
        let told = drift_of(&view);
        assert!(told[0].contains("alike") && told[1].contains("'f19'"), "{told:?}");
        assert_eq!((told.len(), told[9].as_str()), (11, "digits@1: 12 older alarms of drift"));
    }

    #[test]
    fn features_that_cannot_be_counted_are_told_with_the_reason() {
        let uncounted = Some("drift: feature 'ink' reads an unknown 'z'".into());
        let told = drift_of(&DriftView { uncounted, alarms: vec![], ..drift() });
        assert!(told.len() == 1 && told[0].ends_with("feature 'ink' reads an unknown 'z'"), "{told:?}");
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
