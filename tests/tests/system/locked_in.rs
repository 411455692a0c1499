//! The process that runs models: how far it is locked in, and how soon another takes its place.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{
    cli::Exit,
    digits::test_images,
    fleet::Fleet,
    models::{Policy, Publication},
    process::kill_pid,
    traffic::Traffic,
    views,
    wait::{PATIENCE, until, until_true},
};

/// From the end of a runner to the next answer.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// A runner is asked every ten seconds, and replaced when it has not answered by the next time; with room for a machine
/// that runs other tests beside.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_device_tells_how_far_models_are_locked_in_before_it_has_one() {
    let fleet = Fleet::start(1);
    until_true("the inventory tells", PATIENCE, || {
        views::texts(&fleet.device("cam-1"), "level").contains(&"full")
    });
    let _ = fleet.cli().run(["device", "show", "cam-1"]).ok().says(&["hardening", "full"]);
}

#[test]
fn a_killed_runner_answers_again_within_a_second_under_load() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let device = &fleet.devices[0];
    let traffic = Traffic::start(device.http(), "digits", test_images());
    until_true("it answers", PATIENCE, || traffic.so_far().of("1").count > 10);
    let runner = device.runner().unwrap();
    let (killed, answers) = (Instant::now(), traffic.so_far().of("1").count);
    kill_pid(runner);
    // An answer that was on its way may still be counted.
    until_true("it answers again", PATIENCE, || traffic.so_far().of("1").count > answers + 1);
    let back = killed.elapsed();
    eprintln!("answers again {} ms after kill -9", back.as_millis());
    assert!(back < BACK_WITHIN, "{back:?}");
    assert_ne!(device.runner(), Some(runner));
}

#[test]
fn a_runner_that_no_longer_obeys_is_replaced() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let device = &fleet.devices[0];
    let runner = device.runner().unwrap();
    let pid = Pid::from_raw(i32::try_from(runner).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let stopped = Instant::now();
    let next = until("another runner takes its place", NOTICED_WITHIN, || {
        device.runner().filter(|next| *next != runner)
    });
    eprintln!("runner {next} after {} ms", stopped.elapsed().as_millis());
    device.wait_for_version("1", &test_images()[0], PATIENCE);
}

#[test]
fn a_model_that_does_not_fit_the_memory_is_refused_before_it_is_loaded() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let policy = Policy { memory_mib: u32::MAX, ..Policy::QUICK };
    let huge = fleet.publish(&Publication::digits(2).with_policy(policy));
    let rollout = fleet.start_rollout(&huge);
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed).says(&["4294967295 MiB", "available"]);
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);
}
