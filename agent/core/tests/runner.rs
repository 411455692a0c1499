//! The runner dies or refuses, and what is committed comes back.
#![allow(clippy::unwrap_used, reason = "a panic here is the failure report")]

mod support;

use std::time::Duration;

use support::{Device, Nature};

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
