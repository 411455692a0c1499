//! Transfers that are cut in the middle.

use std::time::Duration;

use system_tests::{
    digits::test_images,
    fleet::Fleet,
    models::Publication,
    proxy::Proxy,
    views,
    wait::{PATIENCE, until_true},
};

const MIB: u64 = 1_024 * 1_024;

/// Big enough to be cut in the middle at the rate that the server gives to one device.
const MODEL_BYTES: u64 = 12 * MIB;

/// Blocks on their way when the cut comes, and everything that is not blocks: protocol, TLS, metadata.
const OVERHEAD_BYTES: u64 = 3 * MIB;

/// A machine of two cores that builds something beside is slow.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);

fn fleet_with_big_model(proxy: &Proxy) -> (Fleet, String) {
    let fleet = Fleet::start_behind(proxy, 1);
    let big = Publication::big(fleet.server.scratch(), MODEL_BYTES as usize, 1);
    let release = fleet.publish(&big);
    (fleet, release)
}

#[test]
fn an_agent_killed_in_the_middle_of_a_transfer_fetches_only_what_is_missing() {
    let proxy = Proxy::start();
    let (mut fleet, release) = fleet_with_big_model(&proxy);
    let start = proxy.down_bytes();
    let rollout = fleet.start_rollout(&release);
    until_true("a half is there", DELIVERED_WITHIN, || proxy.down_bytes() - start > MODEL_BYTES / 2);
    fleet.devices[0].kill();
    let sent_before = proxy.down_bytes() - start;
    fleet.devices[0].run();

    let _ = fleet.watch(&rollout).ok();
    let sent = proxy.down_bytes() - start;
    eprintln!("{MODEL_BYTES} bytes to bring, {sent_before} sent before the kill, {sent} in all");
    assert!(sent < MODEL_BYTES + OVERHEAD_BYTES, "{sent} bytes were sent for {MODEL_BYTES}");
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);
    assert!(
        views::numbers(&fleet.why("cam-1"), "resumed_bytes").into_iter().any(|bytes| bytes > MODEL_BYTES / 4),
        "the device reports what it had kept: {:#}",
        fleet.why("cam-1")
    );
}

#[test]
fn a_connection_cut_again_and_again_costs_only_what_was_in_flight() {
    let proxy = Proxy::start();
    let (fleet, release) = fleet_with_big_model(&proxy);
    let start = proxy.down_bytes();
    let rollout = fleet.start_rollout(&release);
    for quarter in 1..=3 {
        let mark = start + quarter * MODEL_BYTES / 4;
        until_true("the next quarter is there", DELIVERED_WITHIN, || proxy.down_bytes() > mark);
        proxy.cut();
    }
    let _ = fleet.watch(&rollout).ok();
    let sent = proxy.down_bytes() - start;
    assert!(sent < MODEL_BYTES + 3 * OVERHEAD_BYTES, "{sent} bytes were sent for {MODEL_BYTES}");
    assert!(proxy.connections() >= 4, "three cuts make three new connections");
}

#[test]
fn a_link_that_hangs_without_closing_is_given_up_and_the_transfer_goes_on() {
    let proxy = Proxy::start();
    let (fleet, release) = fleet_with_big_model(&proxy);
    let start = proxy.down_bytes();
    let rollout = fleet.start_rollout(&release);
    until_true("a quarter is there", DELIVERED_WITHIN, || proxy.down_bytes() - start > MODEL_BYTES / 4);
    proxy.pause();
    until_true("the pause holds", PATIENCE, || {
        let before = proxy.down_bytes();
        std::thread::park_timeout(Duration::from_millis(200));
        proxy.down_bytes() == before
    });
    proxy.resume();
    let _ = fleet.watch(&rollout).ok();
}

#[test]
fn a_newer_version_takes_over_from_one_that_is_still_on_its_way() {
    let proxy = Proxy::start();
    let (fleet, big) = fleet_with_big_model(&proxy);
    let start = proxy.down_bytes();
    let _superseded = fleet.start_rollout(&big);
    until_true("the transfer runs", DELIVERED_WITHIN, || proxy.down_bytes() - start > MODEL_BYTES / 8);
    let small = fleet.publish(&Publication::digits(2));
    let answer = fleet.cli().run(["rollout", "start", &small, "--to", system_tests::fleet::SITE]);
    if answer.code == Some(system_tests::cli::Exit::Conflict as i32) {
        // One rollout at a time for a model is a rule that may be chosen; then it must say which one is in the way.
        let _ = answer.says(&["rollout"]).is_clear();
        return;
    }
    let _ = answer.ok();
    fleet.devices[0].wait_for_version("2", &test_images()[0], PATIENCE);
    assert!(proxy.down_bytes() - start < MODEL_BYTES, "the rest of the old version was fetched for nothing");
}
