//! Publish, roll out, run: the path on which nothing goes wrong.

use std::time::{Duration, Instant};

use system_tests::{
    digits::test_images,
    fleet::{Fleet, SITE},
    inference::{accuracy, infer, infer_binary},
    models::Publication,
    proxy::Proxy,
    wait::{PATIENCE, until_true},
};

/// What the training of version 1 and 2 measured on the test images, less a little.
const ACCURACY: [f64; 2] = [0.92, 0.97];

#[test]
fn a_rolled_out_model_answers_on_every_device() {
    let fleet = Fleet::start(3);
    assert_eq!(fleet.bring(&Publication::digits(1).with_lineage()), "digits@1");
    for device in &fleet.devices {
        assert_eq!(device.infer(&test_images()[0]).unwrap().version, "1");
    }
    assert!(accuracy(&fleet.devices[0].http(), "digits", &test_images()) > ACCURACY[0]);

    assert_eq!(fleet.bring(&Publication::digits(2).with_lineage()), "digits@2");
    for device in &fleet.devices {
        assert_eq!(device.infer(&test_images()[0]).unwrap().version, "2");
    }
    assert!(accuracy(&fleet.devices[0].http(), "digits", &test_images()) > ACCURACY[1]);
}

#[test]
fn tcp_and_the_unix_socket_and_both_encodings_give_the_same_answer() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(2));
    let device = &fleet.devices[0];
    for digit in &test_images()[..5] {
        let expected = infer(&device.http(), "digits", digit).unwrap();
        for target in [device.http(), device.unix_socket()] {
            assert_eq!(infer(&target, "digits", digit).unwrap().probabilities, expected.probabilities);
            assert_eq!(infer_binary(&target, "digits", digit).unwrap().probabilities, expected.probabilities);
        }
    }
}

#[test]
fn a_device_that_enrols_later_gets_the_model_from_the_next_rollout() {
    let mut fleet = Fleet::start(1);
    let release = fleet.bring(&Publication::digits(1));
    fleet.add("late", Default::default());
    fleet.wait_until_online();
    let rollout = fleet.start_rollout(&release);
    let _ = fleet.watch(&rollout).ok();
    assert_eq!(fleet.devices[1].infer(&test_images()[0]).unwrap().version, "1");
}

#[test]
fn a_plan_names_its_devices_and_changes_nothing() {
    let fleet = Fleet::start(1);
    let release = fleet.publish(&Publication::digits(1));
    let answer = fleet.cli().run(["rollout", "plan", &release, "--to", SITE]).ok().says(&["cam-1"]);
    drop(answer);
    assert!(fleet.devices[0].runner().is_none(), "a plan must not start a model");
}

#[test]
fn a_device_without_a_model_runs_no_runner() {
    let mut fleet = Fleet::start(1);
    assert!(fleet.devices[0].runner().is_none());
    let resident_kib = fleet.devices[0].process().resident_kib().unwrap();
    eprintln!("agent without a model: {resident_kib} KiB resident");
}

#[test]
fn a_connected_device_hears_of_its_new_state_at_once() {
    let proxy = Proxy::start();
    let mut fleet = Fleet::start_behind(&proxy, 0);
    fleet.add("cam-1", system_tests::device::DeviceOptions { interval_secs: 600, ..Default::default() });
    fleet.wait_until_online();
    let release = fleet.publish(&Publication::digits(1));
    let before = proxy.up_bytes();
    let since = Instant::now();
    let rollout = fleet.start_rollout(&release);
    let asked = since.elapsed();
    until_true("the device asks for the release", PATIENCE, || proxy.up_bytes() > before + 100);
    let heard = since.elapsed();
    eprintln!(
        "notice of a new desired state: {heard:?} after the command was started, which itself took {asked:?}"
    );
    assert!(heard < asked + Duration::from_secs(10), "the device was not told by push");
    let _ = fleet.watch(&rollout).ok();
}
