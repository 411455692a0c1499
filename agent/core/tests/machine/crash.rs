//! Power fails at every single effect, and the device still ends on a version that works.

use crate::support::{self, Device, Ending, Nature};
use agent_core::{Effect, Phase};
use shared::challenger::Terms;

/// Deploys `digits@2` over `digits@1`, ends this life of the agent after `effects` effects, and lives on. False when
/// the story was over before that.
fn survives(nature: Nature, ending: Ending, effects: usize) -> bool {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", nature);
    (device.power_for, device.ending) = (Some(effects), ending);
    device.deploy("digits@2");
    assert!(device.committed().is_some(), "no committed version after {effects} effects");
    for _ in 0..6 {
        device.live_through_probation();
        assert!(device.committed().is_some());
    }
    let failed = device.power_for.take().is_none();
    let expected = if nature == Nature::Good { "digits@2" } else { "digits@1" };
    assert_eq!(device.committed(), Some(expected.parse().unwrap()), "{nature:?}, {effects} effects");
    assert_ends_well(&device, expected, effects);
    failed
}

fn assert_ends_well(device: &Device, expected: &str, effects: usize) {
    assert_eq!(device.serves().as_deref(), Some(expected), "{effects} effects");
    assert_eq!(device.loaded.len(), 1, "only the committed version stays loaded");
    let kept = support::manifest(expected);
    assert!(device.published.contains(&kept.model.digest), "the model was collected");
    assert_eq!(device.published.len(), 2, "litter stays in the store");
    assert!(device.saved.outbox.waiting().next().is_none(), "reports are stuck");
    assert!(device.events().iter().any(|event| event.is_final()), "the server never hears of the end");
}

fn survives_everywhere(nature: Nature) {
    for ending in [Ending::PowerCut, Ending::Stop] {
        let effects = (0..1_000).take_while(|&effects| survives(nature, ending, effects)).count();
        assert!((10..1_000).contains(&effects), "{effects} crash points");
    }
}

#[test]
fn a_good_version_is_committed_wherever_the_power_fails() {
    survives_everywhere(Nature::Good);
}

#[test]
fn a_version_that_fails_its_trial_never_replaces_the_old_one() {
    survives_everywhere(Nature::FailsTrial);
}

#[test]
fn a_version_that_does_not_load_never_replaces_the_old_one() {
    survives_everywhere(Nature::FailsToLoad);
}

#[test]
fn a_version_that_kills_the_runner_never_replaces_the_old_one() {
    survives_everywhere(Nature::KillsRunner);
}

#[test]
fn a_version_whose_inferences_fail_never_replaces_the_old_one() {
    survives_everywhere(Nature::FailsInferences);
}

#[test]
fn a_version_that_eats_memory_never_replaces_the_old_one() {
    survives_everywhere(Nature::EatsMemory);
}

#[test]
fn a_version_that_waits_for_its_window_is_committed_wherever_the_power_fails() {
    let survives = |effects| {
        let mut device = Device::running("digits@1");
        device.orders.maintenance = Some(vec!["Wed 04:00-05:00".parse().unwrap()].try_into().unwrap());
        device.power_for = Some(effects);
        device.deploy("digits@2");
        assert_eq!(device.serves().as_deref(), Some("digits@1"), "it is not Wednesday: {effects} effects");
        for _ in 0..8 * 6 {
            device.live_through_probation();
        }
        assert_ends_well(&device, "digits@2", effects);
        device.power_for.is_none()
    };
    assert!((10..1_000).contains(&(0..1_000).take_while(|&effects| survives(effects)).count()));
}

#[test]
fn a_damaged_committed_version_is_whole_again_wherever_the_power_fails() {
    let survives = |effects| {
        let mut device = Device::running("digits@1");
        device.damaged.insert(support::manifest("digits@1").model.digest);
        device.blocks.clear();
        device.power_for = Some(effects);
        device.reboot();
        for _ in 0..4 {
            device.live_through_probation();
        }
        assert_eq!(device.serves().as_deref(), Some("digits@1"), "{effects} effects");
        assert_eq!(device.published.len(), 2, "litter stays in the store");
        assert!(device.received.is_empty(), "a repair is no deployment");
        device.power_for.is_none()
    };
    assert!((8..1_000).contains(&(0..1_000).take_while(|&effects| survives(effects)).count()));
}

/// As [`survives`], with `digits@9` beside the champion before, and `digits@8` named in its place meanwhile.
fn survives_with_a_challenger(nature: Nature, ending: Ending, effects: usize) -> bool {
    let mut device = Device::running("digits@1");
    device.challenge(&[("digits@9", Terms::default())]);
    device.set_nature("digits@2", nature);
    (device.power_for, device.ending) = (Some(effects), ending);
    device.challenge(&[("digits@8", Terms::default())]);
    device.deploy("digits@2");
    assert!(device.committed().is_some(), "no committed version after {effects} effects");
    for _ in 0..6 {
        device.live_through_probation();
        assert!(device.committed().is_some());
    }
    let failed = device.power_for.take().is_none();
    let expected = if nature == Nature::Good { "digits@2" } else { "digits@1" };
    assert_eq!(device.committed(), Some(expected.parse().unwrap()), "{nature:?}, {effects} effects");
    assert_eq!(device.serves().as_deref(), Some(expected), "{effects} effects");
    assert_eq!(device.loaded.len(), 1, "only the committed version is in the runner");
    let challenging: Vec<String> = device.challenging.iter().map(ToString::to_string).collect();
    assert_eq!(
        (device.challenger().0.as_str(), challenging),
        ("running", vec!["digits@8".into()]),
        "{effects} effects"
    );
    assert_eq!(device.published.len(), 4, "litter stays in the store");
    failed
}

#[test]
fn a_challenger_changes_nothing_of_how_a_deployment_ends_wherever_the_power_fails() {
    let good = [Ending::PowerCut, Ending::Stop].map(|ending| (Nature::Good, ending));
    for (nature, ending) in good.into_iter().chain([(Nature::FailsInferences, Ending::PowerCut)]) {
        let survives = |effects: &usize| survives_with_a_challenger(nature, ending, *effects);
        let effects = (0..1_000).take_while(survives).count();
        assert!((20..1_000).contains(&effects), "{effects} crash points");
    }
}

#[test]
fn a_challenger_that_takes_the_machine_down_is_not_started_without_end() {
    let mut device = Device::running("digits@1");
    device.challenge(&[("digits@2", Terms::default())]);
    let mut starts = 1;
    for _ in 0..20 {
        // The machine dies soon after the start: power is lost and comes back.
        device.reboot_into_silence();
        device.pump_until(|effect| matches!(effect, Effect::StartChallenger { .. }));
        starts += usize::from(device.challenger().0 == "starting");
    }
    assert_eq!((starts, device.challenger().0.as_str()), (3, "over"));
    device.reboot();
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn of_two_models_each_ends_where_it_belongs_wherever_the_power_fails() {
    let survives = |effects| {
        let mut device = Device::new();
        device.desire(&[("digits@1", false), ("faces@1", false)]);
        device.pump();
        device.live_through_probation();
        device.set_nature("digits@2", Nature::FailsInferences);
        device.power_for = Some(effects);
        device.desire(&[("digits@2", false), ("faces@2", false)]);
        device.pump();
        for _ in 0..6 {
            device.live_through_probation();
        }
        let serving: Vec<String> = device.serving.values().map(ToString::to_string).collect();
        assert_eq!(serving, ["digits@1", "faces@2"], "{effects} effects");
        assert_eq!((device.loaded.len(), device.published.len()), (2, 4));
        device.power_for.is_none()
    };
    assert!((20..1_000).contains(&(0..1_000).take_while(|&effects| survives(effects)).count()));
}

#[test]
fn a_first_version_survives_a_power_cut_at_every_effect() {
    for effects in 0..60 {
        let mut device = Device::new();
        device.power_for = Some(effects);
        device.deploy("digits@1");
        for _ in 0..4 {
            device.live_through_probation();
        }
        assert_eq!(device.serves().as_deref(), Some("digits@1"), "{effects} effects");
    }
}

#[test]
fn power_that_fails_again_and_again_ends_on_the_old_version() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    for _ in 0..2 {
        assert_eq!(device.step(), "probation");
        device.reboot();
    }
    assert_eq!(device.step(), "probation");
    device.reboot();
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("idle", Some("digits@1")));
}

#[test]
fn a_trial_that_takes_the_machine_down_is_not_repeated_without_end() {
    let mut device = Device::running("digits@1");
    device.desire(&[("digits@2", false)]);
    let mut trials = 0;
    for _ in 0..20 {
        // The machine dies in the trial: power is lost right after the effect that begins it.
        device.pump_until(|effect| matches!(effect, Effect::RunTrial { .. }));
        if device.step() == "self_testing" {
            trials += 1;
            let candidate = device.saved.models[&support::model()].candidate.clone().unwrap();
            let counted =
                matches!(candidate.phase, Phase::SelfTesting { trials: counted, .. } if counted == trials);
            assert!(counted, "the trial is not durable before it begins: {candidate:?}");
        }
        device.reboot_into_silence();
    }
    assert_eq!(trials, 3);
    assert_eq!(device.committed(), Some("digits@1".parse().unwrap()));
}
