//! What a device has to say while nobody listens, and what it may cost to say it.

use serde_json::Value;
use system_tests::{
    device::{Device, DeviceOptions},
    digits::test_images,
    fleet::Fleet,
    models::Publication,
    proxy::Proxy,
    server::Server,
    views,
    wait::{PATIENCE, never, until, until_true},
};

const ROUNDS: usize = 4;
const INFERENCES: usize = 15;

/// Smaller than the windows of a minute.
const SMALL_SPOOL_KIB: u64 = 16;

fn work(device: &Device) {
    for digit in &test_images()[..INFERENCES] {
        device.infer(digit).unwrap();
    }
}

/// Waits until the runner's figures are in a window that has been written, and the next window as well.
fn let_windows_close(device: &Device) {
    for _ in 0..4 {
        let before = spooled_bytes(device);
        until_true("another window is in the spool", PATIENCE, || spooled_bytes(device) > before);
    }
}

fn spooled_bytes(device: &Device) -> u64 {
    let files = std::fs::read_dir(device.data_dir().join("spool")).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn answered(shown: &Value) -> u64 {
    views::numbers(&shown["figures"], "ok").into_iter().sum()
}

fn delivery(fleet: &Fleet, name: &str) -> u64 {
    views::numbers(&fleet.device("cam-1")["delivery"], name).into_iter().sum()
}

#[test]
fn every_window_of_a_time_without_server_arrives_exactly_once_also_when_the_agent_was_killed() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let before = answered(&fleet.device("cam-1"));
    fleet.server.kill();
    for _ in 0..ROUNDS {
        work(&fleet.devices[0]);
        let_windows_close(&fleet.devices[0]);
    }
    fleet.devices[0].kill();
    fleet.devices[0].run();
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);
    fleet.server.run();
    fleet.wait_until_online();

    // The one that found the device back is counted, too, and more may have been tried before.
    let all = before + (ROUNDS * INFERENCES) as u64 + 1;
    until_true("every inference is counted", PATIENCE, || answered(&fleet.device("cam-1")) >= all);
    until_true("nothing waits", PATIENCE, || delivery(&fleet, "waiting_windows") <= 1);
    let counted = answered(&fleet.device("cam-1"));
    assert_eq!(counted, all, "none is counted twice");
    assert_eq!(delivery(&fleet, "lost_windows"), 0);
}

#[test]
fn what_does_not_fit_the_spool_is_lost_oldest_first_and_shows() {
    let mut fleet = Fleet::start_on(Server::start(), 0);
    let options = DeviceOptions { spool_kib: SMALL_SPOOL_KIB, ..DeviceOptions::default() };
    fleet.add("cam-1", options);
    fleet.wait_until_online();
    fleet.server.kill();
    let full = SMALL_SPOOL_KIB * 1_024 * 3 / 4;
    until_true("the spool is full", 2 * PATIENCE, || spooled_bytes(&fleet.devices[0]) > full);
    let dropped = until("the oldest are dropped", 2 * PATIENCE, || {
        let bytes = spooled_bytes(&fleet.devices[0]);
        assert!(bytes <= SMALL_SPOOL_KIB * 1_024, "{bytes} bytes");
        (bytes < full).then_some(bytes)
    });
    assert!(dropped > 0, "the newest stay");
    fleet.server.run();
    fleet.wait_until_online();
    until_true("the loss shows", PATIENCE, || delivery(&fleet, "lost_windows") > 0);
    until_true("the rest arrives", PATIENCE, || delivery(&fleet, "waiting_windows") <= 1);
    let _ = fleet.cli().run(["device", "show", "cam-1"]).ok().says(&["lost windows"]);
}

#[test]
fn a_used_up_budget_stops_telemetry_and_no_report() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let limit = ["device", "limits", "cam-1", "--telemetry-bytes-per-day", "1kB"];
    let _ = fleet.cli().run(limit).ok().says(&["limit"]);
    until_true("the device follows", PATIENCE, || {
        views::all(&fleet.device("cam-1")["delivery"], "confirmed").contains(&&Value::Bool(true))
    });
    let spent = || delivery(&fleet, "telemetry_bytes_today");
    let last = spent();
    fleet.bring(&Publication::digits(2));
    never("telemetry goes on", std::time::Duration::from_secs(3), || spent() != last);
}

#[test]
fn the_agent_counts_every_byte_of_its_link() {
    let proxy = Proxy::start();
    let mut fleet = Fleet::start_behind(&proxy, 1);
    fleet.bring(&Publication::digits(1));
    assert!(fleet.devices[0].stop().success());
    let log = fleet.devices[0].log_text();
    let said = |name: &str| {
        let line = log.lines().rfind(|line| line.contains("the link has ended")).expect("the last line");
        let value = line.split(name).nth(1).expect("the count").trim_start_matches('=');
        value.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let (sent, received) = (said("sent_bytes"), said("received_bytes"));
    until_true("the proxy has carried the rest", PATIENCE, || proxy.up_bytes() >= sent);
    assert_eq!((proxy.up_bytes(), proxy.down_bytes()), (sent, received));
}
