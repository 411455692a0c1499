//! What a device has to say while nobody listens, and what it may cost to say it.

use serde_json::Value;
use system_tests::{
    device::Device,
    digits::test_images,
    fleet::Fleet,
    models::Publication,
    views,
    wait::{PATIENCE, never, until_true},
};

const ROUNDS: usize = 4;
const INFERENCES: usize = 15;

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
