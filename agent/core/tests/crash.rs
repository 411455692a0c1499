//! Power fails at every single effect, and the device still ends on a version that works.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

mod support;

use agent_core::Effect;
use support::{Device, Nature};

/// Deploys `digits@2` over `digits@1`, loses power after `effects` effects, and lives on. False when the story
/// was over before the power failed.
fn survives(nature: Nature, effects: usize) -> bool {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", nature);
    device.power_for = Some(effects);
    device.deploy("digits@2");
    assert!(device.committed().is_some(), "no committed version after {effects} effects");
    for _ in 0..6 {
        device.live_through_probation();
        assert!(device.committed().is_some());
    }
    let failed = device.power_for.take().is_none();
    let expected = if nature == Nature::Good { "digits@2" } else { "digits@1" };
    assert_eq!(device.committed(), Some(expected.parse().unwrap()), "{nature:?}, {effects} effects");
    assert_eq!(device.serves().as_deref(), Some(expected), "{nature:?}, {effects} effects");
    assert_eq!(device.loaded.len(), 1, "only the committed version stays loaded");
    let kept = support::manifest(expected);
    assert!(device.published.contains(&kept.model.digest), "the model was collected");
    assert_eq!(device.published.len(), 2, "litter stays in the store");
    assert!(device.saved.outbox.waiting().next().is_none(), "reports are stuck");
    let finals: Vec<_> = device.events().into_iter().filter(|event| event.is_final()).collect();
    assert!(!finals.is_empty(), "the server never hears of the end");
    failed
}

fn survives_everywhere(nature: Nature) {
    let effects = (0..1_000).take_while(|&effects| survives(nature, effects)).count();
    assert!((10..1_000).contains(&effects), "{effects} crash points");
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
        trials += usize::from(device.step() == "self_testing");
        device.reboot_into_silence();
    }
    assert_eq!(trials, 3);
    assert_eq!(device.committed(), Some("digits@1".parse().unwrap()));
}
