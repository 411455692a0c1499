//! The runner dies or refuses, and what is committed comes back.

use std::time::Duration;

use crate::support::{Device, Nature};

#[test]
fn a_runner_that_dies_alone_comes_back_ever_more_slowly() {
    let mut device = Device::running("digits@1");
    let mut waits = vec![];
    for _ in 0..10 {
        device.kill_runner();
        device.pump();
        let due = device.agent.poll_timeout().map_or(device.now, |(at, _)| at);
        waits.push(due.since(device.now).as_secs());
        device.pass(due.since(device.now));
        assert_eq!(device.serves().as_deref(), Some("digits@1"));
    }
    assert_eq!(waits[..5], [0, 1, 2, 4, 8]);
    assert_eq!(waits[9], 60);
}

#[test]
fn a_committed_version_that_does_not_load_is_tried_again() {
    let mut device = Device::running("digits@1");
    device.set_nature("digits@1", Nature::FailsToLoad);
    device.reboot();
    assert_eq!(device.serves(), None);
    device.set_nature("digits@1", Nature::Good);
    device.pass(Duration::from_secs(5));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_runner_that_dies_with_a_candidate_comes_back_at_once_until_the_candidate_is_given_up() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    let before = device.now;
    for starts in 1..=3 {
        assert_eq!(device.serves().as_deref(), Some("digits@2"), "start {starts}");
        device.kill_runner();
        device.pump();
    }
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
    assert_eq!(device.now, before, "nobody waited");
}
