//! The network and the disk fail in their ways, and the device waits, goes on or says so.

use std::time::Duration;

use crate::support::{self, Device, manifest};
use agent_core::{Effect, Input};
use shared::{
    Generation,
    report::{DeploymentEvent as Event, FailReason, RejectReason},
};

#[test]
fn a_full_disk_fails_the_deployment_until_a_higher_generation_asks_again() {
    let mut device = Device::running("digits@1");
    let packed = manifest("digits@2").model.packed.digest;
    device.desire(&[("digits@2", false)]);
    device.pump_until(|effect| matches!(effect, Effect::OpenStaging { .. }));
    let reason = FailReason::DiskFull { needed_bytes: 2, free_bytes: 1 };
    device.disk_fails = Some(reason.clone());
    device.give(Input::StagingFailed { packed, reason: reason.clone() });
    assert_eq!(device.step(), "transferring", "room may come");
    assert!(device.agent.status()[0].detail.contains("disk full"), "and it says what it waits for");
    device.pass(Duration::from_secs(15));
    assert_eq!(device.last_event(), &Event::Failed(reason));
    device.connect();
    assert_eq!(device.step(), "idle");
    device.disk_fails = None;
    device.deploy("digits@2");
    assert_eq!(device.step(), "probation");
}

#[test]
fn a_disk_that_has_room_again_is_tried_again_without_a_word_of_the_server() {
    let mut device = Device::running("digits@1");
    device.disk_fails = Some(FailReason::DiskFull { needed_bytes: 2, free_bytes: 1 });
    device.deploy("digits@2");
    device.reboot();
    device.pass(Duration::from_secs(1));
    device.disk_fails = None;
    device.pass(Duration::from_secs(15));
    assert_eq!(device.step(), "probation");
}

#[test]
fn attempts_are_counted_over_power_cuts() {
    let mut device = Device::running("digits@1");
    device.disk_fails = Some(FailReason::Storage { detail: "EIO".into() });
    device.deploy("digits@2");
    let mut reboots = 0;
    while device.step() == "transferring" {
        device.reboot();
        reboots += 1;
    }
    assert!(reboots <= 4, "{reboots}");
    assert!(matches!(device.last_event(), Event::Failed(FailReason::Storage { .. })));
}

#[test]
fn a_transfer_that_waits_for_another_attempt_does_not_hold_up_the_next() {
    let mut device = Device::running("digits@1");
    let packed = manifest("digits@2").model.packed.digest;
    device.desire(&[("digits@2", false), ("faces@1", false)]);
    device.pump_until(|effect| matches!(effect, Effect::OpenStaging { .. }));
    let reason = FailReason::Storage { detail: "EIO".into() };
    device.give(Input::StagingFailed { packed, reason });
    let steps: Vec<_> = device.agent.status().into_iter().map(|status| status.state.step).collect();
    assert_eq!(steps, ["transferring", "probation"]);
}

#[test]
fn an_artifact_that_unpacks_wrongly_is_rejected() {
    let mut device = Device::running("digits@1");
    let packed = manifest("digits@2").model.packed.digest;
    device.desire(&[("digits@2", false)]);
    device.pump_until(|effect| matches!(effect, Effect::Unpack { .. }));
    let reason = RejectReason::BadArtifact { detail: "digest".into() };
    device.give(Input::UnpackFailed { packed, reason: reason.clone() });
    assert_eq!(device.last_event(), &Event::Rejected(reason));
}

#[test]
fn a_transfer_waits_offline_without_end_and_goes_on_where_it_was() {
    let mut device = Device::running("digits@1");
    device.desire(&[("digits@2", false)]);
    device.pump_until(|effect| matches!(effect, Effect::Request { .. }));
    device.disconnect();
    device.pass(Duration::from_secs(86_400));
    assert_eq!(device.step(), "transferring");
    device.connect();
    assert_eq!(device.step(), "probation");
}

#[test]
fn a_server_that_never_answers_ends_the_transfer() {
    let mut device = Device::running("digits@1");
    device.desire(&[("digits@2", false)]);
    device.pump_until(|effect| matches!(effect, Effect::Request { .. }));
    device.lose_requests = true;
    device.pass(Duration::from_secs(600));
    assert_eq!(device.step(), "transferring", "it is tried again");
    device.pass(Duration::from_secs(6 * 600));
    assert!(matches!(device.last_event(), Event::Failed(FailReason::Network { .. })));
    assert_eq!(device.serves().as_deref(), Some("digits@1"));
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let mut device = Device::running("digits@1");
    let packed = manifest("digits@2").model.packed.digest;
    device.desire(&[("digits@2", false)]);
    device.pump_until(|effect| matches!(effect, Effect::Request { .. }));
    device.log.clear();
    device.give(Input::RetryAfter { packed, delay: Duration::from_secs(30) });
    device.pass(Duration::from_secs(29));
    assert_eq!(device.count(|effect| matches!(effect, Effect::Request { .. })), 0);
    device.pass(Duration::from_secs(1));
    assert_eq!(device.step(), "probation");
}

#[test]
fn a_verification_that_may_succeed_later_is_tried_again_ever_more_slowly() {
    let mut device = Device::new();
    let generation = Generation(5);
    let refused = Input::DesiredRefused { generation, detail: "no timestamp".into(), retry: true };
    let _ = device.agent.handle(Input::DesiredArrived { generation }, device.now);
    let mut waits = vec![];
    for _ in 0..12 {
        let _ = device.agent.handle(refused.clone(), device.now);
        let (at, _) = device.agent.poll_timeout().unwrap();
        waits.push(at.since(device.now).as_secs());
        device.now = at;
        let _ = device.agent.handle(Input::Tick, device.now);
    }
    assert!(waits[0] <= 2 && waits[11] >= 150 && waits.iter().all(|&wait| wait <= 300), "{waits:?}");
}

#[test]
fn a_report_made_offline_is_sent_after_the_next_connect_until_it_is_acknowledged() {
    let mut device = Device::running("digits@1");
    device.deploy("digits@2");
    device.disconnect();
    device.acknowledges = false;
    device.traffic(60);
    device.pass(support::PROBATION);
    let before = device.received.len();
    device.connect();
    device.connect();
    device.acknowledges = true;
    device.reboot();
    assert_eq!(device.received.len(), before + 3);
    assert!(device.received[before..].iter().all(|r| matches!(r.event, Event::Committed { .. })));
    assert!(device.agent.ledger().outbox.waiting().next().is_none());
}
