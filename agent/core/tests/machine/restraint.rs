//! Maintenance windows, pins and quarantine: nothing is wrong with a version, and still it does not come now.

use std::time::Duration;

use crate::support::{self, Device, Nature};
use agent_core::{Input, Wakeup};
use shared::{
    message::Quarantine,
    report::{DeploymentEvent as Event, RejectReason, RollbackReason},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// The clock of these tests begins on Tuesday 2023-11-14 at 22:13:20 UTC.
fn device_with_window(window: &str) -> Device {
    let mut device = Device::running("digits@1");
    device.orders.maintenance = Some(vec![window.parse().unwrap()].try_into().unwrap());
    device
}

fn detail(device: &Device) -> String {
    device.agent.status()[0].detail.clone()
}

#[test]
fn a_tested_version_waits_for_its_window_and_says_so() {
    let mut device = device_with_window("Wed 04:00-05:00");
    device.deploy("digits@2");
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("waiting", Some("digits@1")));
    assert_eq!(device.loaded.len(), 1, "nothing is loaded beside the committed version");
    assert!(detail(&device).contains("Wed 04:00-05:00, which opens on Wed 04:00"), "{}", detail(&device));
    let (at, wakeup) = device.agent.poll_timeout().unwrap();
    assert_eq!(wakeup, Wakeup::Window(support::model()));
    device.pass(at.since(device.now) - Duration::from_millis(1));
    assert_eq!(device.step(), "waiting");
    device.pass(Duration::from_millis(1));
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("probation", Some("digits@2")));
}

#[test]
fn the_clock_on_the_wall_decides_also_when_it_changes() {
    let mut device = device_with_window("Wed 04:00-05:00");
    device.deploy("digits@2");
    assert_eq!(device.step(), "waiting");
    device.give(Input::LocalTime { utc_offset_secs: 6 * 3_600 });
    assert_eq!(device.step(), "probation", "it is past four o'clock there");
}

#[test]
fn going_back_never_waits_for_a_window() {
    let mut device = device_with_window("Tue 22:00-23:30");
    device.deploy("digits@2");
    assert_eq!(device.step(), "probation");
    device.set_nature("digits@2", Nature::FailsInferences);
    device.pass(3 * HOUR);
    device.traffic(5);
    assert!(matches!(device.last_event(), Event::RolledBack(RollbackReason::Failures(_))));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_version_that_answered_before_a_power_cut_answers_again_outside_the_window() {
    let mut device = device_with_window("Tue 22:00-23:30");
    device.deploy("digits@2");
    device.pass(3 * HOUR);
    device.reboot();
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("probation", Some("digits@2")));
}

#[test]
fn a_wait_for_a_window_survives_a_power_cut() {
    let mut device = device_with_window("Wed 04:00-05:00");
    device.deploy("digits@2");
    device.reboot();
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("waiting", Some("digits@1")));
    device.pass(6 * HOUR);
    assert_eq!(device.step(), "probation");
}

#[test]
fn a_newer_desired_state_without_a_window_ends_the_wait() {
    let mut device = device_with_window("Wed 04:00-05:00");
    device.deploy("digits@2");
    device.orders.maintenance = None;
    device.deploy("digits@2");
    assert_eq!(device.step(), "probation");
}

#[test]
fn a_pinned_model_stays_on_its_committed_version_and_says_so() {
    let mut device = Device::running("digits@1");
    device.pinned = true;
    device.deploy("digits@2");
    let committed = "digits@1".parse().unwrap();
    assert_eq!(device.last_event(), &Event::Rejected(RejectReason::Pinned { committed }));
    assert_eq!((device.step().as_str(), device.serves().as_deref()), ("idle", Some("digits@1")));
    assert_eq!(detail(&device), "digits is pinned to digits@1");
    device.pinned = false;
    device.deploy("digits@2");
    assert_eq!(device.step(), "probation", "a version that was kept out is not remembered as bad");
}

#[test]
fn a_pin_sends_a_candidate_on_probation_back_and_a_power_cut_does_not_lift_it() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.pinned = true;
    device.deploy("digits@2");
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    device.reboot();
    assert_eq!(detail(&device), "digits is pinned to digits@1");
    device.deploy("digits@1");
    assert!(matches!(device.last_event(), Event::Committed { .. }), "its own version is confirmed");
}

#[test]
fn a_pinned_model_still_takes_its_first_version() {
    let mut device = Device::new();
    device.pinned = true;
    device.deploy("digits@1");
    device.live_through_probation();
    assert_eq!(device.committed(), Some("digits@1".parse().unwrap()));
}

#[test]
fn a_device_in_quarantine_keeps_what_it_has_and_takes_nothing_new() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.orders.quarantine = Some(Quarantine { reason: "opened housing".into() });
    device.desire(&[("digits@2", false), ("faces@1", false)]);
    device.pump();
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    let refused = device.received.iter().filter(|report| {
        report.event == Event::Rejected(RejectReason::Quarantined { detail: "opened housing".into() })
    });
    assert_eq!(refused.count(), 2);
    assert!(detail(&device).contains("in quarantine and takes nothing new: opened housing"));
    device.reboot();
    assert!(detail(&device).contains("opened housing"));
    device.orders.quarantine = None;
    device.desire(&[("digits@2", false), ("faces@1", false)]);
    device.pump();
    assert_eq!(device.serving.len(), 2);
    assert_eq!(device.serves().as_deref(), Some("digits@2"));
}
