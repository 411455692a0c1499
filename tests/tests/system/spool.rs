//! What a device has to say while nobody listens, and what it may cost to say it.

use serde_json::Value;
use system_tests::{
    cli::answer,
    device::{Device, DeviceOptions},
    digits::test_images,
    fleet::Fleet,
    inference::infer,
    models::Publication,
    proxy::Proxy,
    server::Server,
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

/// What its windows take; what the budget has spent lies beside them and is not bounded by the spool.
fn spooled_bytes(device: &Device) -> u64 {
    let files = std::fs::read_dir(device.data_dir().join("spool")).into_iter().flatten().flatten();
    let windows = files.filter(|file| !file.file_name().to_string_lossy().starts_with("budget"));
    windows.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
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

/// The smallest that a configuration may ask for.
const SMALL_SPOOL_KIB: u64 = 16;

/// Their figures make windows large.
const MODELS: usize = 10;

#[test]
fn what_does_not_fit_the_spool_is_lost_oldest_first_and_shows() {
    let mut fleet = Fleet::start_on(Server::start(), 0);
    let options = DeviceOptions { spool_kib: SMALL_SPOOL_KIB, ..DeviceOptions::default() };
    fleet.add("cam-1", options);
    fleet.wait_until_online();
    let models: Vec<String> = (1..=MODELS).map(|number| format!("digits-{number}")).collect();
    fleet.bring_models(&models);
    fleet.server.kill();
    let device = &fleet.devices[0];
    let (mut asked, mut most) = (0, 0);
    until_true("the oldest are dropped", 2 * PATIENCE, || {
        for model in &models {
            infer(&device.unix_socket(), model, &test_images()[0]).unwrap();
            asked += 1;
        }
        let bytes = spooled_bytes(device);
        assert!(bytes <= SMALL_SPOOL_KIB * 1_024, "{bytes} bytes");
        most = most.max(bytes);
        bytes < most
    });
    fleet.server.run();
    fleet.wait_until_online();
    until_true("the loss shows", PATIENCE, || delivery(&fleet, "lost_windows") > 0);
    until_true("the rest arrives", PATIENCE, || delivery(&fleet, "waiting_windows") <= 1);
    let _ = fleet.cli().run(["device", "show", "cam-1"]).ok().says(&["lost windows"]);
    let counted = answered(&fleet.device("cam-1"));
    assert!(0 < counted && counted < asked, "{counted} of {asked} are told: the newest stay, the oldest go");
}

/// No window is closed meanwhile, so that there are moments in which nothing is under way.
const QUIET_SECS: u32 = 3_600;

#[test]
fn the_agent_counts_exactly_the_bytes_that_a_network_sees() {
    let proxy = Proxy::start();
    let mut fleet = Fleet::start_on(Server::start_behind(&proxy), 0);
    let options = DeviceOptions { interval_secs: QUIET_SECS, ..DeviceOptions::default() };
    fleet.add("cam-1", options);
    fleet.wait_until_online();
    fleet.bring(&Publication::digits(1));
    fleet.bring(&Publication::digits(2));
    until_true("agent and network agree to the byte", PATIENCE, || {
        let counted = traffic(&fleet.devices[0]);
        counted == (proxy.up_bytes(), proxy.down_bytes()) && counted.0 > 0 && counted.1 > 0
    });
}

/// What the agent says that it has sent and received.
fn traffic(device: &Device) -> (u64, u64) {
    let mut command = device.agent();
    command.args(["status", "-o", "json", "--config"]).arg(device.config());
    let traffic = answer(command).ok().json()["traffic"].clone();
    (traffic["sent_bytes"].as_u64().unwrap(), traffic["received_bytes"].as_u64().unwrap())
}
