//! The disk changes bytes behind our back, and what is committed is brought again.

use std::time::Duration;

use crate::support::{Device, manifest};
use agent_core::Effect;
use shared::report::{DeploymentEvent as Event, FailReason};

const MINUTE: Duration = Duration::from_secs(60);

fn rot(device: &mut Device, release: &str) {
    device.damaged.insert(manifest(release).model.digest);
    device.blocks.clear();
}

#[test]
fn a_damaged_committed_version_is_fetched_again_without_a_new_generation() {
    let mut device = Device::running("digits@1");
    rot(&mut device, "digits@1");
    device.reboot();
    device.pass(MINUTE);
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    assert!(device.count(|effect| matches!(effect, Effect::Request { .. })) > 0);
    assert!(device.received.is_empty(), "nothing was deployed: {:?}", device.received);
}

#[test]
fn a_committed_version_whose_file_is_gone_is_fetched_again() {
    let mut device = Device::running("digits@1");
    device.published.clear();
    device.blocks.clear();
    device.kill_runner();
    device.pump();
    device.pass(MINUTE);
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_repair_waits_for_the_server_and_says_what_it_waits_for() {
    let mut device = Device::running("digits@1");
    rot(&mut device, "digits@1");
    device.disconnect();
    device.reboot();
    device.pass(60 * MINUTE);
    assert_eq!(device.serves(), None);
    let detail = device.agent.status()[0].detail.clone();
    assert!(detail.contains("damaged on the disk") && detail.contains("offline"), "{detail}");
    device.connect();
    device.pass(MINUTE);
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_repair_goes_on_for_as_long_as_it_takes() {
    let mut device = Device::running("digits@1");
    rot(&mut device, "digits@1");
    device.disk_fails = Some(FailReason::Storage { detail: "EIO".into() });
    device.reboot();
    device.pass(24 * 60 * MINUTE);
    let openings = device.count(|effect| matches!(effect, Effect::OpenStaging { .. }));
    assert!((144..400).contains(&openings), "{openings} attempts in a day");
    device.disk_fails = None;
    device.pass(10 * MINUTE);
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_candidate_that_was_damaged_before_its_trial_is_fetched_again_and_not_remembered() {
    let mut device = Device::running("digits@1");
    device.desire(&[("digits@2", false)]);
    device.pump_until(|effect| matches!(effect, Effect::RunTrial { .. }));
    rot(&mut device, "digits@2");
    device.reboot();
    assert_eq!(device.step(), "transferring");
    device.pass(MINUTE);
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("probation", Some("digits@2")));
}

#[test]
fn a_candidate_on_probation_that_was_damaged_ends_and_may_be_asked_for_again() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    rot(&mut device, "digits@2");
    device.reboot();
    assert!(matches!(device.last_event(), Event::Failed(FailReason::Storage { .. })));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    device.damaged.clear();
    device.deploy("digits@2");
    assert_eq!(device.step(), "probation");
}

#[test]
fn a_candidate_is_taken_while_its_committed_version_cannot_be_repaired() {
    let mut device = Device::running("digits@1");
    rot(&mut device, "digits@1");
    device.disk_fails = Some(FailReason::Storage { detail: "EIO".into() });
    device.reboot();
    device.disk_fails = None;
    device.deploy("digits@2");
    device.live_through_probation();
    assert_eq!(device.serves().as_deref(), Some("digits@2"));
    device.pass(60 * MINUTE);
    assert_eq!(device.published.len(), 2, "nothing is fetched for a version that nobody runs");
}
