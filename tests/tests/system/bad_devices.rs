//! Devices with a small disk or a wrong clock.

use system_tests::{
    clock::ClockShift,
    device::{Device, DeviceOptions},
    digits::test_images,
    fleet::Fleet,
    models::Publication,
    wait::{PATIENCE, until_true},
};

#[test]
fn a_full_disk_is_reported_and_the_old_version_stays() {
    let mut fleet = Fleet::start(0);
    fleet.add("small", DeviceOptions { store_mib: 1, ..DeviceOptions::default() });
    fleet.wait_until_online();
    fleet.bring(&Publication::digits(1));
    let before = fleet.devices[0].stored_bytes();

    let big = fleet.publish(&Publication::big(fleet.server.scratch(), 4 * 1_024 * 1_024, 9));
    let rollout = fleet.start_rollout(&big);
    // Another attempt may succeed, so the rollout need not be over; but it says what it waits for.
    until_true("the rollout says so", PATIENCE, || fleet.rollout(&rollout).to_string().contains("disk full"));
    let _ = fleet.cli().run(["device", "why", "small"]).ok().says(&["disk full"]);
    assert_eq!(fleet.devices[0].infer(&test_images()[0]).unwrap().version, "1");
    assert!(
        fleet.devices[0].stored_bytes() < before + 1_024 * 1_024,
        "it was fetched before it was measured"
    );
}

/// Refused with one token, once with each clock; then the same token enrols, so no refusal has used it.
#[test]
fn a_clock_an_hour_wrong_is_named_when_the_device_enrols_and_changes_nothing() {
    let fleet = Fleet::start(0);
    let token = fleet.token();
    let mut device = Device::new("clock", DeviceOptions::default());
    for (shift, side) in [("+1h", "ahead"), ("-1h", "behind")] {
        device.change(|options| options.clock = Some(ClockShift(shift)));
        let _ = device.enroll(&token).fails().says(&["clock", side, "s ", "--any-clock"]).is_clear();
        assert!(!device.data_dir().join("identity").exists(), "a refused device keeps nothing");
    }
    device.change(|options| options.clock = None);
    let _ = device.enroll(&token).ok();
}

fn goes_on_with_clock(shift: &'static str) {
    let mut fleet = Fleet::start(1);
    fleet.devices[0].stop();
    fleet.devices[0].change(|options| options.clock = Some(ClockShift(shift)));
    fleet.devices[0].run();
    fleet.wait_until_online();
    fleet.bring(&Publication::digits(1));
    assert_eq!(fleet.devices[0].infer(&test_images()[0]).unwrap().version, "1");
    let _ = fleet.cli().run(["device", "why", "cam-1"]).ok().says(&["clock"]);
}

#[test]
fn a_clock_that_is_an_hour_ahead_later_is_named_and_does_not_stop_updates() {
    goes_on_with_clock("+1h");
}

#[test]
fn a_clock_that_is_an_hour_late_later_is_named_and_does_not_stop_updates() {
    goes_on_with_clock("-1h");
}

#[test]
fn a_device_without_a_clock_can_enrol_when_its_owner_says_so() {
    let fleet = Fleet::start(0);
    let options = DeviceOptions { clock: Some(ClockShift("-1h")), ..DeviceOptions::default() };
    let _ = Device::new("clock", options).enroll_with(&fleet.token(), &["--any-clock"]).ok();
}

#[test]
fn a_clock_years_off_is_named_when_the_device_enrols() {
    let fleet = Fleet::start(0);
    for shift in ["+15y", "-15y"] {
        let options = DeviceOptions { clock: Some(ClockShift(shift)), ..DeviceOptions::default() };
        let device = Device::new("clock", options);
        let _ = device.enroll(&fleet.token()).fails().says(&["clock"]).is_clear();
    }
}

#[test]
fn a_clock_that_jumps_years_ahead_is_named_and_the_model_goes_on() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    fleet.devices[0].stop();
    fleet.devices[0].change(|options| options.clock = Some(ClockShift("+15y")));
    fleet.devices[0].run();
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);
    let device = &fleet.devices[0];
    until_true("the log names the clock", PATIENCE, || device.log_text().to_lowercase().contains("clock"));
}
