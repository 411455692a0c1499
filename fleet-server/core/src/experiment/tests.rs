use std::collections::BTreeMap;

use shared::ReleaseId;

use super::*;
use crate::{
    DeviceFacts, Rollout, Strategy,
    fixtures::{device, fleet, id, needs, release},
    plan::BlockedWhy,
    selector::Selector,
    strategy::{MetricGate, WaveShare, WaveSpec},
    verdict::{Degradation, Metric, MetricVerdict},
};
use muster_sketch::canary::Reading;

const START: Timestamp = Timestamp(1_000);
const HOUR: u64 = 3_600;

fn spec() -> ExperimentSpec {
    ExperimentSpec {
        id: ExperimentId::new("speed").unwrap(),
        releases: Arms { a: release("digits@1"), b: release("digits@2") },
        selector: Selector::all(),
        shares: Arms { a: 50, b: 50 },
        seed: 7,
        rules: Rules::default(),
        max_duration_secs: HOUR,
        at_end: AtEnd::Leave,
        strategy: Strategy::default(),
        author: "ada".into(),
        created_at: START,
    }
}

fn rollouts() -> Arms<RolloutId> {
    Arms { a: RolloutId::new("r-a").unwrap(), b: RolloutId::new("r-b").unwrap() }
}

fn planned(spec: &ExperimentSpec, fleet: &[DeviceFacts]) -> Result<ExperimentPlan, PlanError> {
    let taken = BTreeMap::new();
    let needs = Arms { a: needs(), b: needs() };
    plan(spec, &Ground { needs, rollouts: rollouts(), fleet, others: &[], taken: &taken }, START)
}

fn started(spec: ExperimentSpec) -> Experiment {
    let plan = planned(&spec, &fleet(40)).unwrap();
    Experiment::start(spec, &plan, START)
}

fn effects(experiment: &mut Experiment) -> Vec<Effect> {
    let all = std::iter::from_fn(|| experiment.poll_effect());
    all.filter(|effect| !matches!(effect, Effect::Announce(_))).collect()
}

/// Both arms have begun.
fn comparing(spec: ExperimentSpec) -> Experiment {
    let mut experiment = started(spec);
    experiment.handle(Input::Carried { arm: Arm::B, how: Carrying::Done }, START).unwrap();
    assert_eq!(effects(&mut experiment), [Effect::Compare]);
    experiment
}

fn worse(look: u64) -> MetricVerdict {
    let reading =
        Reading { difference: 0.1, margin_worse: 0.02, canaries: 20, controls: 19, ..Reading::default() };
    MetricVerdict::Degraded(Degradation {
        metric: Metric::Latency,
        look,
        e_worse: 50.0,
        threshold: 40.0,
        reading,
    })
}

fn fine() -> MetricVerdict {
    MetricVerdict::Healthy { look: 20 }
}

fn open() -> MetricVerdict {
    MetricVerdict::Insufficient { gaps: vec![] }
}

fn judged(experiment: &mut Experiment, a: MetricVerdict, b: MetricVerdict) {
    let standing = Box::new(Standing { worse: Arms { a, b } });
    experiment.handle(Input::Judged { standing }, Timestamp(2_000)).unwrap();
}

#[test]
fn arms_are_balanced_within_every_stratum_and_by_the_seed_alone() {
    for seed in 0..50 {
        let mut devices = fleet(90);
        // Two sites, three versions, and one device that is like no other.
        for (n, device) in devices.iter_mut().enumerate() {
            let runs = release(&format!("digits@{}", 3 + n % 3));
            (device.desired, device.committed) = (vec![runs.clone()], vec![runs]);
        }
        devices.push(device("odd", "oslo"));
        let spec = ExperimentSpec { seed, ..spec() };
        let plan = planned(&spec, &devices).unwrap();
        devices.reverse();
        assert_eq!(planned(&spec, &devices).unwrap(), plan, "seed {seed}");
        let of = |device: &DeviceFacts| (device.labels["site"].clone(), device.committed[0].clone());
        let mut strata = BTreeMap::<(String, ReleaseId), Arms<i64>>::new();
        for device in &devices {
            let is_a = plan.arms.a.devices.iter().any(|assigned| assigned.device == device.id);
            let counts = strata.entry(of(device)).or_default();
            *counts.get_mut(if is_a { Arm::A } else { Arm::B }) += 1;
        }
        assert!(strata.values().all(|of| (of.a - of.b).abs() <= 1), "seed {seed}: {strata:?}");
    }
}

#[test]
fn every_device_gets_into_either_arm_by_some_seed() {
    let devices: Vec<_> = (0..4).map(|n| device(&format!("d{n}"), &format!("site-{n}"))).collect();
    let is_in_a = |seed: u64| {
        let plan = planned(&ExperimentSpec { seed, ..spec() }, &devices).unwrap();
        plan.arms.a.devices.iter().any(|assigned| assigned.device == id("d0"))
    };
    let in_a = (0..200).filter(|&seed| is_in_a(seed)).count();
    assert!((70..130).contains(&in_a), "in {in_a} of 200 seeds");
}

#[test]
fn shares_leave_devices_over_and_none_is_in_two_arms() {
    let spec = ExperimentSpec { shares: Arms { a: 30, b: 10 }, ..spec() };
    let plan = planned(&spec, &fleet(100)).unwrap();
    let sizes = plan.arms.as_ref().map(|arm| arm.devices.len());
    assert_eq!((sizes, plan.left_out.len()), (Arms { a: 30, b: 10 }, 60));
    assert!(plan.left_out.iter().all(|left| left.why == LeftOutWhy::BeyondShares));
    let both: std::collections::BTreeSet<_> =
        plan.arms.a.devices.iter().chain(&plan.arms.b.devices).map(|assigned| &assigned.device).collect();
    assert_eq!(both.len(), 40);
}

#[test]
fn an_arm_that_runs_its_release_needs_no_rollout_and_its_devices_are_held_all_the_same() {
    let experiment = started(spec());
    assert_eq!((experiment.rollout(Arm::A), experiment.rollout(Arm::B)), (None, Some(&rollouts().b)));
    assert_eq!(experiment.still().count(), 20);
    let held = experiment.summary().unwrap();
    let strategy = Strategy { seed: 1, ..Strategy::default() };
    let older = crate::RolloutSpec { created_at: Timestamp(1), ..crate::fixtures::spec("all", strategy) };
    let plan =
        |devices: usize| crate::plan(&older, &needs(), &fleet(devices), std::slice::from_ref(&held), START);
    let plan = plan(41).unwrap();
    assert_eq!((plan.blocked.len(), plan.waves[0].devices.len()), (40, 1), "both arms are held");
    assert!(
        matches!(&plan.blocked[0].why, BlockedWhy::InNewerRollout { rollout } if rollout.as_str() == "experiment-speed")
    );
}

#[test]
fn a_device_that_could_take_only_one_release_is_in_no_arm() {
    let mut devices = fleet(10);
    devices[0].inventory.memory_mib = 16;
    devices[1].quarantined = true;
    devices[2].pins = [(release("digits@1").model, release("digits@1").version)].into();
    let plan = planned(&spec(), &devices).unwrap();
    let left: Vec<_> =
        plan.left_out.iter().map(|left| (left.device.as_str(), left.why.to_string())).collect();
    let told = [
        ("d0", "needs 64 MiB of memory and has 16 MiB (digits@2)".to_owned()),
        ("d1", "is quarantined (digits@1)".to_owned()),
        ("d2", "is pinned to version 1 (digits@2)".to_owned()),
    ];
    assert_eq!(left, told);
    let taken = [(id("d5"), ExperimentId::new("other").unwrap())].into();
    let needs = Arms { a: needs(), b: needs() };
    let ground = Ground { needs, rollouts: rollouts(), fleet: &fleet(10), others: &[], taken: &taken };
    let plan = super::plan(&spec(), &ground, START).unwrap();
    assert_eq!(plan.left_out[0].why.to_string(), "is in the experiment other of this model");
}

#[test]
fn what_cannot_be_carried_out_is_refused_with_the_reason() {
    let says = |spec: ExperimentSpec| planned(&spec, &fleet(4)).unwrap_err().to_string();
    let same = Arms { a: release("digits@1"), b: release("digits@1") };
    assert!(says(ExperimentSpec { releases: same, ..spec() }).contains("two versions of one model"));
    let shares = Arms { a: 60, b: 50 };
    assert!(says(ExperimentSpec { shares, ..spec() }).starts_with("the arms get 60 % and 50 %"));
    assert!(says(ExperimentSpec { max_duration_secs: 1, ..spec() }).starts_with("it lasts 1 s"));
    let rules = Rules { alpha: 0.0, ..Rules::default() };
    assert!(says(ExperimentSpec { rules, ..spec() }).starts_with("alpha is 0"));
    let with = |strategy| says(ExperimentSpec { strategy, ..spec() });
    assert!(with(Strategy { control_percent: 10, ..Strategy::default() }).contains("control_percent"));
    assert!(with(Strategy { continuous: true, ..Strategy::default() }).contains("continuous"));
    assert!(
        with(Strategy { metrics: Some(MetricGate::default()), ..Strategy::default() }).contains("metrics")
    );
    let impatient = Strategy { silent_after_secs: 60, ..Strategy::default() };
    assert!(with(impatient).contains("a device that watches digits@2 says nothing for 60 s"));
    let waves = vec![WaveSpec::of(WaveShare::Count(3))];
    assert!(with(Strategy { waves, ..Strategy::default() }).contains("every device of an arm"));
    let empty = planned(&ExperimentSpec { selector: Selector::parse("id=d1").unwrap(), ..spec() }, &fleet(4));
    assert!(empty.unwrap_err().to_string().contains("gets no device: 1 of 1 selected"));
}

#[test]
fn the_comparison_begins_when_both_arms_have_and_waits_for_an_approval() {
    let mut experiment = started(spec());
    assert_eq!((effects(&mut experiment), experiment.state()), (vec![], &State::Preparing));
    experiment.handle(Input::Carried { arm: Arm::B, how: Carrying::UnderWay }, START).unwrap();
    assert_eq!(effects(&mut experiment), [Effect::Compare]);
    assert!(experiment.is_comparing());
}

#[test]
fn a_changed_arm_that_is_worse_goes_back_at_once() {
    let mut experiment = comparing(spec());
    judged(&mut experiment, open(), worse(9));
    assert_eq!(effects(&mut experiment), [Effect::RollBack { arm: Arm::B }]);
    let reason = experiment.status().reason.unwrap();
    assert!(
        reason.starts_with("A is better: latency of B is worse by 0.1000 against a margin of 0.0200"),
        "{reason}"
    );
}

#[test]
fn what_ran_before_is_given_up_only_for_what_is_not_worse_in_anything() {
    let mut experiment = comparing(spec());
    judged(&mut experiment, worse(9), open());
    assert!(experiment.is_comparing());
    judged(&mut experiment, worse(9), fine());
    assert_eq!((effects(&mut experiment), experiment.state().word()), (vec![], "decided"));
    assert!(experiment.status().reason.unwrap().starts_with("B is better"));
}

#[test]
fn where_each_is_worse_in_something_the_changed_arm_goes_back_and_nothing_is_adopted() {
    let mut experiment = comparing(ExperimentSpec { at_end: AtEnd::Adopt, ..spec() });
    judged(&mut experiment, worse(9), worse(10));
    assert_eq!(effects(&mut experiment), [Effect::RollBack { arm: Arm::B }]);
    assert!(experiment.status().reason.unwrap().starts_with("each is better in something"));
}

#[test]
fn equal_arms_end_it_and_devices_stay_unless_they_shall_go_back() {
    let mut experiment = comparing(spec());
    judged(&mut experiment, fine(), fine());
    assert_eq!(effects(&mut experiment), []);
    assert!(experiment.status().reason.unwrap().starts_with("no difference beyond the margins"));
    let mut experiment = comparing(ExperimentSpec { at_end: AtEnd::Restore, ..spec() });
    judged(&mut experiment, fine(), fine());
    assert_eq!(effects(&mut experiment), [Effect::RollBack { arm: Arm::B }]);
}

#[test]
fn the_winner_is_adopted_only_where_that_was_said_and_once() {
    let mut experiment = comparing(ExperimentSpec { at_end: AtEnd::Adopt, ..spec() });
    judged(&mut experiment, worse(9), fine());
    assert_eq!(effects(&mut experiment), [Effect::Adopt { arm: Arm::B }]);
    let adopted = Input::Adopted { rollout: RolloutId::new("r9").unwrap() };
    experiment.handle(adopted.clone(), START).unwrap();
    assert_eq!(experiment.status().adoption.to_string(), "the winner is rolled out by r9");
    assert!(experiment.handle(adopted, START).is_err());
}

#[test]
fn the_deadline_ends_it_undecided_and_halts_what_still_asks() {
    let mut experiment = started(spec());
    experiment.handle(Input::Carried { arm: Arm::B, how: Carrying::UnderWay }, START).unwrap();
    effects(&mut experiment);
    let due = experiment.poll_timeout().unwrap();
    experiment.handle(Input::Tick, Timestamp(due.as_millis() - 1)).unwrap();
    assert!(experiment.is_comparing());
    experiment.handle(Input::Tick, due).unwrap();
    assert_eq!(effects(&mut experiment), [Effect::Halt { arm: Arm::B }]);
    assert_eq!((experiment.state().word(), experiment.poll_timeout()), ("undecided", None));
    let standing = Box::new(Standing { worse: Arms { a: open(), b: open() } });
    assert!(experiment.handle(Input::Judged { standing }, due).is_err());
}

#[test]
fn a_person_ends_it_and_says_whether_devices_go_back() {
    let stop = |restore| Input::Stop { by: "eve".into(), reason: "enough".into(), restore };
    let mut experiment = comparing(spec());
    experiment.handle(stop(true), START).unwrap();
    assert_eq!(effects(&mut experiment), [Effect::RollBack { arm: Arm::B }]);
    assert!(experiment.handle(stop(false), START).unwrap_err().to_string().contains("it is stopped"));
    let mut experiment = comparing(spec());
    experiment.handle(stop(false), START).unwrap();
    assert_eq!(
        (effects(&mut experiment), experiment.status().reason.unwrap()),
        (vec![], "stopped by eve: enough".into())
    );
}

#[test]
fn a_halted_rollout_ends_it_with_the_reason_of_the_rollout() {
    let mut experiment = comparing(spec());
    let plan = planned(&spec(), &fleet(40)).unwrap();
    let (rollout, plan) = plan.arms.b.rollout.unwrap();
    let mut rollout = Rollout::start(rollout, plan, START);
    assert_eq!(Carrying::of(&rollout), Carrying::UnderWay);
    let halt = crate::Input::Halt { by: "eve".into(), reason: "smoke".into() };
    rollout.handle(halt, START).unwrap();
    experiment.handle(Input::Carried { arm: Arm::B, how: Carrying::of(&rollout) }, START).unwrap();
    assert_eq!(effects(&mut experiment), []);
    let reason = experiment.status().reason.unwrap();
    assert_eq!(reason, "arm B stopped: rollout r-b is halted: stopped by eve: smoke");
}

#[test]
fn a_rollout_that_lost_all_devices_to_another_one_ends_it() {
    let plan = planned(&spec(), &fleet(10)).unwrap();
    let (spec, plan) = plan.arms.b.rollout.unwrap();
    let devices = plan.waves[0].devices.iter().map(|planned| planned.device.clone()).collect();
    let mut rollout = Rollout::start(spec, plan, START);
    rollout.handle(crate::Input::Superseded { devices, by: RolloutId::new("r7").unwrap() }, START).unwrap();
    assert_eq!(Carrying::of(&rollout).to_string(), "other rollouts took all devices of r-b");
}

#[test]
fn before_the_start_the_version_of_then_counts_and_since_then_that_of_the_arm() {
    let experiment = started(spec());
    let versions = |period| {
        let mut numbers: Vec<_> = experiment.counted(period).values().map(|version| version.get()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    assert_eq!((versions(Period::Before), versions(Period::Since)), (vec![1], vec![1, 2]));
    let cohorts = experiment.cohorts();
    assert_eq!((cohorts.canaries.len(), cohorts.controls.len()), (20, 20));
}

#[test]
fn an_experiment_that_was_stored_goes_on_as_if_nothing_had_happened() {
    let mut experiment = comparing(ExperimentSpec { at_end: AtEnd::Restore, ..spec() });
    let mut back: Experiment = serde_json::from_str(&serde_json::to_string(&experiment).unwrap()).unwrap();
    assert_eq!(back, experiment);
    judged(&mut experiment, open(), worse(9));
    judged(&mut back, open(), worse(9));
    assert_eq!(back, experiment);
    assert_eq!(seed_of(experiment.id()), seed_of(&ExperimentId::new("speed").unwrap()));
    assert!(seed_of(experiment.id()) < 1 << 53);
}

#[test]
fn a_name_that_leaves_no_room_for_what_is_named_after_it_is_refused() {
    let named =
        |length: usize| ExperimentSpec { id: ExperimentId::new("n".repeat(length)).unwrap(), ..spec() };
    assert_eq!(named(53).check(), Ok(()));
    let refused = named(54).check().unwrap_err().to_string();
    assert_eq!(refused, "the name has 54 characters; write 1 to 53");
}

#[test]
fn in_an_emergency_nobody_goes_back_whatever_was_said_at_the_start() {
    let spec = ExperimentSpec { at_end: AtEnd::Restore, ..spec() };
    let mut experiment = comparing(spec);
    experiment.handle(Input::Emergency { by: "eve".into(), reason: "fire".into() }, START).unwrap();
    assert_eq!((effects(&mut experiment), experiment.is_over()), (vec![], true));
}
