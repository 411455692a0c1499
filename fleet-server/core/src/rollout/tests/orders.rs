//! Approval, and asking again.

use super::*;

fn guarded() -> Rollout {
    let mut strategy = two_waves(0);
    strategy.waves[0].approve = true;
    strategy.waves[1].approve = true;
    started(strategy, &fleet(3))
}

fn approve(wave: usize, by: &str) -> Input {
    Input::Approve { wave, by: by.into() }
}

#[test]
fn nobody_is_asked_before_somebody_other_than_the_author_agrees() {
    let mut rollout = guarded();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    assert_eq!(rollout.state().word(), "awaiting approval");
    let own = rollout.handle(approve(0, "ada"), Timestamp(2_000)).unwrap_err();
    assert_eq!(own.to_string(), "ada started rollout r1 and cannot approve it; somebody else has to");
    rollout.handle(approve(0, "eve"), Timestamp(3_000)).unwrap();
    let canary = assigned(&drain(&mut rollout));
    assert_eq!(canary.len(), 1);
    rollout.handle(says(&canary[0], COMMITTED, 1), Timestamp(4_000)).unwrap();
    assert!(matches!(rollout.state(), State::AwaitingApproval { wave: 1, .. }));
    rollout.handle(approve(1, "eve"), Timestamp(5_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)).len(), 2);
    let status = rollout.status();
    assert!(status.waves.iter().all(|wave| wave.approved_by.as_deref() == Some("eve")));
    let late = rollout.handle(approve(0, "eve"), Timestamp(6_000)).unwrap_err();
    assert_eq!(late.to_string(), "cannot approve rollout r1: it is running");
}

#[test]
fn a_canary_that_fails_while_the_next_wave_waits_for_approval_still_stops_the_rollout() {
    let mut rollout = guarded();
    rollout.handle(approve(0, "eve"), Timestamp(2_000)).unwrap();
    let canary = assigned(&drain(&mut rollout)).remove(0);
    rollout.handle(says(&canary, COMMITTED, 1), Timestamp(3_000)).unwrap();
    rollout.handle(says(&canary, BAD, 2), Timestamp(4_000)).unwrap();
    assert!(matches!(rollout.state(), State::RolledBack { .. } | State::RollingBack { .. }));
}

#[test]
fn devices_that_failed_are_asked_again_when_a_person_wants_it() {
    let max_failed = MaxFailed { absolute: 3, percent: 5 };
    let mut rollout = started(Strategy { max_failed, ..Strategy::default() }, &fleet(3));
    drain(&mut rollout);
    let nothing = rollout.handle(Input::Retry { by: "ada".into() }, Timestamp(1_500)).unwrap_err();
    assert_eq!(nothing.to_string(), "rollout r1 has no device that failed or fell silent");
    rollout.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    rollout.handle(says(&id("d1"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    let full = DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
    rollout.handle(says(&id("d2"), full, 1), Timestamp(2_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
    drain(&mut rollout);
    rollout.handle(Input::Retry { by: "ada".into() }, Timestamp(3_000)).unwrap();
    let asked = Effect::Assign { device: id("d2"), release: release("digits@2"), retry: true };
    assert!(drain(&mut rollout).contains(&asked));
    rollout.handle(says(&id("d2"), COMMITTED, 2), Timestamp(4_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
    assert_eq!((rollout.counts().committed, rollout.counts().failed), (3, 0));
}

#[test]
fn devices_that_are_asked_again_are_waited_for_in_whatever_wave_they_are() {
    let max_failed = MaxFailed { absolute: 3, percent: 5 };
    let mut rollout = started(Strategy { max_failed, ..two_waves(0) }, &fleet(3));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    let full = || DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
    rollout.handle(says(&canary, full(), 1), Timestamp(2_000)).unwrap();
    rollout.handle(Input::Promote { wave: 0, by: "ada".into() }, Timestamp(2_000)).unwrap();
    for device in assigned(&drain(&mut rollout)) {
        rollout.handle(says(&device, COMMITTED, 1), Timestamp(3_000)).unwrap();
    }
    assert!(matches!(rollout.state(), State::Completed { .. }));
    rollout.handle(Input::Retry { by: "ada".into() }, Timestamp(4_000)).unwrap();
    assert_eq!(
        rollout.state(),
        &State::Running { wave: 0 },
        "the promotion was for those who were asked then"
    );
    rollout.handle(says(&canary, COMMITTED, 2), Timestamp(5_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
}

#[test]
fn a_device_that_another_rollout_took_over_is_not_asked_again() {
    let full = DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
    let strategy = Strategy { max_failed: MaxFailed { absolute: 1, percent: 5 }, ..Strategy::default() };
    let mut tolerant = started(strategy, &fleet(1));
    tolerant.handle(says(&id("d0"), full, 1), Timestamp(2_000)).unwrap();
    assert_eq!(tolerant.summary().restored, [id("d0")].into());
    let newer = RolloutId::new("r2").unwrap();
    tolerant.handle(Input::Superseded { devices: vec![id("d0")], by: newer }, Timestamp(3_000)).unwrap();
    assert_eq!((tolerant.counts().failed, tolerant.summary().restored.len()), (1, 0), "its outcome stands");
    tolerant.handle(Input::Promote { wave: 0, by: "ada".into() }, Timestamp(3_000)).unwrap();
    assert!(tolerant.handle(Input::Retry { by: "ada".into() }, Timestamp(4_000)).is_err());
}

#[test]
fn an_order_that_does_not_fit_changes_nothing() {
    let mut rollout = started(Strategy::default(), &fleet(1));
    rollout.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    let before = rollout.clone();
    let by = || String::from("ada");
    let orders = [
        Input::Pause { by: by() },
        Input::Resume { by: by() },
        Input::Approve { wave: 0, by: "eve".into() },
        Input::Promote { wave: 0, by: by() },
        Input::Halt { by: by(), reason: "smoke".into() },
    ];
    for order in orders {
        assert!(rollout.handle(order, Timestamp(3_000)).is_err());
        assert_eq!(rollout, before);
    }
}

#[test]
fn an_order_that_is_given_twice_means_one_wave() {
    let mut strategy = two_waves(600);
    strategy.waves.insert(1, WaveSpec::of(WaveShare::Count(1)));
    let mut rollout = started(strategy, &fleet(4));
    let promote = || Input::Promote { wave: 0, by: "eve".into() };
    rollout.handle(promote(), Timestamp(2_000)).unwrap();
    assert_eq!(rollout.state(), &State::Running { wave: 1 });
    let again = rollout.handle(promote(), Timestamp(2_001)).unwrap_err();
    assert_eq!(again.to_string(), "cannot promote wave 1 of rollout r1: wave 2 is under way");
    assert_eq!(rollout.state(), &State::Running { wave: 1 });
}

#[test]
fn a_rollout_that_is_over_holds_devices_by_its_age_and_not_by_its_priority() {
    let mut rollout = started(Strategy { priority: 5, ..Strategy::default() }, &fleet(1));
    assert_eq!(rollout.summary().priority, 5);
    rollout.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
    assert_eq!(rollout.summary().priority, 0);
}

#[test]
fn devices_that_are_taken_over_together_let_no_wave_ask_one_of_them() {
    let mut rollout = started(two_waves(0), &fleet(3));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    let devices: Vec<_> = rollout.status().devices.iter().map(|status| status.device.clone()).collect();
    assert_eq!(devices[0], canary);
    rollout
        .handle(Input::Superseded { devices, by: RolloutId::new("r2").unwrap() }, Timestamp(2_000))
        .unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    assert_eq!(rollout.counts().superseded, 3);
}

#[test]
fn a_promoted_rollout_waits_at_its_end_for_devices_of_earlier_waves_that_are_on_their_way() {
    let mut rollout = started(two_waves(0), &fleet(2));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    rollout.handle(says(&canary, DeploymentEvent::Probation, 1), Timestamp(2_000)).unwrap();
    rollout.handle(Input::Promote { wave: 0, by: "ada".into() }, Timestamp(3_000)).unwrap();
    let last = assigned(&drain(&mut rollout)).remove(0);
    rollout.handle(says(&last, COMMITTED, 1), Timestamp(4_000)).unwrap();
    assert_eq!(rollout.state(), &State::Running { wave: 1 });
    rollout.handle(says(&canary, COMMITTED, 2), Timestamp(5_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
}
