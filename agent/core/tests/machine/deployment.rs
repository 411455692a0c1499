//! What follows from what: one test for each transition of a deployment.

use std::time::Duration;

use crate::support::{self, Device, Nature, assignment, digest_of, director, manifest, verified};
use agent_core::{Effect, Input, Phase, Refusal};
use shared::{
    Generation,
    report::{DeploymentEvent as Event, RejectReason, RollbackReason},
    telemetry::Counts,
};

fn kinds(device: &Device) -> Vec<&'static str> {
    let kind = |event: &&Event| match event {
        Event::Transferring { .. } => "transferring",
        Event::Staged { .. } => "staged",
        Event::SelfTested(_) => "self-tested",
        Event::Probation => "probation",
        Event::Committed { .. } => "committed",
        Event::Rejected(_) => "rejected",
        Event::Failed(_) => "failed",
        Event::RolledBack(_) => "rolled back",
        Event::Superseded => "superseded",
    };
    device.events().iter().map(kind).collect()
}

const ALL: [&str; 5] = ["transferring", "staged", "self-tested", "probation", "committed"];

#[test]
fn a_good_version_passes_every_step_and_is_reported_at_each() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    assert_eq!(device.step(), "probation");
    assert_eq!(device.loaded.len(), 2, "the old version stays loaded beside the candidate");
    device.live_through_probation();
    assert_eq!(kinds(&device), ALL);
    assert_eq!(device.serves().as_deref(), Some("digits@2"));
    assert_eq!(device.loaded.len(), 1);
    let sequences: Vec<u64> = device.received.iter().map(|report| report.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_lower_generation_changes_nothing() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    let before = device.agent.ledger().clone();
    let old = director(Generation(1), vec![]);
    let input = Input::DesiredVerified { director: verified(old), manifests: vec![], refused: vec![] };
    let refused = device.agent.handle(input, device.now);
    assert!(matches!(refused, Err(Refusal::StaleGeneration { .. })));
    assert_eq!((device.agent.ledger(), device.agent.refusals()), (&before, 1));
}

#[test]
fn the_same_generation_again_changes_nothing() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    let (before, effects) = (device.agent.ledger().clone(), device.log.len());
    device.give(Input::DesiredArrived { generation: Generation(2) });
    assert_eq!((device.agent.ledger(), device.log.len()), (&before, effects));
}

#[test]
fn a_desired_state_for_another_device_is_refused() {
    let mut device = Device::new();
    let mut other = director(Generation(9), vec![]);
    other.device = "d2".parse().unwrap();
    let input = Input::DesiredVerified { director: verified(other), manifests: vec![], refused: vec![] };
    assert!(matches!(device.agent.handle(input, device.now), Err(Refusal::OtherDevice(_))));
    assert_eq!(device.agent.ledger().generation, Generation(0));
}

#[test]
fn a_newer_desired_state_ends_a_deployment_in_probation() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.deploy("digits@3");
    assert_eq!(kinds(&device)[3..6], ["probation", "superseded", "transferring"]);
    assert_eq!(device.serves().as_deref(), Some("digits@3"));
    assert_eq!(device.committed(), Some("digits@1".parse().unwrap()));
    assert!(!device.loaded.contains(&"digits@2".parse().unwrap()));
}

#[test]
fn the_same_release_goes_on_under_a_newer_generation() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.deploy("digits@2");
    device.live_through_probation();
    assert_eq!(kinds(&device), ALL);
    assert_eq!(device.received.last().unwrap().generation, Generation(3));
}

#[test]
fn a_release_that_runs_already_is_confirmed_once_for_each_generation() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@1");
    device.connect();
    assert_eq!(kinds(&device), ["committed"]);
    assert_eq!(device.received[0].generation, Generation(2));
}

#[test]
fn an_unassigned_model_is_unloaded_and_forgotten() {
    let mut device = Device::running("digits@1");
    device.desire(&[]);
    device.pump();
    assert!(device.agent.ledger().models.is_empty() && device.loaded.is_empty());
    assert_eq!(device.count(|effect| *effect == Effect::StopRunner), 1);
    assert!(device.published.is_empty() && device.manifests.is_empty());
}

#[test]
fn going_back_to_a_release_that_is_still_here_needs_no_transfer() {
    let mut device = Device::running("digits@1");
    let old = manifest("digits@1");
    device.deploy("digits@2");
    device.live_through_probation();
    device.published.extend([old.model.digest, old.golden.artifact.digest]);
    device.log.clear();
    device.deploy("digits@1");
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@1".parse().unwrap()));
    assert_eq!(device.count(|effect| matches!(effect, Effect::Request { .. })), 0);
}

#[test]
fn a_failed_self_test_keeps_the_committed_version_and_is_remembered() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::FailsTrial);
    device.deploy("digits@2");
    assert!(matches!(device.last_event(), Event::Rejected(RejectReason::GoldenMismatch { .. })));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    device.deploy("digits@2");
    assert!(matches!(device.last_event(), Event::Rejected(RejectReason::RememberedBad { .. })));
    assert_eq!(device.count(|effect| matches!(effect, Effect::RunTrial { .. })), 1);
}

#[test]
fn a_remembered_version_is_tried_again_when_the_assignment_says_so() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::FailsTrial);
    device.deploy("digits@2");
    device.set_nature("digits@2", Nature::Good);
    device.desire(&[("digits@2", true)]);
    device.pump();
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
}

#[test]
fn a_version_whose_inferences_fail_goes_back_with_the_evidence_and_without_a_load() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::FailsInferences);
    device.deploy("digits@2");
    device.disconnect();
    device.log.clear();
    device.traffic(5);
    let release = |text: &str| text.parse().unwrap();
    let runner = |effect: &&Effect| {
        matches!(effect, Effect::Load { .. } | Effect::Switch { .. } | Effect::Unload { .. })
    };
    let effects: Vec<_> = device.log.iter().filter(runner).cloned().collect();
    let back = Effect::Switch { release: release("digits@1") };
    assert_eq!(effects, [back, Effect::Unload { release: release("digits@2") }]);
    device.connect();
    let Event::RolledBack(RollbackReason::Failures(evidence)) = device.last_event() else { panic!() };
    assert_eq!((evidence.inferences, evidence.bad), (5, 5));
}

#[test]
fn a_bad_first_version_leaves_nothing_behind() {
    let mut device = Device::new();
    device.set_nature("digits@1", Nature::FailsInferences);
    device.deploy("digits@1");
    device.traffic(9);
    assert!(matches!(device.last_event(), Event::RolledBack(_)));
    assert!(device.loaded.is_empty() && device.published.is_empty());
    assert_eq!(device.serves(), None);
}

#[test]
fn a_version_that_does_not_load_goes_back_with_the_reason() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::FailsToLoad);
    device.deploy("digits@2");
    assert!(matches!(device.last_event(), Event::RolledBack(RollbackReason::LoadFailed { .. })));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_version_that_kills_the_runner_three_times_goes_back() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::KillsRunner);
    device.deploy("digits@2");
    device.pass(Duration::from_secs(30));
    assert_eq!(device.last_event(), &Event::RolledBack(RollbackReason::CrashLoop { starts: 3 }));
    device.pass(Duration::from_secs(60));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_start_is_durable_before_the_load_that_it_counts() {
    let mut device = Device::running("digits@1");
    device.desire(&[("digits@2", false)]);
    for expected in 1..=3 {
        device.pump_until(|e| matches!(e, Effect::Load { release, .. } if release.version.get() == 2));
        let candidate = device.saved.models[&support::model()].candidate.clone().unwrap();
        let (Phase::Activating(watch) | Phase::Probation(watch)) = candidate.phase else { panic!() };
        assert_eq!(watch.starts, expected);
        device.reboot_into_silence();
    }
    device.pump();
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("idle", Some("digits@1")));
}

#[test]
fn a_restart_of_the_runner_neither_shortens_nor_restarts_probation() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.traffic(100);
    device.pass(Duration::from_secs(400));
    device.kill_runner();
    device.pump();
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("probation", Some("digits@2")));
    device.pass(Duration::from_secs(199));
    assert_eq!(device.step(), "probation");
    device.pass(Duration::from_secs(1));
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
    assert_eq!(kinds(&device), ALL, "probation is reported once");
}

#[test]
fn a_version_that_nobody_asks_stays_on_probation() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.pass(Duration::from_secs(86_400));
    assert_eq!(device.step(), "probation");
    device.traffic(50);
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
}

#[test]
fn two_models_take_turns_in_transfer_and_both_arrive() {
    let mut device = Device::new();
    device.desire(&[("digits@1", false), ("faces@1", false)]);
    device.pump();
    device.live_through_probation();
    assert!(device.agent.model_states().iter().all(|state| state.committed.is_some()));
    let opened: Vec<_> = device.log.iter().filter(|e| matches!(e, Effect::OpenStaging { .. })).collect();
    assert_eq!(opened.len(), 4);
}

#[test]
fn a_refused_assignment_is_reported_and_the_running_version_stays() {
    let mut device = Device::running("digits@1");
    let refused = assignment(&manifest("digits@2"), false);
    let director = director(Generation(2), vec![refused.clone()]);
    let reason = RejectReason::Untrusted { detail: "expired".into() };
    let refused = vec![(refused, reason.clone())];
    device.give(Input::DesiredVerified { director: verified(director), manifests: vec![], refused });
    assert_eq!(device.last_event(), &Event::Rejected(reason));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn only_what_the_director_names_is_followed() {
    let mut device = Device::running("digits@1");
    let other = manifest("digits@2");
    let manifests = vec![(assignment(&other, false), digest_of(&other), verified(other))];
    let named = assignment(&manifest("digits@1"), false);
    let director = verified(director(Generation(2), vec![named]));
    device.give(Input::DesiredVerified { director, manifests, refused: vec![] });
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("idle", Some("digits@1")));
    assert_eq!(device.agent.ledger().intake, agent_core::Intake::Lacking, "digits@1 was not answered");
}

#[test]
fn a_release_that_changed_behind_its_name_is_rejected() {
    let mut device = Device::running("digits@1");
    let mut other = manifest("digits@1");
    other.budgets.latency_ms = 1;
    let named = assignment(&other, false);
    let director = verified(director(Generation(2), vec![named.clone()]));
    let manifests = vec![(named, digest_of(&other), verified(other))];
    device.give(Input::DesiredVerified { director, manifests, refused: vec![] });
    assert!(matches!(device.last_event(), Event::Rejected(RejectReason::BadManifest { .. })));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_lost_manifest_is_fetched_again_with_the_same_desired_state() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.manifests.clear();
    device.reboot();
    device.live_through_probation();
    assert_eq!(device.serves().as_deref(), Some("digits@2"));
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
}

#[test]
fn news_of_what_nobody_asked_for_is_counted_and_changes_nothing() {
    let mut device = Device::running("digits@1");
    let (before, now) = (device.agent.ledger().clone(), device.now);
    let release: shared::ReleaseId = "digits@9".parse().unwrap();
    let packed = shared::Digest::of(b"?");
    let inputs = [
        Input::BlockStored { packed, index: 0, bytes: 1 },
        Input::Unpacked { packed },
        Input::TrialPassed { release: release.clone(), figures: Default::default() },
        Input::Loaded { release: release.clone(), load_ms: 1 },
        Input::Switched { release: release.clone() },
        Input::Observed { release, counts: Counts::default() },
        Input::RunnerReady,
    ];
    let refused = inputs.into_iter().filter(|input| device.agent.handle(input.clone(), now).is_err()).count();
    assert_eq!((refused as u64, device.agent.ledger()), (7, &before));
    assert_eq!(device.agent.refusals(), 7);
}
