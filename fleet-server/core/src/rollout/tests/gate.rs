//! What lets a wave pass, holds it, or stops the rollout.

use super::*;
use crate::{
    strategy::MetricGate,
    verdict::{Degradation, Gap, GapWhy, Metric, MetricVerdict},
};

fn commit(rollout: &mut Rollout, devices: &[DeviceId], now: u64) {
    for device in devices {
        rollout.handle(says(device, COMMITTED, 1), Timestamp(now)).unwrap();
    }
}

fn held(rollout: &Rollout) -> String {
    assert!(matches!(rollout.state(), State::Running { .. }), "{:?}", rollout.state());
    rollout.status().reason.expect("a held wave says why")
}

/// Two waves of two and the rest, each compared.
fn compared(bake_time_secs: u64, gate: MetricGate) -> (Rollout, Vec<DeviceId>) {
    let mut strategy = Strategy { metrics: Some(gate), ..two_waves(bake_time_secs) };
    strategy.waves[0].share = WaveShare::Count(2);
    let mut rollout = started(strategy, &fleet(10));
    let canaries = assigned(&drain(&mut rollout));
    (rollout, canaries)
}

fn judged(verdict: MetricVerdict) -> Input {
    Input::Judged { wave: 0, verdict }
}

fn degraded() -> MetricVerdict {
    MetricVerdict::Degraded(Degradation {
        metric: Metric::Latency,
        look: 7,
        e_worse: 5_000.0,
        threshold: 1_000.0,
        reading: Default::default(),
    })
}

#[test]
fn silence_beyond_its_share_holds_the_wave_until_a_person_lets_it_pass() {
    let mut rollout = started(two_waves(0), &fleet(12));
    let canary = assigned(&drain(&mut rollout)).remove(0);
    let day = 86_400_000 + 1_000;
    rollout.handle(Input::Tick, Timestamp(day)).unwrap();
    assert_eq!(held(&rollout), "held: 1 of 1 devices fell silent, 0 are allowed");
    assert_eq!(rollout.poll_timeout(), None);
    rollout.handle(Input::Promote { wave: 0, by: "eve".into() }, Timestamp(day + 1)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)).len(), 11);
    assert_eq!(rollout.status().waves[0].promoted_by.as_deref(), Some("eve"));
    // It comes back and still counts.
    rollout.handle(says(&canary, COMMITTED, 1), Timestamp(day + 2)).unwrap();
    assert_eq!((rollout.counts().silent, rollout.counts().committed), (0, 1));
}

#[test]
fn a_wave_whose_devices_return_from_silence_goes_on_by_itself() {
    let mut rollout = started(two_waves(0), &fleet(3));
    let canary = assigned(&drain(&mut rollout));
    let day = 86_400_000 + 1_000;
    rollout.handle(Input::Tick, Timestamp(day)).unwrap();
    assert!(held(&rollout).contains("silent"));
    commit(&mut rollout, &canary, day + 5);
    assert_eq!(assigned(&drain(&mut rollout)).len(), 2);
}

#[test]
fn a_wave_of_which_too_few_were_seen_is_held_and_says_so() {
    let mut fleet = fleet(4);
    fleet[1..].iter_mut().for_each(|device| device.connected = false);
    let mut rollout = started(Strategy::default(), &fleet);
    commit(&mut rollout, &[id("d0")], 2_000);
    let (due, why) = rollout.poll_timeout().unwrap();
    assert_eq!((due, why), (Timestamp(86_401_000), Wakeup::Quorum));
    rollout.handle(Input::Tick, due).unwrap();
    assert_eq!(held(&rollout), "held: 1 of 4 devices were seen since they were asked, 2 are needed");
    commit(&mut rollout, &[id("d2")], 86_500_000);
    assert!(matches!(rollout.state(), State::Completed { .. }));
}

#[test]
fn devices_that_went_back_by_order_are_no_success() {
    let mut rollout = started(Strategy::default(), &fleet(2));
    drain(&mut rollout);
    let ordered = DeploymentEvent::RolledBack(RollbackReason::Ordered);
    rollout.handle(says(&id("d0"), ordered, 1), Timestamp(2_000)).unwrap();
    commit(&mut rollout, &[id("d1")], 2_000);
    assert_eq!(held(&rollout), "held: 1 of 2 devices keep it, 2 are needed");
}

#[test]
fn the_canaries_are_compared_with_those_that_nobody_asked() {
    let strategy = Strategy { metrics: Some(MetricGate::default()), control_percent: 20, ..two_waves(0) };
    let mut rollout = started(strategy, &fleet(10));
    let effects = drain(&mut rollout);
    let compare = effects.iter().find_map(|effect| match effect {
        Effect::Compare { wave, cohorts, policy } => Some((*wave, cohorts.clone(), policy.clone())),
        _ => None,
    });
    let (wave, cohorts, policy) = compare.unwrap();
    assert_eq!((wave, cohorts.canaries.len(), cohorts.controls.len()), (0, 1, 9));
    assert!((policy.alpha_rollback - 0.0005).abs() < 1e-12);
    let canary = assigned(&effects);
    commit(&mut rollout, &canary, 2_000);
    rollout.handle(judged(MetricVerdict::Healthy { look: 3 }), Timestamp(3_000)).unwrap();
    // The second step is compared with the cohort that was held back, and that comes last.
    let effects = drain(&mut rollout);
    assert_eq!(assigned(&effects).len(), 7);
    let second = effects.iter().find_map(|effect| match effect {
        Effect::Compare { cohorts, .. } => Some(cohorts.controls.len()),
        _ => None,
    });
    assert_eq!(second, Some(2));
}

#[test]
fn a_healthy_wave_passes_before_its_bake_time_is_over() {
    let (mut rollout, canaries) = compared(3_600, MetricGate::default());
    rollout.handle(judged(MetricVerdict::Healthy { look: 1 }), Timestamp(1_500)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), [], "who has not settled is waited for");
    commit(&mut rollout, &canaries, 2_000);
    assert_eq!(assigned(&drain(&mut rollout)).len(), 8);

    let patient = MetricGate { promote_early: false, ..MetricGate::default() };
    let (mut rollout, canaries) = compared(3_600, patient);
    commit(&mut rollout, &canaries, 2_000);
    rollout.handle(judged(MetricVerdict::Healthy { look: 1 }), Timestamp(3_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)), []);
    rollout.handle(Input::Tick, Timestamp(3_602_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)).len(), 8);
}

#[test]
fn degraded_metrics_bring_the_canaries_back_with_the_evidence() {
    let (mut rollout, canaries) = compared(60, MetricGate::default());
    commit(&mut rollout, &canaries, 2_000);
    drain(&mut rollout);
    rollout.handle(judged(degraded()), Timestamp(3_000)).unwrap();
    let back = restored(&drain(&mut rollout));
    assert_eq!(back.len(), 2);
    let reason = rollout.status().reason.unwrap();
    assert!(reason.starts_with("wave 1 is degraded at look 7: latency"), "{reason}");
    let late = rollout.handle(judged(degraded()), Timestamp(4_000)).unwrap_err();
    assert_eq!(late.to_string(), "wave 0 of rollout r1 takes no verdict on metrics");
}

#[test]
fn too_little_evidence_extends_the_bake_time_up_to_its_cap_and_then_holds() {
    let gate = MetricGate { max_bake_secs: 600, ..MetricGate::default() };
    let (mut rollout, canaries) = compared(60, gate);
    assert_eq!(rollout.watched_since(0), None);
    commit(&mut rollout, &canaries, 2_000);
    assert_eq!((rollout.watched_since(0), rollout.watched_since(9)), (Some(Timestamp(2_000)), None));
    let few = Gap { metric: Metric::Latency, why: GapWhy::FewLooks { looks: 1, needed: 12 } };
    let insufficient = MetricVerdict::Insufficient { gaps: vec![few] };
    rollout.handle(judged(insufficient), Timestamp(3_000)).unwrap();
    assert_eq!(rollout.poll_timeout(), Some((Timestamp(62_000), Wakeup::BakeOver)));
    rollout.handle(Input::Tick, Timestamp(62_000)).unwrap();
    assert_eq!(rollout.poll_timeout(), Some((Timestamp(602_000), Wakeup::BakeOver)));
    rollout.handle(Input::Tick, Timestamp(602_000)).unwrap();
    let why = held(&rollout);
    assert!(why.starts_with("held: insufficient: latency"), "{why}");
    drain(&mut rollout);
    rollout.handle(judged(MetricVerdict::Healthy { look: 20 }), Timestamp(700_000)).unwrap();
    assert_eq!(assigned(&drain(&mut rollout)).len(), 8);
}

#[test]
fn a_last_wave_without_anybody_to_compare_with_passes_by_its_outcomes() {
    let (mut rollout, canaries) = compared(0, MetricGate::default());
    commit(&mut rollout, &canaries, 2_000);
    rollout.handle(judged(MetricVerdict::Healthy { look: 3 }), Timestamp(3_000)).unwrap();
    let effects = drain(&mut rollout);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Compare { .. })));
    commit(&mut rollout, &assigned(&effects), 4_000);
    assert!(matches!(rollout.state(), State::Completed { .. }));
}

#[test]
fn a_rollout_of_which_nothing_is_ever_heard_wakes_up_to_say_what_it_waits_for() {
    let mut fleet = fleet(2);
    fleet.iter_mut().for_each(|device| device.connected = false);
    let mut rollout = started(Strategy::default(), &fleet);
    let (due, why) = rollout.poll_timeout().expect("only the time can tell that nobody is there");
    assert_eq!(why, Wakeup::Quorum);
    rollout.handle(Input::Tick, due).unwrap();
    let held = |wave: &WaveStatus| matches!(wave.state, WaveState::Held { .. });
    assert!(rollout.status().waves.iter().all(held));
}
