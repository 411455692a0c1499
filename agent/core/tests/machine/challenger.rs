//! Challengers: what runs beside a champion, and never in its way.

use std::time::Duration;

use crate::support::{self, Device, Nature};
use agent_core::{ChallengePhase, ChallengerEnd, Effect, Input, Refusal, Wakeup};
use shared::{
    ReleaseId, Timestamp,
    challenger::Terms,
    message::Quarantine,
    report::{DeploymentEvent, FailReason},
};

const TERMS: Terms = Terms { sample_ppm: 50_000, cpu_percent: 10, until: None };
const HOUR: Duration = Duration::from_secs(3_600);

/// A device on which `digits@1` answers and `digits@2` runs beside it.
fn challenged() -> Device {
    let mut device = Device::running("digits@1");
    device.challenge(&[("digits@2", TERMS)]);
    assert_eq!(device.challenger(), ("running".into(), String::new()));
    device
}

fn assert_champion_untouched(device: &Device) {
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    assert_eq!(device.committed(), Some("digits@1".parse().unwrap()));
    assert_eq!(device.loaded.len(), 1, "no challenger is in the runner");
    assert_eq!(device.step(), "idle");
    assert!(device.received.is_empty(), "a challenger is no deployment: {:?}", device.events());
}

#[test]
fn a_challenger_is_fetched_and_tried_like_a_candidate_and_never_activated() {
    let device = challenged();
    assert_champion_untouched(&device);
    assert_eq!(device.count(|effect| matches!(effect, Effect::OpenStaging { .. })), 2);
    assert_eq!(device.count(|effect| matches!(effect, Effect::RunTrial { .. })), 1);
    assert_eq!(device.count(|effect| matches!(effect, Effect::Load { .. } | Effect::Switch { .. })), 0);
    assert!(device.challenging.contains(&"digits@2".parse().unwrap()));
}

#[test]
fn a_new_champion_has_the_right_of_way_and_is_challenged_when_it_is_kept() {
    let mut device = challenged();
    device.deploy("digits@3");
    assert!(device.challenging.is_empty(), "it makes room before the candidate moves");
    assert_eq!(
        device.challenger(),
        ("waiting".into(), "a deployment or a repair has the right of way".into())
    );
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@3".parse().unwrap()));
    assert_eq!(device.challenger().0, "running");
    let fetched = |effect: &Effect| matches!(effect, Effect::RunTrial { .. });
    assert_eq!(device.count(fetched), 2, "what was tried before the deployment is not tried again");
}

#[test]
fn a_transfer_of_a_challenger_gives_the_link_to_a_candidate_and_goes_on_where_it_stopped() {
    let mut device = Device::running("digits@1");
    device.lose_requests = true;
    device.challenge(&[("digits@2", TERMS)]);
    let packed = support::manifest("digits@2").model.packed.digest;
    device.give(Input::BlockStored { packed, index: 0, bytes: 65_536 });
    device.blocks.entry(packed).or_default().insert(0);
    assert_eq!(device.challenger().0, "transferring");
    device.lose_requests = false;
    device.deploy("digits@3");
    assert_eq!(device.step(), "probation");
    device.live_through_probation();
    assert!(device.blocks[&packed].contains(&0), "the block was not thrown away");
    assert_eq!(device.challenger().0, "running");
}

#[test]
fn a_trial_of_a_challenger_gives_its_place_to_that_of_a_candidate() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::TrialHangs);
    device.challenge(&[("digits@2", TERMS)]);
    assert_eq!(device.challenger().0, "self_testing");
    // The double of the shell has one place for a trial and says so when two want it.
    device.deploy("digits@3");
    assert_eq!(device.step(), "probation");
    let counted = &device.saved.challengers.by_model[&support::model()].phase;
    assert_eq!(*counted, ChallengePhase::SelfTesting { trials: 0 }, "what was cut short is not counted");
}

#[test]
fn a_challenger_that_fails_its_trial_is_over_and_nothing_is_remembered_of_it() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::FailsTrial);
    device.challenge(&[("digits@2", TERMS)]);
    assert_eq!(device.challenger(), ("over".into(), "golden case 0: y".into()));
    assert_champion_untouched(&device);
    assert_eq!(device.published.len(), 2, "what it held is collected");
    assert!(device.saved.remembered_bad.is_empty());
}

#[test]
fn a_challenger_that_always_dies_is_given_up_and_its_champion_never_notices() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::KillsRunner);
    device.challenge(&[("digits@2", TERMS)]);
    device.pass(4 * HOUR);
    assert_eq!(device.challenger().0, "over");
    assert!(device.challenger().1.contains("started 3 times"), "{:?}", device.challenger());
    assert_eq!(device.count(|effect| matches!(effect, Effect::StartChallenger { .. })), 3);
    assert_champion_untouched(&device);
}

#[test]
fn one_that_lived_for_long_is_forgiven_its_starts() {
    let mut device = challenged();
    for _ in 0..6 {
        device.pass(HOUR);
        device.kill_challenger("digits@2");
        device.pass(2 * HOUR);
        assert_eq!(device.challenger().0, "running");
    }
    assert_champion_untouched(&device);
}

#[test]
fn a_disk_that_a_candidate_finds_full_is_emptied_of_challengers_first() {
    let mut device = challenged();
    let free_bytes = 1;
    device.disk_fails = Some(FailReason::DiskFull { needed_bytes: 2, free_bytes });
    device.deploy("digits@3");
    let model = support::manifest("digits@2").model.digest;
    assert!(!device.published.contains(&model), "its files are gone before the candidate tries again");
    device.disk_fails = None;
    device.pass(Duration::from_secs(10));
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@3".parse().unwrap()));
    assert!(!device.published.contains(&model), "it waits an hour before it asks for room again");
    device.pass(HOUR);
    assert_eq!(device.challenger().0, "running");
}

#[test]
fn a_challenger_that_finds_the_disk_full_keeps_nothing_there_and_fails_nothing() {
    let mut device = Device::running("digits@1");
    device.disk_fails = Some(FailReason::DiskFull { needed_bytes: 2, free_bytes: 1 });
    device.challenge(&[("digits@2", TERMS)]);
    let (step, detail) = device.challenger();
    assert!(step == "waiting" && detail.contains("disk full"), "{step}: {detail}");
    assert_champion_untouched(&device);
}

#[test]
fn a_device_short_of_memory_lets_its_challenger_rest_and_holds_it_against_nobody() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::EatsMemory);
    device.challenge(&[("digits@2", TERMS)]);
    for _ in 0..10 {
        device.pass(HOUR);
    }
    let (step, detail) = device.challenger();
    assert!(step == "waiting" && detail.contains("memory is short"), "{step}: {detail}");
    device.set_nature("digits@2", Nature::Good);
    device.pass(2 * HOUR);
    assert_eq!(device.challenger().0, "running");
}

#[test]
fn a_runner_that_dies_takes_the_challenger_out_until_its_champion_answers_again() {
    let mut device = challenged();
    device.log.clear();
    device.kill_runner();
    device.pump();
    let position = |wanted: fn(&Effect) -> bool| device.log.iter().position(wanted).unwrap();
    let stopped = position(|effect| matches!(effect, Effect::StopChallenger { .. }));
    let answers = position(|effect| matches!(effect, Effect::Switch { .. }));
    let begun = position(|effect| matches!(effect, Effect::StartChallenger { .. }));
    assert!(stopped < answers && answers < begun, "{:?}", device.log);
    assert_champion_untouched(&device);
}

#[test]
fn a_challenger_that_becomes_the_champion_needs_no_transfer_and_challenges_nobody() {
    let mut device = challenged();
    device.log.clear();
    device.deploy("digits@2");
    assert_eq!(device.count(|effect| matches!(effect, Effect::Request { .. })), 0, "its artifacts are here");
    assert_eq!(device.challenger(), ("over".into(), "it is what the device shall run".into()));
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
    assert!(device.challenging.is_empty());
}

#[test]
fn a_challenger_ends_when_its_time_is_over_also_while_the_server_is_away() {
    let mut device = Device::running("digits@1");
    let until = Some(Timestamp(device.now.as_millis() + 7_200_000));
    device.challenge(&[("digits@2", Terms { until, ..TERMS })]);
    device.disconnect();
    device.pass(HOUR);
    assert_eq!(device.challenger().0, "running");
    device.pass(HOUR);
    assert_eq!(device.challenger(), ("over".into(), "its time is over".into()));
    assert!(device.challenging.is_empty() && device.published.len() == 2);
}

#[test]
fn one_that_is_no_longer_named_goes_with_everything_it_held() {
    let mut device = challenged();
    device.challenge(&[]);
    assert!(device.challenging.is_empty() && device.agent.challenger_states().is_empty());
    assert_eq!(device.published.len(), 2);
    assert_eq!(device.manifests.len(), 1);
    assert_champion_untouched(&device);
}

#[test]
fn a_document_about_another_model_does_not_begin_a_challenge_anew() {
    let mut device = Device::new();
    device.desire(&[("digits@1", false), ("faces@1", false)]);
    device.pump();
    device.live_through_probation();
    device.set_nature("digits@2", Nature::FailsTrial);
    device.challenge(&[("digits@2", TERMS)]);
    let (mut document, mut manifests) = device.named_challengers.clone().unwrap();
    let faces = support::manifest("faces@2");
    let mut more = document.challengers[0].clone();
    (more.release, more.manifest_digest, more.order) = (faces.release.clone(), support::digest_of(&faces), 2);
    document.challengers.push(more);
    manifests.push(faces);
    document.revision = 2;
    device.named_challengers = Some((document, manifests));
    device.give(Input::ChallengersArrived { revision: 2 });
    let steps: Vec<_> = device.agent.challenger_states().into_iter().map(|state| state.step).collect();
    assert_eq!(steps, ["over", "running"]);
    assert_eq!(
        device.count(|e| matches!(e, Effect::RunTrial { release, .. } if release.to_string() == "digits@2")),
        1
    );
    device.challenge(&[("digits@2", TERMS)]);
    assert_eq!(
        device.count(|e| matches!(e, Effect::RunTrial { release, .. } if release.to_string() == "digits@2")),
        2,
        "whoever asks once more gets another try"
    );
}

#[test]
fn what_a_challenger_holds_is_asked_back_before_a_candidate_is_loaded_whose_window_opens() {
    let mut device = challenged();
    // It is Tuesday evening.
    device.orders.maintenance = Some(vec!["Wed 04:00-05:00".parse().unwrap()].try_into().unwrap());
    device.deploy("digits@3");
    assert_eq!((device.step().as_str(), device.challenger().0.as_str()), ("waiting", "running"));
    device.log.clear();
    device.pass(6 * HOUR);
    assert_eq!(device.step(), "probation");
    let position = |wanted: fn(&Effect) -> bool| device.log.iter().position(wanted).unwrap();
    let stopped = position(|effect| matches!(effect, Effect::StopChallenger { .. }));
    let loaded = position(|effect| matches!(effect, Effect::Load { .. }));
    assert!(stopped < loaded, "{:?}", device.log);
}

#[test]
fn a_document_ends_what_it_no_longer_names_also_where_something_else_of_it_cannot_be_had_yet() {
    let mut device = challenged();
    device.challenge_unavailable(&[("digits@3", TERMS)]);
    assert!(device.challenging.is_empty() && device.agent.challenger_states().is_empty());
    let checks = |device: &Device| device.count(|effect| matches!(effect, Effect::VerifyChallengers { .. }));
    let before = checks(&device);
    device.unavailable = false;
    device.pass(HOUR);
    assert_eq!(
        (checks(&device), device.challenger().0),
        (before + 1, "running".into()),
        "it asks again itself"
    );
    assert_champion_untouched(&device);
}

#[test]
fn the_answer_of_an_older_check_does_not_end_a_newer_one() {
    let mut device = challenged();
    let (mut document, _) = device.named_challengers.clone().unwrap();
    document.challengers.clear();
    device.agent.handle(Input::ChallengersArrived { revision: 2 }, device.now).unwrap();
    device.agent.handle(Input::ChallengersArrived { revision: 3 }, device.now).unwrap();
    while device.agent.poll_effect().is_some() {}
    document.revision = 2;
    let input = Input::ChallengersVerified {
        document: support::verified(document.clone()),
        manifests: vec![],
        refused: vec![],
    };
    device.agent.handle(input, device.now).unwrap();
    // The check of the third is still under way: it fails for a moment and is repeated.
    let input = Input::ChallengersRefused { revision: 3, detail: "no network".into(), retry: true };
    device.agent.handle(input, device.now).unwrap();
    assert!(matches!(device.agent.poll_timeout(), Some((_, Wakeup::VerifyChallengers(3)))));
}

#[test]
fn what_a_process_says_of_its_end_is_told_in_short() {
    let mut device = challenged();
    let release: ReleaseId = "digits@2".parse().unwrap();
    device.challenging.remove(&release);
    let end = ChallengerEnd::Crashed { detail: "x".repeat(1_000_000) };
    device.give(Input::ChallengerEnded { release, end });
    let (step, detail) = device.challenger();
    assert!(step == "waiting" && detail.chars().count() <= 200, "{step}: {} characters", detail.len());
}

#[test]
fn an_older_document_never_changes_a_device() {
    let mut device = challenged();
    let old = device.named_challengers.clone().unwrap();
    device.challenge(&[]);
    let (document, _) = old;
    let input = Input::ChallengersVerified {
        document: support::verified(document),
        manifests: vec![],
        refused: vec![],
    };
    let refusal = device.agent.handle(input, device.now).unwrap_err();
    assert_eq!(refusal, Refusal::StaleChallengers { found: 1, known: 2 });
    assert!(device.agent.challenger_states().is_empty());
}

#[test]
fn a_device_in_quarantine_runs_no_challenger() {
    let mut device = challenged();
    device.orders.quarantine = Some(Quarantine { reason: "it smells".into() });
    device.deploy("digits@1");
    assert!(device.challenging.is_empty());
    assert!(device.challenger().1.contains("quarantine"));
    device.orders.quarantine = None;
    device.deploy("digits@1");
    assert_eq!(device.challenger().0, "running");
}

#[test]
fn what_was_rolled_back_here_is_no_challenger_here() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::FailsInferences);
    device.deploy("digits@2");
    device.traffic(20);
    assert!(matches!(device.last_event(), DeploymentEvent::RolledBack(_)));
    device.challenge(&[("digits@2", TERMS)]);
    assert_eq!(
        device.challenger(),
        ("over".into(), "this model was refused or rolled back here before".into())
    );
}

#[test]
fn news_of_a_challenger_that_nobody_waits_for_change_nothing() {
    let mut device = challenged();
    let release = || "digits@1".parse().unwrap();
    let end = ChallengerEnd::Crashed { detail: "x".into() };
    for input in [
        Input::ChallengerRuns { release: release() },
        Input::ChallengerRuns { release: "digits@2".parse().unwrap() },
        Input::ChallengerEnded { release: release(), end },
    ] {
        assert!(device.agent.handle(input, device.now).is_err());
    }
    assert_eq!(device.challenger().0, "running");
}
