//! Versions that pass every check beforehand and misbehave at work.

use std::time::Duration;

use system_tests::{
    cli::Exit,
    digits::{images_with_empty_margin, images_with_ink_in_margin, test_images},
    fleet::Fleet,
    models::{Policy, Publication},
    traffic::Traffic,
    views,
    wait::{PATIENCE, never, until_true},
};

/// Long enough for a second try of something that must not be tried again.
const SECOND_TRY_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn a_version_that_answers_nan_is_rolled_back_by_the_device_alone() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let bad = fleet.publish(&Publication::digits(3).with_policy(Policy::WATCHFUL));
    let rollout = fleet.start_rollout(&bad);
    fleet.devices[0].wait_for_version("2", &images_with_ink_in_margin()[0], PATIENCE);
    fleet.server.stop();

    let traffic = Traffic::start(fleet.devices[0].http(), "digits", test_images());
    until_true("version 1 answers again", PATIENCE, || traffic.so_far().of("1").count > 50);
    let totals = traffic.stop();
    assert!(totals.non_finite > 0, "{totals:?}");
    assert!(totals.failed.is_empty(), "only version 2 may fail, and only by its own numbers: {totals:?}");

    let bad_images = images_with_empty_margin();
    for digit in &bad_images[..10] {
        assert_eq!(fleet.devices[0].infer(digit).unwrap().version, "1");
    }

    fleet.server.run();
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed).says(&["finite"]);
    let _ = fleet.cli().run(["device", "why", "cam-1"]).ok().says(&["digits@2", "finite"]);
    let why = fleet.why("cam-1");
    let evidence = views::numbers(&why, "non_finite");
    assert!(evidence.iter().any(|count| *count > 0), "no evidence in {why:#}");
    never("a version that was rolled back came again", SECOND_TRY_WITHIN, || {
        fleet.devices[0].infer(&bad_images[0]).unwrap().version != "1"
    });
}

#[test]
fn a_halted_rollout_brings_the_version_to_nobody_else() {
    let mut fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let bad = fleet.publish(&Publication::digits(3).with_policy(Policy::WATCHFUL));
    let rollout = fleet.start_rollout(&bad);
    let traffic = Traffic::start(fleet.devices[0].http(), "digits", test_images());
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed);
    drop(traffic);

    let digit = &images_with_ink_in_margin()[0];
    let late = fleet.add("late", system_tests::device::DeviceOptions::default());
    let served = system_tests::wait::try_until(SECOND_TRY_WITHIN, || {
        late.runner().and_then(|_| late.infer(digit).ok()).filter(|answer| answer.version == "2")
    });
    assert_eq!(served, None, "a halted rollout went on");
}

#[test]
fn a_version_slower_than_its_budget_is_rolled_back() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(2));
    let policy = Policy { latency_ms: 20, ..Policy::WATCHFUL };
    let slow = fleet.publish(&Publication::of_tests("digits-slow-sometimes").with_policy(policy));
    let rollout = fleet.start_rollout(&slow);
    fleet.devices[0].wait_for_version("2", &images_with_ink_in_margin()[0], PATIENCE);

    let traffic = Traffic::start(fleet.devices[0].http(), "digits", images_with_empty_margin());
    let _ = fleet.watch(&rollout).exits(Exit::RolloutFailed).says(&["latency"]);
    fleet.devices[0].wait_for_version("1", &test_images()[0], PATIENCE);
    let totals = traffic.stop();
    assert!(totals.failed.is_empty() && totals.non_finite == 0, "slow answers are answers: {totals:?}");
}

#[test]
fn a_version_that_is_slow_on_its_own_golden_vectors_is_never_published() {
    let fleet = Fleet::start(0);
    let policy = Policy { latency_ms: 2, ..Policy::QUICK };
    let _ = fleet
        .try_publish(&Publication::of_tests("digits-slow").with_policy(policy))
        .fails()
        .says(&["latency", "2 ms"])
        .is_clear();
}

#[test]
fn a_good_version_replaces_the_old_one_without_a_failed_request() {
    let fleet = Fleet::start(1);
    fleet.bring(&Publication::digits(1));
    let traffic = Traffic::start(fleet.devices[0].http(), "digits", test_images());
    let policy = Policy { min_inferences: 50, ..Policy::QUICK };
    fleet.bring(&Publication::digits(2).with_policy(policy));
    until_true("version 2 has answered", PATIENCE, || traffic.so_far().of("2").count > 50);
    let totals = traffic.stop();
    assert!(totals.failed.is_empty() && totals.non_finite == 0, "{totals:?}");
    eprintln!("longest gap between two answers during the swap: {:?}", totals.longest_gap);
}
