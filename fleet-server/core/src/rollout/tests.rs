use muster_sketch::detector::Scope;
use proptest::{prelude::*, strategy::Strategy as Generate};
use shared::report::{DeploymentEvent, FailReason, RejectReason, RollbackReason, TrialFigures};

use super::*;
use crate::{
    fixtures::{fleet, id, needs, release, spec, started},
    plan,
    plan::ReleaseNeeds,
    strategy::{DriftGate, MaxFailed, OnAlarm, StopAction, Strategy, WaveShare, WaveSpec},
};

mod asking;
mod drift;
mod gate;
mod orders;
mod rivals;

const COMMITTED: DeploymentEvent = DeploymentEvent::Committed { inferences: 50, failures: 0 };
const BAD: DeploymentEvent = DeploymentEvent::RolledBack(RollbackReason::CrashLoop { starts: 3 });

fn two_waves(bake_time_secs: u64) -> Strategy {
    let wave = |share| WaveSpec { bake_time_secs, ..WaveSpec::of(share) };
    Strategy { waves: vec![wave(WaveShare::Count(1)), wave(WaveShare::All)], ..Strategy::default() }
}

fn says(device: &DeviceId, event: DeploymentEvent, at: u64) -> Input {
    Input::Report { device: device.clone(), at: Timestamp(at), release: release("digits@2"), event }
}

fn drain(rollout: &mut Rollout) -> Vec<Effect> {
    std::iter::from_fn(|| rollout.poll_effect()).collect()
}

fn assigned(effects: &[Effect]) -> Vec<DeviceId> {
    let of = |effect: &Effect| match effect {
        Effect::Assign { device, .. } => Some(device.clone()),
        Effect::Restore { .. } | Effect::Compare { .. } | Effect::Announce(_) => None,
    };
    effects.iter().filter_map(of).collect()
}

fn restored(effects: &[Effect]) -> Vec<DeviceId> {
    let of = |effect: &Effect| match effect {
        Effect::Restore { device, .. } => Some(device.clone()),
        Effect::Assign { .. } | Effect::Compare { .. } | Effect::Announce(_) => None,
    };
    effects.iter().filter_map(of).collect()
}

#[test]
fn a_wave_is_asked_only_after_the_one_before_was_watched() {
    let mut rollout = started(two_waves(60), &fleet(3));
    let canary = assigned(&drain(&mut rollout));
    assert_eq!(canary.len(), 1);
    rollout.handle(says(&canary[0], COMMITTED, 1), Timestamp(2_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    assert_eq!(rollout.poll_timeout(), Some((Timestamp(62_000), Wakeup::BakeOver)));
    rollout.handle(Input::Tick, Timestamp(61_999)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    rollout.handle(Input::Tick, Timestamp(62_000)).unwrap();
    let rest = assigned(&drain(&mut rollout));
    assert_eq!(rest.len(), 2);
    for device in &rest {
        rollout.handle(says(device, COMMITTED, 1), Timestamp(63_000)).unwrap();
    }
    rollout.handle(Input::Tick, Timestamp(123_000)).unwrap();
    assert_eq!(rollout.state(), &State::Completed { at: Timestamp(123_000) });
    assert_eq!(rollout.counts().committed, 3);
}

#[test]
fn the_first_device_that_goes_back_halts_a_small_rollout_and_brings_all_back_newest_first() {
    let mut rollout = started(Strategy::default(), &fleet(3));
    let asked = assigned(&drain(&mut rollout));
    rollout.handle(says(&asked[0], COMMITTED, 1), Timestamp(2_000)).unwrap();
    rollout.handle(says(&asked[1], BAD, 1), Timestamp(3_000)).unwrap();
    let effects = drain(&mut rollout);
    assert_eq!(restored(&effects), [asked[1].clone(), asked[2].clone(), asked[0].clone()]);
    let reason = rollout.status().reason.unwrap();
    let expected = format!(
        "1 of 3 devices of wave 1 failed, 0 allowed; first {}: started 3 times without passing probation",
        asked[1]
    );
    assert_eq!(reason, expected);

    rollout.handle(says(&asked[2], DeploymentEvent::Superseded, 2), Timestamp(4_000)).unwrap();
    assert!(matches!(rollout.state(), State::RollingBack { .. }));
    let back = Input::Report {
        device: asked[0].clone(),
        at: Timestamp(3),
        release: release("digits@1"),
        event: COMMITTED,
    };
    rollout.handle(back, Timestamp(5_000)).unwrap();
    assert!(matches!(rollout.state(), State::RolledBack { .. }));
    let counts = rollout.counts();
    assert_eq!((counts.restored, counts.restore_confirmed, counts.rolled_back), (3, 3, 1));
}

#[test]
fn a_device_without_room_ends_the_rollout_instead_of_being_waited_for() {
    let mut rollout = started(Strategy::default(), &fleet(1));
    let asked = assigned(&drain(&mut rollout));
    let full = DeploymentEvent::Failed(FailReason::DiskFull { needed_bytes: 10, free_bytes: 5 });
    rollout.handle(says(&asked[0], full, 1), Timestamp(2_000)).unwrap();
    assert!(rollout.status().reason.unwrap().contains("disk full: 10 bytes needed, 5 free"));
    assert!(matches!(rollout.state(), State::RollingBack { .. } | State::RolledBack { .. }));
}

#[test]
fn a_strategy_that_halts_is_over_and_leaves_healthy_devices_alone() {
    let strategy = Strategy { on_halt: StopAction::Halt, ..Strategy::default() };
    let mut rollout = started(strategy, &fleet(2));
    let asked = assigned(&drain(&mut rollout));
    rollout.handle(says(&asked[0], COMMITTED, 1), Timestamp(2_000)).unwrap();
    rollout.handle(says(&asked[1], BAD, 1), Timestamp(2_000)).unwrap();
    assert_eq!(restored(&drain(&mut rollout)), [asked[1].clone()]);
    assert!(matches!(rollout.state(), State::Halted { .. }));
    let refusal = rollout.handle(Input::Resume { by: "ada".into() }, Timestamp(3_000)).unwrap_err();
    assert_eq!(refusal.to_string(), "cannot resume rollout r1: it is halted");
    rollout.handle(Input::Rollback { by: "ada".into() }, Timestamp(4_000)).unwrap();
    assert_eq!(restored(&drain(&mut rollout)), [asked[0].clone()]);
}

#[test]
fn offline_devices_hold_nothing_up_and_a_late_one_still_counts() {
    let mut fleet = fleet(2);
    fleet[1].connected = false;
    let mut rollout = started(Strategy::default(), &fleet);
    rollout.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    assert!(matches!(rollout.state(), State::Completed { .. }));
    assert_eq!((rollout.counts().committed, rollout.counts().not_seen), (1, 1));
    rollout.handle(says(&id("d1"), COMMITTED, 1), Timestamp(9_000)).unwrap();
    assert_eq!((rollout.counts().committed, rollout.counts().not_seen), (2, 0));
}

#[test]
fn without_a_single_commit_nothing_completes() {
    let mut fleet = fleet(1);
    fleet[0].connected = false;
    let mut rollout = started(Strategy::default(), &fleet);
    rollout.handle(Input::Tick, Timestamp(u64::MAX)).unwrap();
    assert_eq!(rollout.state(), &State::Running { wave: 0 });
}

#[test]
fn a_silent_device_is_counted_and_waited_for_again_when_it_returns() {
    let mut rollout = started(Strategy::default(), &fleet(2));
    rollout.handle(says(&id("d0"), DeploymentEvent::Probation, 1), Timestamp(2_000)).unwrap();
    let (due, why) = rollout.poll_timeout().unwrap();
    assert_eq!(why, Wakeup::Silence);
    rollout.handle(Input::Tick, due).unwrap();
    assert_eq!(rollout.counts().silent, 1);
    rollout.handle(Input::DeviceConnected { device: id("d1"), utc_offset_secs: None }, due).unwrap();
    assert_eq!((rollout.counts().silent, rollout.counts().in_progress), (0, 2));
}

#[test]
fn a_paused_rollout_asks_nobody_until_it_resumes() {
    let mut rollout = started(two_waves(0), &fleet(2));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    rollout.handle(Input::Pause { by: "ada".into() }, Timestamp(2_000)).unwrap();
    rollout.handle(says(&canary, COMMITTED, 1), Timestamp(3_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    rollout.handle(Input::Resume { by: "ada".into() }, Timestamp(4_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)).len(), 1);
}

#[test]
fn a_device_taken_over_by_a_newer_rollout_is_not_restored() {
    let mut rollout = started(Strategy::default(), &fleet(2));
    let by = RolloutId::new("r2").unwrap();
    rollout.handle(Input::Superseded { devices: vec![id("d0")], by }, Timestamp(2_000)).unwrap();
    drain(&mut rollout);
    rollout.handle(Input::Rollback { by: "ada".into() }, Timestamp(3_000)).unwrap();
    assert_eq!(restored(&drain(&mut rollout)), [id("d1")]);
    assert!(rollout.summary().devices.is_empty());
}

#[test]
fn a_report_that_is_none_of_its_business_is_refused_in_words() {
    let mut rollout = started(two_waves(0), &fleet(2));
    let before = rollout.clone();
    let stranger = rollout.handle(says(&id("x"), COMMITTED, 1), Timestamp(2_000)).unwrap_err();
    assert_eq!(stranger.to_string(), "device x is not in rollout r1");
    let waiting = rollout.status().devices[1].device.clone();
    let early = rollout.handle(says(&waiting, COMMITTED, 1), Timestamp(2_000)).unwrap_err();
    assert_eq!(early, Refusal::NotAsked { device: waiting, release: release("digits@2") });
    assert_eq!(rollout, before);
}

#[test]
fn a_first_rollout_is_rolled_back_as_soon_as_its_devices_say_that_they_run_nothing() {
    let mut fleet = fleet(2);
    for device in &mut fleet {
        (device.desired, device.committed) = (vec![], vec![]);
    }
    let mut rollout = started(Strategy::default(), &fleet);
    rollout.handle(says(&id("d0"), COMMITTED, 1), Timestamp(2_000)).unwrap();
    rollout.handle(says(&id("d1"), BAD, 1), Timestamp(3_000)).unwrap();
    let nothing = Effect::Restore { device: id("d0"), previous: None };
    assert!(drain(&mut rollout).contains(&nothing));
    assert!(matches!(rollout.state(), State::RollingBack { .. }));
    rollout.handle(Input::Confirmed { device: id("d0") }, Timestamp(4_000)).unwrap();
    assert!(matches!(rollout.state(), State::RolledBack { at: Timestamp(4_000), .. }));
    assert_eq!(rollout.counts().restore_confirmed, 2);
}

#[test]
fn a_device_from_which_nothing_was_taken_confirms_nothing() {
    let mut rollout = started(Strategy::default(), &fleet(1));
    rollout.handle(Input::Confirmed { device: id("d0") }, Timestamp(2_000)).unwrap();
    assert_eq!((rollout.counts().restored, rollout.counts().in_progress), (0, 1));
}

fn any_event() -> impl Generate<Value = DeploymentEvent> {
    let network = FailReason::Network { detail: "timeout".into() };
    let refused = RejectReason::LoadFailed { detail: "Gelu".into() };
    prop_oneof![
        1 => Just(DeploymentEvent::Transferring { size_bytes: 9, resumed_bytes: 0 }),
        1 => Just(DeploymentEvent::Staged { fetched_bytes: 9 }),
        1 => Just(DeploymentEvent::SelfTested(TrialFigures::default())),
        1 => Just(DeploymentEvent::Probation),
        4 => Just(COMMITTED),
        1 => Just(DeploymentEvent::Rejected(refused)),
        1 => Just(DeploymentEvent::Failed(network)),
        1 => Just(BAD),
        1 => Just(DeploymentEvent::RolledBack(RollbackReason::Ordered)),
        1 => Just(DeploymentEvent::Superseded),
    ]
}

fn any_input() -> impl Generate<Value = Input> {
    let device = || (0usize..8).prop_map(|n| id(&format!("d{n}")));
    let ada = || String::from("ada");
    let (r2, r3) = (RolloutId::new("r2").unwrap(), RolloutId::new("r3").unwrap());
    let let_go = move || device().prop_map(|device| vec![LetGo { device, wanted_by: None }]);
    prop_oneof![
        12 => (device(), any_event(), 0u64..50).prop_map(|(device, event, at)| says(&device, event, at)),
        3 => device().prop_map(|device| Input::DeviceConnected { device, utc_offset_secs: None }),
        2 => device().prop_map(|device| Input::Confirmed { device }),
        3 => Just(Input::Tick),
        1 => Just(Input::Pause { by: ada() }),
        1 => Just(Input::Resume { by: ada() }),
        1 => Just(Input::Halt { by: ada(), reason: "smoke".into() }),
        1 => Just(Input::Rollback { by: ada() }),
        1 => device().prop_map(move |device| Input::Superseded { devices: vec![device], by: r2.clone() }),
        1 => device().prop_map(move |device| Input::Claimed { devices: vec![device], by: r3.clone() }),
        1 => let_go().prop_map(|devices| Input::LetGo { devices }),
        1 => let_go().prop_map(|devices| Input::GivenBack { devices }),
        1 => (0u64..6).prop_map(|number| drift::alarm(number, Scope::Model, 3)),
    ]
}

fn any_story() -> impl Generate<Value = Vec<(Input, u64)>> {
    prop::collection::vec((any_input(), 0u64..900), 0..60)
}

/// Eight devices in two waves, one of them offline; three failures are borne, and drift holds.
fn busy() -> Rollout {
    let mut fleet = fleet(8);
    fleet[5].connected = false;
    let max_failed = MaxFailed { absolute: 3, percent: 5 };
    let drift = DriftGate { on_alarm: OnAlarm::Hold };
    let mut strategy = Strategy { max_failed, silent_after_secs: 5, drift, ..two_waves(1) };
    strategy.waves[0].share = WaveShare::Count(4);
    // A device may fall silent here within a story of seconds, so its release has no probation.
    let (spec, quick) = (spec("all", strategy), ReleaseNeeds { probation_secs: 0, ..needs() });
    let plan = plan(&spec, &quick, &fleet, &[], Timestamp(1_000)).unwrap();
    Rollout::start(spec, plan, Timestamp(1_000))
}

proptest! {
    #[test]
    fn no_order_or_repetition_of_reports_counts_a_device_twice(story in any_story()) {
        let (mut rollout, mut now) = (busy(), 1_000);
        for (input, wait) in story {
            now += wait;
            let _ = rollout.handle(input.clone(), Timestamp(now));
            drain(&mut rollout);
            let once = rollout.clone();
            let is_order = matches!(input, Input::Pause { .. } | Input::Resume { .. });
            let again = rollout.handle(input, Timestamp(now));
            prop_assert!(again.is_ok() || rollout == once);
            prop_assert!(is_order || drain(&mut rollout).is_empty());
            let c = rollout.counts();
            let sum = c.waiting + c.in_progress + c.committed + c.rejected + c.failed + c.rolled_back
                + c.silent + c.superseded + c.not_seen;
            prop_assert_eq!((c.devices, sum), (8, 8));
        }
    }

    #[test]
    fn a_stopped_rollout_never_assigns_again_and_restores_nobody_twice(story in any_story()) {
        let (mut rollout, mut now, mut back) = (busy(), 1_000, Vec::new());
        for (input, wait) in story {
            now += wait;
            drain(&mut rollout);
            let stopped = !matches!(rollout.state(), State::Running { .. } | State::Paused { .. });
            let _ = rollout.handle(input, Timestamp(now));
            let effects = drain(&mut rollout.clone());
            prop_assert!(!stopped || assigned(&effects).is_empty());
            back.extend(restored(&effects));
        }
        let total = back.len();
        back.sort();
        back.dedup();
        prop_assert_eq!(back.len(), total);
    }

    #[test]
    fn a_rollout_read_back_from_its_json_continues_the_same(story in any_story(), cut in 0usize..60) {
        let (mut rollout, mut now) = (busy(), 1_000);
        let mut copy = rollout.clone();
        for (step, (input, wait)) in story.into_iter().enumerate() {
            now += wait;
            if step == cut {
                copy = serde_json::from_str(&serde_json::to_string(&rollout).unwrap()).unwrap();
            }
            let said = rollout.handle(input.clone(), Timestamp(now));
            prop_assert_eq!(copy.handle(input, Timestamp(now)), said);
            prop_assert_eq!(&copy, &rollout);
            prop_assert_eq!(copy.poll_timeout(), rollout.poll_timeout());
        }
    }
}
