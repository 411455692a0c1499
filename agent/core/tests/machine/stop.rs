//! An agent that is stopped in order is not an agent that died.

use std::time::Duration;

use crate::support::{Device, Nature, model};
use agent_core::{Effect, Input, Phase, Refusal};

#[test]
fn orderly_restarts_in_probation_are_not_counted_as_starts() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    for _ in 0..20 {
        device.restart_in_order();
        assert_eq!((device.step().as_str(), device.serves().as_deref()), ("probation", Some("digits@2")));
    }
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
}

#[test]
fn a_power_cut_after_orderly_restarts_still_counts() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    for _ in 0..3 {
        assert_eq!(device.step(), "probation");
        device.restart_in_order();
        device.reboot();
    }
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("idle", Some("digits@1")));
}

#[test]
fn time_and_counts_of_a_probation_survive_an_orderly_restart() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.traffic(100);
    device.pass(Duration::from_secs(400));
    device.restart_in_order();
    device.pass(Duration::from_secs(199));
    assert_eq!(device.step(), "probation");
    device.pass(Duration::from_secs(1));
    assert_eq!(device.committed(), Some("digits@2".parse().unwrap()));
}

#[test]
fn an_orderly_restart_in_a_trial_is_not_counted_as_a_trial() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@2", Nature::TrialHangs);
    device.deploy("digits@2");
    for _ in 0..10 {
        device.restart_in_order();
        assert_eq!(device.step(), "self_testing");
    }
    let candidate = device.saved.models[&model()].candidate.clone().unwrap();
    assert!(matches!(candidate.phase, Phase::SelfTesting { trials: 1, .. }), "{candidate:?}");
}

#[test]
fn a_start_is_given_back_only_for_a_candidate_that_is_alive() {
    let mut device = Device::running("digits@1");
    device.desire(&[("digits@2", false)]);
    device.pump_until(|effect| matches!(effect, Effect::Load { release, .. } if release.version.get() == 2));
    device.kill_runner();
    device.kill_runner();
    device.restart_in_order();
    let candidate = device.saved.models[&model()].candidate.clone().unwrap();
    let (Phase::Activating(watch) | Phase::Probation(watch)) = candidate.phase else { panic!() };
    assert_eq!(watch.starts, 2, "one start died with the runner, one goes on");
}

#[test]
fn nothing_is_done_after_the_end() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.log.clear();
    device.give(Input::Stopped);
    let late = device.agent.handle(Input::Tick, device.now);
    assert_eq!((late, device.agent.poll_timeout()), (Err(Refusal::Stopped), None));
    assert!(device.log.is_empty(), "{:?}", device.log);
}
