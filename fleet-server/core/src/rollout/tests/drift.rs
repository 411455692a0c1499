//! What a drift alarm does to a rollout of the release.

use muster_sketch::detector::{Direction, ScoreName, Sign};

use super::*;
use crate::strategy::Ramp;

/// An alarm of ten devices, beside which `others` with another release were counted.
pub(super) fn alarm(number: u64, scope: Scope, others: usize) -> Input {
    let direction = Direction { score: ScoreName::Location, sign: Sign::Down };
    let alarm = DriftAlarm {
        number,
        feature: "brightness".into(),
        scope,
        direction,
        shift: 0.31,
        evidence: 2.5e7,
        threshold: 2e6,
        devices: 10,
        others,
        uncounted: false,
        at: Timestamp(3_000),
    };
    Input::Drifted { alarm }
}

fn asking(on_alarm: OnAlarm, strategy: Strategy) -> Strategy {
    Strategy { drift: DriftGate { on_alarm }, ..strategy }
}

/// A rollout whose canary keeps the release and is watched for an hour.
fn baking(on_alarm: OnAlarm) -> (Rollout, Vec<DeviceId>) {
    let mut rollout = started(asking(on_alarm, two_waves(3_600)), &fleet(4));
    let canary = assigned(&drain(&mut rollout));
    rollout.handle(says(&canary[0], COMMITTED, 1), Timestamp(2_000)).unwrap();
    drain(&mut rollout);
    (rollout, canary)
}

fn refused(rollout: &mut Rollout, input: Input, now: u64) -> String {
    let before = rollout.clone();
    let why = rollout.handle(input, Timestamp(now)).unwrap_err().to_string();
    assert_eq!(*rollout, before);
    why
}

#[test]
fn drift_of_the_devices_with_the_release_brings_them_back_with_the_evidence() {
    let (mut rollout, canary) = baking(OnAlarm::default());
    rollout.handle(alarm(7, Scope::Model, 6), Timestamp(3_000)).unwrap();
    let effects = drain(&mut rollout);
    assert_eq!(restored(&effects), canary);
    assert_eq!(
        rollout.status().reason.unwrap(),
        "wave 1: brightness drifts on devices with this release and not the others: smaller by 0.31 standard deviations of its score \
         (10 devices counted, and 6 with another release; evidence 2.5e7, alarm at 2.0e6)"
    );
    let told = effects.iter().filter(|effect| {
        matches!(effect, Effect::Announce(Event::WaveDrifted { wave: 0, alarm }) if alarm.number == 7)
    });
    assert_eq!(told.count(), 1);
    assert_eq!(rollout.status().waves[0].drift.as_ref().map(|alarm| alarm.number), Some(7));
}

#[test]
fn a_strategy_that_halts_leaves_devices_as_they_are_when_their_release_drifts() {
    let strategy = Strategy { on_halt: StopAction::Halt, ..two_waves(3_600) };
    let mut rollout = started(strategy, &fleet(4));
    let canary = assigned(&drain(&mut rollout));
    rollout.handle(says(&canary[0], COMMITTED, 1), Timestamp(2_000)).unwrap();
    rollout.handle(alarm(1, Scope::Model, 3), Timestamp(3_000)).unwrap();
    assert!(matches!(rollout.state(), State::Halted { verdict: Verdict::Drifted { wave: 0, .. } }));
    assert_eq!(restored(&drain(&mut rollout)), []);
}

#[test]
fn drift_of_the_world_counts_only_if_too_few_others_are_there_to_compare_with() {
    let (mut rollout, _) = baking(OnAlarm::Rollback);
    rollout.handle(alarm(1, Scope::World, 5), Timestamp(3_000)).unwrap();
    assert_eq!(drain(&mut rollout), []);
    assert_eq!(rollout.status().waves[0].drift, None);
    rollout.handle(alarm(2, Scope::World, 4), Timestamp(3_000)).unwrap();
    assert!(matches!(rollout.state(), State::RollingBack { .. }));
}

#[test]
fn a_broken_sensor_or_a_site_that_changed_is_not_the_release() {
    let (mut rollout, _) = baking(OnAlarm::Rollback);
    let sensor = Scope::Sensor { device: "d0".into() };
    assert!(refused(&mut rollout, alarm(1, sensor, 0), 3_000).ends_with("it is of one device's sensor"));
    let site = Scope::Stratum { key: "site".into(), value: "berlin".into() };
    assert!(refused(&mut rollout, alarm(2, site, 0), 3_000).contains("what its group of devices shares"));
}

#[test]
fn an_alarm_counts_once_however_often_it_is_told() {
    let (mut rollout, _) = baking(OnAlarm::Ignore);
    rollout.handle(alarm(5, Scope::Model, 3), Timestamp(3_000)).unwrap();
    drain(&mut rollout);
    let again = refused(&mut rollout, alarm(5, Scope::Model, 3), 4_000);
    assert!(again.ends_with("it was told before"), "{again}");
    rollout.handle(alarm(6, Scope::Model, 3), Timestamp(4_000)).unwrap();
    assert_eq!(drain(&mut rollout).len(), 1);
}

#[test]
fn a_drift_that_others_explained_is_never_held_against_the_release_when_they_have_gone() {
    let (mut rollout, _) = baking(OnAlarm::Rollback);
    rollout.handle(alarm(5, Scope::World, 200), Timestamp(3_000)).unwrap();
    let why = refused(&mut rollout, alarm(5, Scope::World, 0), 4_000);
    assert_eq!(why, "drift alarm 5 is not held against rollout r1: other releases explained it before");
    assert!(matches!(rollout.state(), State::Running { .. }));
    rollout.handle(alarm(6, Scope::World, 0), Timestamp(5_000)).unwrap();
    assert!(matches!(rollout.state(), State::RollingBack { .. }), "another one is another matter");
}

#[test]
fn a_drift_beside_a_release_that_could_not_be_counted_says_nothing_until_it_can() {
    let (mut rollout, _) = baking(OnAlarm::Rollback);
    let Input::Drifted { alarm: sure } = alarm(5, Scope::World, 0) else { panic!("an alarm") };
    let unsure = Input::Drifted { alarm: DriftAlarm { uncounted: true, ..sure.clone() } };
    let why = refused(&mut rollout, unsure, 3_000);
    assert!(why.ends_with("devices with another release could not be counted"), "{why}");
    rollout.handle(Input::Drifted { alarm: sure }, Timestamp(4_000)).unwrap();
    assert!(matches!(rollout.state(), State::RollingBack { .. }));
}

#[test]
fn a_retry_forgets_what_counted_and_not_what_others_explained() {
    let max_failed = MaxFailed { absolute: 3, percent: 5 };
    let strategy = asking(OnAlarm::Rollback, Strategy { max_failed, ..two_waves(3_600) });
    let mut rollout = started(strategy, &fleet(4));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    let full = DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
    rollout.handle(says(&canary, full, 1), Timestamp(2_000)).unwrap();
    rollout.handle(alarm(5, Scope::World, 200), Timestamp(3_000)).unwrap();
    rollout.handle(Input::Retry { by: "ada".into() }, Timestamp(4_000)).unwrap();
    let why = refused(&mut rollout, alarm(5, Scope::World, 0), 5_000);
    assert!(why.ends_with("explained it before"), "{why}");
}

#[test]
fn a_rollout_that_has_yet_to_ask_somebody_notes_what_others_explain() {
    let mut strategy = asking(OnAlarm::Rollback, two_waves(0));
    strategy.waves[0].approve = true;
    let mut rollout = started(strategy, &fleet(2));
    rollout.handle(alarm(5, Scope::World, 9), Timestamp(2_000)).unwrap();
    rollout.handle(Input::Approve { wave: 0, by: "eve".into() }, Timestamp(3_000)).unwrap();
    refused(&mut rollout, alarm(5, Scope::World, 0), 4_000);
}

#[test]
fn a_drift_that_is_still_there_counts_again_when_devices_are_asked_again() {
    let max_failed = MaxFailed { absolute: 3, percent: 5 };
    let strategy = asking(OnAlarm::Ignore, Strategy { max_failed, ..two_waves(3_600) });
    let mut rollout = started(strategy, &fleet(4));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    let full = DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
    rollout.handle(says(&canary, full, 1), Timestamp(2_000)).unwrap();
    rollout.handle(alarm(5, Scope::Model, 3), Timestamp(3_000)).unwrap();
    drain(&mut rollout);
    refused(&mut rollout, alarm(5, Scope::Model, 3), 3_500);
    rollout.handle(Input::Retry { by: "ada".into() }, Timestamp(4_000)).unwrap();
    rollout.handle(alarm(5, Scope::Model, 3), Timestamp(5_000)).unwrap();
}

#[test]
fn a_strategy_that_ignores_drift_tells_of_it_and_goes_on() {
    let (mut rollout, _) = baking(OnAlarm::Ignore);
    rollout.handle(alarm(1, Scope::Model, 3), Timestamp(3_000)).unwrap();
    assert!(matches!(drain(&mut rollout)[..], [Effect::Announce(Event::WaveDrifted { .. })]));
    rollout.handle(Input::Tick, Timestamp(3_602_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)).len(), 3);
}

#[test]
fn a_strategy_that_holds_asks_nobody_new_until_a_person_lets_the_wave_pass() {
    let strategy = Strategy { ramp: Some(Ramp::steady(60)), ..Strategy::default() };
    let mut rollout = started(asking(OnAlarm::Hold, strategy), &fleet(3));
    let first = assigned(&drain(&mut rollout));
    assert_eq!(first.len(), 1);
    rollout.handle(alarm(1, Scope::Model, 2), Timestamp(3_000)).unwrap();
    assert_eq!(rollout.poll_timeout().map(|(_, why)| why), Some(Wakeup::Silence), "nobody is asked by time");
    rollout.handle(Input::Tick, Timestamp(300_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    let reason = rollout.status().reason.unwrap();
    assert!(reason.starts_with("held: brightness drifts on devices with this release"), "{reason}");
    // What its devices report still counts.
    rollout.handle(says(&first[0], COMMITTED, 1), Timestamp(310_000)).unwrap();
    assert_eq!(rollout.counts().committed, 1);
    rollout.handle(Input::Promote { wave: 0, by: "eve".into() }, Timestamp(320_000)).unwrap();
    assert!(!assigned(&drain(&mut rollout)).is_empty());
    rollout.handle(Input::Tick, Timestamp(400_000)).unwrap();
    assert_eq!(rollout.counts().waiting, 0);
}

#[test]
fn drift_while_a_wave_waits_for_approval_is_of_the_wave_before_and_the_approver_reads_it() {
    let waiting = |on_alarm| {
        let mut strategy = asking(on_alarm, two_waves(0));
        strategy.waves[1].approve = true;
        let mut rollout = started(strategy, &fleet(3));
        let canary = assigned(&drain(&mut rollout));
        rollout.handle(says(&canary[0], COMMITTED, 1), Timestamp(2_000)).unwrap();
        assert!(matches!(rollout.state(), State::AwaitingApproval { wave: 1, .. }));
        rollout.handle(alarm(1, Scope::Model, 2), Timestamp(3_000)).unwrap();
        rollout
    };
    let stopped = waiting(OnAlarm::Rollback);
    assert!(stopped.status().reason.unwrap().starts_with("wave 1: brightness drifts"));
    let mut held = waiting(OnAlarm::Hold);
    let reason = held.status().reason.unwrap();
    assert!(reason.contains("waits for the approval") && reason.contains("; brightness drifts"), "{reason}");
    drain(&mut held);
    held.handle(Input::Approve { wave: 1, by: "eve".into() }, Timestamp(4_000)).unwrap();
    assert_eq!(assigned(&drain(&mut held)).len(), 2, "whoever approves has decided");
}

#[test]
fn a_rollout_that_asked_nobody_stopped_or_is_through_takes_no_alarm() {
    let mut strategy = two_waves(0);
    strategy.waves[0].approve = true;
    let mut waiting = started(strategy, &fleet(2));
    assert!(refused(&mut waiting, alarm(1, Scope::Model, 1), 3_000).contains("none of its waves"));

    let (mut stopped, _) = baking(OnAlarm::Rollback);
    stopped.handle(Input::Halt { by: "ada".into(), reason: "smoke".into() }, Timestamp(2_500)).unwrap();
    refused(&mut stopped, alarm(1, Scope::Model, 1), 3_000);

    let mut through = started(Strategy { continuous: true, ..Strategy::default() }, &fleet(1));
    through.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    assert!(matches!(through.state(), State::Watching { .. }));
    refused(&mut through, alarm(1, Scope::World, 0), 3_000);
}

#[test]
fn a_paused_rollout_is_stopped_by_drift_as_a_running_one() {
    let (mut rollout, _) = baking(OnAlarm::Rollback);
    rollout.handle(Input::Pause { by: "ada".into() }, Timestamp(2_500)).unwrap();
    rollout.handle(alarm(1, Scope::Model, 3), Timestamp(3_000)).unwrap();
    assert!(matches!(rollout.state(), State::RollingBack { .. }));
}

#[test]
fn figures_that_are_no_numbers_can_still_be_stored_and_long_names_are_cut() {
    let (mut rollout, _) = baking(OnAlarm::Ignore);
    let Input::Drifted { alarm } = alarm(1, Scope::Model, 0) else { panic!() };
    let broken = DriftAlarm { feature: "ü".repeat(100), shift: f64::NAN, evidence: f64::INFINITY, ..alarm };
    rollout.handle(Input::Drifted { alarm: broken }, Timestamp(3_000)).unwrap();
    let kept = rollout.status().waves[0].drift.clone().unwrap();
    assert_eq!((kept.feature, kept.shift, kept.evidence), ("ü".repeat(64), 0.0, 0.0));
    let read: Rollout = serde_json::from_str(&serde_json::to_string(&rollout).unwrap()).unwrap();
    assert_eq!(read, rollout);
}
