//! kill -9 of every process at bad moments.

use std::time::{Duration, Instant};

use system_tests::{
    digits::test_images,
    fleet::Fleet,
    models::{Policy, Publication},
    process::{is_alive, kill_pid},
    proxy::Proxy,
    traffic::Traffic,
    views,
    wait::{PATIENCE, until, until_true},
};

/// Big enough that a rollout takes a moment.
const MODEL_BYTES: usize = 8 * 1_024 * 1_024;

/// A runner comes back within a second or two; on a machine that runs other tests beside, within this.
const RUNNER_BACK_WITHIN: Duration = Duration::from_secs(5);

/// Nothing is under way, so nothing has to be waited for.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn a_server_killed_during_a_rollout_goes_on_where_it_was() {
    let proxy = Proxy::start();
    let mut fleet = Fleet::start_behind(&proxy, 2);
    let release = fleet.publish(&Publication::big(fleet.server.scratch(), MODEL_BYTES, 3));
    let start = proxy.down_bytes();
    let rollout = fleet.start_rollout(&release);
    until_true("blocks are on their way", PATIENCE, || proxy.down_bytes() - start > MODEL_BYTES as u64 / 2);
    fleet.server.kill();
    fleet.server.run();

    let _ = fleet.watch(&rollout).ok();
    for device in &fleet.devices {
        device.wait_for_version("1", &test_images()[0], PATIENCE);
        let why = fleet.why(device.name());
        let commits = views::texts(&why, "kind").into_iter().filter(|kind| *kind == "committed").count();
        assert!(commits <= 1, "{} committed once and is told of twice: {why:#}", device.name());
    }
    let releases = fleet.cli().json(&["model", "list"]).to_string();
    assert!(!releases.contains("digits@2"), "{releases}");
    let again = fleet.publish(&Publication::digits(2));
    assert_eq!(again, "digits@2", "version numbers go on where they were");
}

#[test]
fn devices_go_on_answering_while_the_server_is_away() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    fleet.server.kill();
    let digit = &test_images()[0];
    assert_eq!(fleet.devices[0].infer(digit).unwrap().version, "1");
    fleet.devices[0].kill();
    fleet.devices[0].run();
    fleet.devices[0].wait_for_version("1", digit, PATIENCE);
    fleet.server.run();
    fleet.wait_until_online();
}

#[test]
fn a_killed_runner_is_back_at_once_and_callers_wait_instead_of_failing() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let device = &fleet.devices[0];
    let traffic = Traffic::start(device.http(), "digits", test_images());
    until_true("traffic runs", PATIENCE, || traffic.so_far().all_answered() > 20);

    let runner = device.runner().expect("a model has a runner");
    kill_pid(runner);
    let since = Instant::now();
    until_true("another runner is there", RUNNER_BACK_WITHIN, || {
        device.runner().is_some_and(|another| another != runner)
    });
    let answered = traffic.so_far().all_answered();
    until_true("it answers", RUNNER_BACK_WITHIN, || traffic.so_far().all_answered() > answered + 1);
    eprintln!("answers again {:?} after its runner was killed", since.elapsed());
    let totals = traffic.stop();
    assert!(totals.failed.len() <= 2, "only what the dead runner held may fail: {totals:?}");
}

#[test]
fn a_killed_agent_leaves_no_runner_behind_and_serves_again() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let runner = fleet.devices[0].runner().expect("a model has a runner");
    fleet.devices[0].kill();
    until_true("the runner is gone", PATIENCE, || !is_alive(runner));
    fleet.devices[0].run();
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);
}

#[test]
fn an_agent_killed_once_in_probation_still_commits() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let policy = Policy { min_inferences: 30, ..Policy::QUICK };
    let release = fleet.publish(&Publication::digits(2).with_policy(policy));
    let rollout = fleet.start_rollout(&release);
    let digit = &test_images()[0];
    fleet.devices[0].wait_for_version("2", digit, PATIENCE);
    fleet.devices[0].kill();
    fleet.devices[0].run();
    fleet.devices[0].wait_for_version("2", digit, PATIENCE);

    let _traffic = Traffic::start(fleet.devices[0].http(), "digits", test_images());
    let _ = fleet.watch(&rollout).ok();
    assert_eq!(fleet.devices[0].infer(digit).unwrap().version, "2");
}

#[test]
fn an_agent_killed_in_every_probation_gives_the_version_up() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let policy = Policy { max_starts: 3, ..Policy::WATCHFUL };
    let release = fleet.publish(&Publication::digits(2).with_policy(policy));
    let rollout = fleet.start_rollout(&release);
    let digit = &test_images()[0];
    for _ in 0..policy.max_starts {
        fleet.devices[0].wait_for_version("2", digit, PATIENCE);
        fleet.devices[0].kill();
        fleet.devices[0].run();
    }
    let _ = fleet.watch(&rollout).exits(system_tests::cli::Exit::RolloutFailed);
    fleet.devices[0].wait_for_version("1", digit, PATIENCE);
    until("the server knows how often it was started", PATIENCE, || {
        views::numbers(&fleet.why("cam-1"), "starts").contains(&u64::from(policy.max_starts)).then_some(())
    });
}

#[test]
fn an_operator_stops_both_programs_cleanly() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let since = Instant::now();
    assert!(fleet.devices[0].stop().success());
    let device = since.elapsed();
    assert!(fleet.server.stop().success());
    let server = since.elapsed() - device;
    eprintln!("the agent stopped within {device:?}, the server within {server:?}");
    assert!(device < STOPPED_WITHIN && server < STOPPED_WITHIN, "{device:?} and {server:?}");
}
