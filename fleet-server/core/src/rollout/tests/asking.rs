//! The pace, windows, freezes, tries that follow, and devices that come later.

use super::*;
use crate::{
    plan::{WaveKind, plan_late},
    strategy::{Ramp, Retries},
};

const MINUTE: u64 = 60_000;

fn ticks_until(rollout: &mut Rollout, end: u64) -> Vec<(u64, DeviceId)> {
    let mut asked = Vec::new();
    while let Some((at, _)) = rollout.poll_timeout().filter(|(at, _)| at.as_millis() <= end) {
        rollout.handle(Input::Tick, at).unwrap();
        asked.extend(assigned(&drain(rollout)).into_iter().map(|device| (at.as_millis(), device)));
    }
    asked
}

#[test]
fn a_ramp_asks_faster_as_devices_keep_the_release() {
    let ramp = Ramp { per_minute: 2, factor: 10, after: 2, max_per_minute: 1_000 };
    let mut rollout = started(Strategy { ramp: Some(ramp), ..Strategy::default() }, &fleet(60));
    let mut first = assigned(&drain(&mut rollout));
    let early = ticks_until(&mut rollout, 1_000 + MINUTE);
    assert!((2..=4).contains(&(first.len() + early.len())), "{first:?} {early:?}");
    first.extend(early.into_iter().map(|(_, device)| device));
    for device in &first[..2] {
        rollout.handle(says(device, COMMITTED, 1), Timestamp(62_000)).unwrap();
    }
    let before = first.len();
    let later = ticks_until(&mut rollout, 62_000 + MINUTE);
    assert!((18..=24).contains(&later.len()), "{before} and {}", later.len());
}

#[test]
fn a_rollback_is_staged_at_the_same_pace() {
    let ramp = Ramp { per_minute: 60, ..Ramp::steady(60) };
    let mut rollout = started(Strategy { ramp: Some(ramp), ..Strategy::default() }, &fleet(30));
    ticks_until(&mut rollout, 60_000);
    rollout.handle(Input::Rollback { by: "ada".into() }, Timestamp(61_000)).unwrap();
    let at_once = restored(&drain(&mut rollout)).len();
    assert!((1..=3).contains(&at_once), "{at_once}");
    let mut all = at_once;
    while let Some((at, Wakeup::Ask)) = rollout.poll_timeout() {
        rollout.handle(Input::Tick, at).unwrap();
        all += restored(&drain(&mut rollout)).len();
        assert!(at.as_millis() < 61_000 + MINUTE);
    }
    assert_eq!(all, 30);
    assert!(matches!(rollout.state(), State::RollingBack { .. }));
}

#[test]
fn a_device_is_asked_when_its_own_clock_on_the_wall_says_night() {
    let mut fleet = fleet(2);
    fleet[1].inventory.utc_offset_secs = Some(3_600);
    let windows = serde_json::from_str(r#"["Daily 02:00-04:00"]"#).unwrap();
    let mut rollout = started(Strategy { windows: Some(windows), ..Strategy::default() }, &fleet);
    assert_eq!(assigned(&drain(&mut rollout)), []);
    let asked = ticks_until(&mut rollout, 24 * 60 * MINUTE);
    assert_eq!(asked, [(60 * MINUTE, id("d1")), (120 * MINUTE, id("d0"))]);
}

fn freeze(devices: Option<BTreeSet<DeviceId>>) -> Freeze {
    let (from, until) = (Timestamp(0), Timestamp(9_000));
    Freeze { id: "f1".into(), from, until, reason: "sale".into(), devices }
}

#[test]
fn a_freeze_of_some_devices_does_not_hold_up_the_others() {
    let mut plan = crate::fixtures::planned(Strategy::default(), &fleet(3));
    plan.freezes = vec![freeze(Some([id("d1")].into()))];
    let spec = spec("all", Strategy::default());
    let mut rollout = Rollout::start(spec, plan, Timestamp(1_000));
    let asked = assigned(&drain(&mut rollout));
    assert!(asked.len() == 2 && !asked.contains(&id("d1")), "{asked:?}");
    assert_eq!(ticks_until(&mut rollout, 9_000), [(9_000, id("d1"))]);
}

#[test]
fn a_freeze_asks_nobody_new_and_failures_still_stop_the_rollout() {
    let freeze = freeze(None);
    let mut rollout = started(two_waves(0), &fleet(3));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    rollout.handle(Input::Freezes { freezes: vec![freeze] }, Timestamp(1_500)).unwrap();
    rollout.handle(says(&canary, COMMITTED, 1), Timestamp(2_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    assert_eq!(rollout.status().frozen.unwrap().to_string(), "frozen by f1: sale");
    assert_eq!(rollout.poll_timeout(), Some((Timestamp(9_000), Wakeup::Ask)));
    let mut failing = rollout.clone();
    failing.handle(says(&canary, BAD, 2), Timestamp(3_000)).unwrap();
    assert_eq!(restored(&drain(&mut failing)), [canary]);
    rollout.handle(Input::Tick, Timestamp(9_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)).len(), 2);
}

#[test]
fn only_what_the_network_lost_is_tried_again_and_counts_as_one_failure() {
    let network = DeploymentEvent::Failed(FailReason::Network { detail: "timeout".into() });
    let retries = Retries { max: 2, after_secs: 10 };
    let mut rollout = started(Strategy { retries, ..Strategy::default() }, &fleet(1));
    let device = id("d0");
    drain(&mut rollout);
    for (try_, waits) in [(1, 10_000), (2, 20_000)] {
        let now = 100_000 * try_;
        rollout.handle(says(&device, network.clone(), now), Timestamp(now)).unwrap();
        rollout.handle(says(&device, network.clone(), now), Timestamp(now)).unwrap();
        assert_eq!((rollout.counts().failed, rollout.counts().in_progress), (0, 1));
        let why = rollout.status().devices[0].reason.clone().unwrap();
        assert!(why.starts_with(&format!("try {} follows: ", try_ + 1)), "{why}");
        let effects = ticks_until(&mut rollout, now + waits);
        assert_eq!(effects, [(now + waits, device.clone())]);
    }
    rollout.handle(says(&device, network, 300_000), Timestamp(300_000)).unwrap();
    assert_eq!(rollout.counts().failed, 1);
    assert!(rollout.status().reason.unwrap().contains("1 of 1 devices of wave 1 failed"));
}

#[test]
fn a_device_that_comes_to_match_later_is_asked_by_a_continuous_rollout() {
    let strategy = Strategy { continuous: true, ..Strategy::default() };
    let mut rollout = started(strategy, &fleet(1));
    rollout.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    assert!(matches!(rollout.state(), State::Watching { .. }));
    drain(&mut rollout);
    let newcomer = crate::fixtures::device("n1", "berlin");
    let planned = plan_late(rollout.spec(), &needs(), &newcomer, &[]).unwrap().unwrap();
    let join = Input::Join { planned };
    rollout.handle(join.clone(), Timestamp(3_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), [id("n1")]);
    assert_eq!(rollout.status().waves[1].kind, WaveKind::Late);
    let again = rollout.handle(join, Timestamp(4_000)).unwrap_err();
    assert_eq!(again.to_string(), "rollout r1 does not take device n1 in");
    // It goes back by itself: that stops the rollout, and nobody else is brought back.
    rollout.handle(says(&id("n1"), BAD, 1), Timestamp(5_000)).unwrap();
    assert_eq!(restored(&drain(&mut rollout)), [id("n1")]);
    assert!(matches!(rollout.state(), State::Halted { .. }));
    assert_eq!(rollout.counts().committed, 1);
}

#[test]
fn a_rollout_that_is_not_continuous_takes_nobody_in() {
    let mut rollout = started(Strategy::default(), &fleet(1));
    let newcomer = crate::fixtures::device("n1", "berlin");
    let planned = plan_late(rollout.spec(), &needs(), &newcomer, &[]).unwrap().unwrap();
    assert!(rollout.handle(Input::Join { planned }, Timestamp(3_000)).is_err());
}

#[test]
fn a_staged_rollback_that_outlasts_the_patience_with_an_offline_device_does_not_spin() {
    let ramp = Ramp::steady(2);
    let mut rollout =
        started(Strategy { ramp: Some(Ramp::steady(60_000)), ..Strategy::default() }, &fleet(30));
    rollout.spec.strategy.ramp = Some(ramp);
    rollout.handle(Input::Rollback { by: "ada".into() }, Timestamp(100_000)).unwrap();
    let (mut back, mut turns, mut last) = (restored(&drain(&mut rollout)), 0, Timestamp(100_000));
    let offline = back[0].clone();
    while let Some((at, _)) = rollout.poll_timeout() {
        assert!(at > last, "a moment that has passed wakes nobody");
        (last, turns) = (at, turns + 1);
        rollout.handle(Input::Tick, at).unwrap();
        back.extend(restored(&drain(&mut rollout)));
        for device in back.iter().filter(|device| **device != offline) {
            rollout.handle(Input::Confirmed { device: device.clone() }, at).unwrap();
        }
        drain(&mut rollout);
    }
    assert!(matches!(rollout.state(), State::RolledBack { .. }) && back.len() == 30);
    assert!(turns < 100, "{turns}");
}

#[test]
fn a_rollout_is_not_complete_while_somebody_is_still_to_be_asked() {
    let network = DeploymentEvent::Failed(FailReason::Network { detail: "timeout".into() });
    let mut rollout = started(two_waves(0), &fleet(3));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    rollout.handle(says(&canary, network, 1), Timestamp(2_000)).unwrap();
    rollout.handle(Input::Promote { wave: 0, by: "eve".into() }, Timestamp(2_500)).unwrap();
    for device in assigned(&drain(&mut rollout)) {
        rollout.handle(says(&device, COMMITTED, 1), Timestamp(3_000)).unwrap();
    }
    assert!(matches!(rollout.state(), State::Running { wave: 1 }), "the canary is asked again");
    assert_eq!(ticks_until(&mut rollout, 2_000 + 300_000), [(302_000, canary.clone())]);
    rollout.handle(says(&canary, COMMITTED, 2), Timestamp(303_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
}

#[test]
fn a_device_that_another_rollout_took_over_before_it_was_asked_again_is_left_alone() {
    let full = DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
    let max_failed = MaxFailed { absolute: 3, percent: 5 };
    let mut rollout = started(Strategy { max_failed, ..Strategy::default() }, &fleet(2));
    drain(&mut rollout);
    rollout.handle(says(&id("d0"), full, 1), Timestamp(2_000)).unwrap();
    rollout.handle(Input::Freezes { freezes: vec![freeze(None)] }, Timestamp(2_500)).unwrap();
    rollout.handle(Input::Retry { by: "ada".into() }, Timestamp(3_000)).unwrap();
    let by = RolloutId::new("r2").unwrap();
    rollout.handle(Input::Superseded { devices: vec![id("d0")], by }, Timestamp(4_000)).unwrap();
    assert_eq!(ticks_until(&mut rollout, 60_000), []);
    assert_eq!(rollout.counts().superseded, 1);
}

#[test]
fn a_device_that_a_person_took_out_is_neither_asked_nor_asked_again() {
    let mut rollout = started(two_waves(0), &fleet(3));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    let waiting = rollout.status().devices[1].device.clone();
    rollout.handle(Input::Withdrawn { device: waiting.clone() }, Timestamp(1_500)).unwrap();
    rollout.handle(says(&canary, COMMITTED, 1), Timestamp(2_000)).unwrap();
    let asked = assigned(&drain(&mut rollout));
    assert!(asked.len() == 1 && asked[0] != waiting, "{asked:?}");
    rollout.handle(says(&asked[0], COMMITTED, 1), Timestamp(3_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
    assert!(rollout.handle(Input::Retry { by: "ada".into() }, Timestamp(4_000)).is_err());
}

#[test]
fn a_window_is_one_of_the_local_time_that_a_device_tells_when_it_connects() {
    let windows = serde_json::from_str(r#"["Daily 02:00-04:00"]"#).unwrap();
    let mut fleet = fleet(1);
    (fleet[0].connected, fleet[0].inventory.utc_offset_secs) = (false, None);
    let mut rollout = started(Strategy { windows: Some(windows), ..Strategy::default() }, &fleet);
    let at_two = Timestamp(2 * 60 * MINUTE);
    assert_eq!(rollout.poll_timeout(), Some((at_two, Wakeup::Ask)));
    let hello = Input::DeviceConnected { device: id("d0"), utc_offset_secs: Some(3_600) };
    rollout.handle(hello, Timestamp(2_000)).unwrap();
    assert_eq!(rollout.poll_timeout(), Some((Timestamp(60 * MINUTE), Wakeup::Ask)), "an hour ahead of UTC");
}

#[test]
fn a_person_who_stops_a_rollout_at_the_moment_a_window_opens_is_heard_first() {
    let windows = serde_json::from_str(r#"["Daily 02:00-04:00"]"#).unwrap();
    let mut rollout = started(Strategy { windows: Some(windows), ..Strategy::default() }, &fleet(1));
    let (due, _) = rollout.poll_timeout().unwrap();
    rollout.learn_freezes(vec![]);
    rollout.handle(Input::Pause { by: "ada".into() }, due).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
}

#[test]
fn a_device_that_a_person_wants_left_alone_is_not_asked_again_by_itself() {
    let mut rollout = started(Strategy::default(), &fleet(1));
    drain(&mut rollout);
    rollout.handle(Input::Withdrawn { device: id("d0") }, Timestamp(2_000)).unwrap();
    let network = DeploymentEvent::Failed(FailReason::Network { detail: "timeout".into() });
    rollout.handle(says(&id("d0"), network, 1), Timestamp(3_000)).unwrap();
    assert_eq!(rollout.counts().failed, 1);
}

#[test]
fn a_rollout_does_not_end_in_the_moment_in_which_it_asks_somebody() {
    let mut fleet = fleet(2);
    fleet[1].connected = false;
    let mut plan = crate::fixtures::planned(Strategy::default(), &fleet);
    plan.freezes = vec![freeze(Some([id("d1")].into()))];
    let spec = spec("all", Strategy::default());
    let mut rollout = Rollout::start(spec, plan, Timestamp(1_000));
    drain(&mut rollout);
    rollout.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    assert_eq!(ticks_until(&mut rollout, 9_000), [(9_000, id("d1"))]);
    assert!(matches!(rollout.state(), State::Running { .. }));
    ticks_until(&mut rollout, 9_250);
    assert!(matches!(rollout.state(), State::Completed { .. }));
}
