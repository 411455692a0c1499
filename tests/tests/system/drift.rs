//! Drift with real agents and a real server: everything counts once, whatever dies, and an alarm needs no server.

use serde_json::Value;
use system_tests::{
    digits::{Digit, test_images},
    fleet::Fleet,
    models::Publication,
    server::Server,
    wait::{PATIENCE, until, until_true},
};

/// Every image counts, and windows are short.
const FEATURES: &str = "[capture]\nevery = 1\nwindow_secs = 1\nmin_rows = 20\n";

/// Every image counts, and the end of the agent closes a window: fewer than 20 rows would be dropped wherever time closes it.
const UNTIL_THE_END: &str = "[capture]\nevery = 1\nwindow_secs = 3600\nmin_rows = 20\n";

/// Images that one part of a test sends: enough for several windows.
const IMAGES: usize = 150;

/// Rows that the server has of a feature that every image has.
fn rows(fleet: &Fleet) -> u64 {
    let report = fleet.cli().json(&["drift", "report", "digits"]);
    let strata = report["strata"].as_array().unwrap_or_else(|| panic!("strata in {report}"));
    let rows = strata.iter().map(|stratum| stratum["features"][0]["rows"].as_u64().unwrap_or(0));
    rows.sum()
}

fn ask(fleet: &Fleet, images: &[Digit], count: usize) {
    for digit in images.iter().cycle().take(count) {
        fleet.devices[0].infer(digit).unwrap();
    }
}

#[test]
fn every_answer_counts_once_though_the_server_is_killed_and_the_agent_restarts() {
    let server = Server::start_with_sections("[drift]\ncheck_secs = 3600\n");
    let mut fleet = Fleet::start_on(server, 1);
    fleet.bring(&Publication::digits(2).watched(UNTIL_THE_END));
    let images = test_images();
    ask(&fleet, &images, IMAGES);
    fleet.devices[0].stop();
    fleet.devices[0].run();
    until_true("a window has arrived", PATIENCE, || rows(&fleet) == IMAGES as u64);
    fleet.devices[0].wait_for_version("1", &images[0], PATIENCE);
    fleet.server.kill();
    ask(&fleet, &images, IMAGES - 1);
    // The window under way is sealed when the agent ends, and waits on its disk.
    fleet.devices[0].stop();
    fleet.server.run();
    fleet.devices[0].run();
    fleet.devices[0].wait_for_version("1", &images[0], PATIENCE);
    ask(&fleet, &images, IMAGES - 1);
    fleet.devices[0].stop();
    fleet.devices[0].run();
    let wanted = 3 * IMAGES as u64;
    until_true("all of it has arrived", PATIENCE, || rows(&fleet) >= wanted);
    // Whatever comes twice has come by the time that a window which was sent later is there.
    fleet.devices[0].wait_for_version("1", &images[0], PATIENCE);
    ask(&fleet, &images, IMAGES);
    fleet.devices[0].stop();
    fleet.devices[0].run();
    until_true("and what came after it", PATIENCE, || rows(&fleet) >= wanted + IMAGES as u64);
    assert_eq!(rows(&fleet), wanted + IMAGES as u64 + 1);
}

/// The alarms that a device tells of itself.
fn own_alarms(fleet: &Fleet) -> Vec<Value> {
    let alarms = fleet.cli().json(&["drift", "alarms"]);
    let alarms = alarms.as_array().cloned().unwrap_or_default();
    alarms.into_iter().filter(|alarm| alarm["raised_by"] == "device").collect()
}

#[test]
fn a_device_that_watches_itself_finds_its_frozen_camera_without_the_server_and_tells_it_later() {
    let server = Server::start_with_sections("[drift]\ncheck_secs = 3600\n");
    let mut fleet = Fleet::start_on(server, 1);
    let guarded = format!("{FEATURES}\n[guardrail]\none_false_alarm_in_years = 10\n");
    fleet.bring(&Publication::digits(2).watched(&guarded));
    let images = test_images();
    // A baseline of a thousand rows, and something to hold against it that is like it.
    ask(&fleet, &images, 1_400);
    fleet.server.kill();
    until("the device finds that its camera is frozen", PATIENCE, || {
        ask(&fleet, &images[..1], 100);
        fleet.devices[0].log_text().contains("drift").then_some(())
    });
    fleet.server.run();
    until_true("the server knows it", PATIENCE, || !own_alarms(&fleet).is_empty());
    let alarm = own_alarms(&fleet).remove(0);
    assert_eq!(alarm["scope"]["sensor"]["device"], "cam-1", "{alarm}");
}
