//! Certificates that end while a device is at work, or while it is off.

use std::{
    fs,
    time::{Duration, Instant},
};

use system_tests::{
    device::{Device, DeviceOptions},
    fleet::Fleet,
    server::Server,
    wait::{PATIENCE, until_true},
};

/// The shortest that a server gives; renewed after ten seconds.
const LIFE: Duration = Duration::from_secs(15);

fn start(count: usize) -> Fleet {
    Fleet::start_on(Server::start_with_device_life(LIFE), count)
}

/// Certificates count in whole seconds, so one that was made before `begin` is over for sure.
fn wait_for_the_end(begin: Instant) {
    let end = begin + LIFE + Duration::from_secs(1);
    until_true("the certificate ends", PATIENCE, || Instant::now() > end);
}

fn certificate(device: &Device) -> String {
    fs::read_to_string(device.data_dir().join("identity/tls.pem")).unwrap()
}

#[test]
fn a_device_outlives_its_first_certificate() {
    let mut fleet = start(1);
    let enrolled = Instant::now();
    let first = certificate(&fleet.devices[0]);
    wait_for_the_end(enrolled);
    assert_ne!(certificate(&fleet.devices[0]), first, "{}", fleet.devices[0].log_text());
    assert!(fleet.is_online("cam-1"));
    // A connection that stands is not asked for its certificate again; a new one is.
    fleet.server.kill();
    fleet.server.run();
    fleet.wait_until_online();
}

#[test]
fn a_device_that_was_off_when_its_certificate_ended_comes_back() {
    let mut fleet = start(0);
    let mut device = Device::new("cam-1", DeviceOptions::default());
    let _ = device.enroll(&fleet.token()).ok();
    let expired = certificate(&device);
    wait_for_the_end(Instant::now());
    device.run();
    fleet.devices.push(device);
    fleet.wait_until_online();
    assert_ne!(certificate(&fleet.devices[0]), expired);
}
