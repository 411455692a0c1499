//! What sends a candidate back beside the judge: its memory, a hang, and a person on the device.

use crate::support::{Device, Nature};
use agent_core::{Effect, Input, Refusal};
use shared::report::{DeploymentEvent as Event, RejectReason, RollbackReason};

fn too_much(release: &str) -> Input {
    Input::MemoryExceeded { release: release.parse().unwrap(), used_kib: 3_000, budget_kib: 2_000 }
}

fn operator(model: &str) -> Input {
    Input::OperatorRollback { model: model.parse().unwrap() }
}

#[test]
fn a_candidate_over_its_memory_budget_goes_back_with_both_numbers() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.traffic(7);
    device.give(too_much("digits@2"));
    let Event::RolledBack(RollbackReason::Memory { used_kib, budget_kib, inferences, .. }) =
        device.last_event()
    else {
        panic!("{:?}", device.last_event())
    };
    assert_eq!((*used_kib, *budget_kib, *inferences), (3_000, 2_000, 7));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    device.deploy("digits@2");
    assert!(matches!(device.last_event(), Event::Rejected(RejectReason::RememberedBad { .. })));
}

#[test]
fn a_candidate_in_which_threads_hang_goes_back_before_its_runner_ends() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    let hung = |release: &str| Input::Hung { release: release.parse().unwrap(), threads: 2 };
    device.give(hung("digits@2"));
    let Event::RolledBack(RollbackReason::Hung { threads: 2, .. }) = device.last_event() else {
        panic!("{:?}", device.last_event())
    };
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    device.give(hung("digits@1"));
    assert_eq!(device.serves().as_deref(), Some("digits@1"), "a committed version has nothing behind it");
    let told = |effect: &Effect| matches!(effect, Effect::Note(event) if event.to_string().contains("do not come back"));
    assert_eq!(device.count(told), 1, "people are told");
}

#[test]
fn a_runner_that_is_replaced_costs_the_candidates_in_it_no_start() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    for _ in 0..10 {
        device.replace_runner();
        device.pump();
        assert_eq!(device.serves().as_deref(), Some("digits@2"));
    }
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
}

#[test]
fn a_committed_version_over_its_memory_budget_goes_on_and_people_are_told() {
    let mut device = Device::running("digits@1");
    device.give(too_much("digits@1"));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    let told =
        |effect: &Effect| matches!(effect, Effect::Note(event) if event.to_string().contains("budget"));
    assert_eq!(device.count(told), 1);
}

#[test]
fn of_two_models_in_one_runner_only_the_one_that_grew_goes_back() {
    let mut device = Device::new();
    device.desire(&[("digits@1", false), ("faces@1", false)]);
    device.pump();
    device.live_through_probation();
    device.desire(&[("digits@2", false), ("faces@2", false)]);
    device.pump();
    device.give(too_much("faces@2"));
    let serving: Vec<String> = device.serving.values().map(ToString::to_string).collect();
    assert_eq!(serving, ["digits@2", "faces@1"]);
}

#[test]
fn a_person_sends_a_candidate_back_at_once_and_it_is_remembered() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.disconnect();
    device.give(operator("digits"));
    assert_eq!(device.serves().as_deref(), Some("digits@1"), "no network is needed");
    device.connect();
    assert_eq!(device.last_event(), &Event::RolledBack(RollbackReason::Operator));
    device.deploy("digits@2");
    assert!(matches!(device.last_event(), Event::Rejected(RejectReason::RememberedBad { .. })));
}

#[test]
fn a_person_is_told_when_there_is_nothing_to_go_back_to() {
    let mut device = Device::new();
    let refusal = |device: &mut Device, model| match device.agent.handle(operator(model), device.now) {
        Err(Refusal::NothingToGoBackTo { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&mut device, "digits"), "no such model is assigned to this device");
    device.deploy("digits@1");
    assert_eq!(refusal(&mut device, "digits"), "no version of it was committed before");
    device.live_through_probation();
    assert_eq!(refusal(&mut device, "digits"), "its committed version answers already");
    device.set_nature("digits@2", Nature::TrialHangs);
    device.deploy("digits@2");
    assert_eq!(refusal(&mut device, "digits"), "its committed version answers already");
}

#[test]
fn a_superseded_trial_gives_up_its_place_to_the_next() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::TrialHangs);
    device.deploy("digits@2");
    assert_eq!(device.step(), "self_testing");
    device.deploy("digits@3");
    assert_eq!(device.count(|effect| matches!(effect, Effect::CancelTrial { .. })), 1);
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("probation", Some("digits@3")));
}

#[test]
fn a_late_answer_of_a_superseded_trial_changes_nothing() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::TrialHangs);
    device.deploy("digits@2");
    device.deploy("digits@3");
    let before = device.agent.ledger().clone();
    let reason = RejectReason::TrialCrashed { detail: "signal 9".into() };
    let late = Input::TrialFailed { release: "digits@2".parse().unwrap(), reason };
    assert!(device.agent.handle(late, device.now).is_err());
    assert_eq!(device.agent.ledger(), &before);
}
