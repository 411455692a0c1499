use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    fixtures::{device, fleet, id, needs, planned, release, spec},
    strategy::{Strategy, WaveShare, WaveSpec},
};

fn waves(shares: &[WaveShare]) -> Strategy {
    Strategy { waves: shares.iter().cloned().map(WaveSpec::of).collect(), ..Strategy::default() }
}

fn plan_for(selector: &str, fleet: &[DeviceFacts], others: &[RolloutSummary]) -> Result<Plan, PlanError> {
    plan(&spec(selector, Strategy::default()), &needs(), fleet, others, Timestamp(0))
}

fn other(name: &str, created_at: u64, device: &str) -> RolloutSummary {
    RolloutSummary {
        id: RolloutId::new(name).unwrap(),
        release: release("digits@3"),
        priority: 0,
        created_at: Timestamp(created_at),
        devices: [id(device)].into(),
        restored: BTreeSet::new(),
        asked: BTreeMap::new(),
    }
}

#[test]
fn a_rollout_to_nobody_is_refused_with_the_labels_that_exist() {
    let error = plan_for("site=rome", &fleet(3), &[]).unwrap_err();
    assert_eq!(error.to_string(), "no device matches 'site=rome': there are site=berlin (2), site=paris (1)");
    let error = plan_for("all", &[], &[]).unwrap_err();
    assert_eq!(error.to_string(), "no device matches 'all': no device is enrolled yet");
}

#[test]
fn who_is_left_out_is_told_why() {
    let mut fleet = fleet(5);
    fleet[0].committed = vec![release("digits@2")];
    fleet[0].desired = vec![release("digits@2")];
    fleet[1].quarantined = true;
    fleet[2].inventory.memory_mib = 32;
    fleet[3].inventory.engines = vec!["tflite 2".into()];
    let plan = plan_for("all", &fleet, &[]).unwrap();
    let told: Vec<_> = plan.blocked.iter().map(|b| format!("{} {}", b.device, b.why)).collect();
    assert_eq!(
        told,
        [
            "d0 already runs it",
            "d1 is quarantined",
            "d2 needs 64 MiB of memory and has 32 MiB",
            "d3 needs the engine onnx and has tflite 2",
        ]
    );
    let only = &plan.waves[0].devices;
    assert_eq!((only.len(), only[0].device.as_str()), (1, "d4"));
    assert_eq!(only[0].from, Some(release("digits@1")));

    let error = plan_for("id=d1", &fleet, &[]).unwrap_err();
    assert_eq!(error.to_string(), "none of the 1 selected devices can take it; d1 is quarantined");
}

#[test]
fn a_plan_in_which_everybody_is_left_out_can_be_read_to_the_last_device() {
    let mut fleet = fleet(2);
    fleet[0].quarantined = true;
    fleet[1].inventory.memory_mib = 32;
    let Err(PlanError::AllBlocked(blocked)) = plan_for("all", &fleet, &[]) else {
        panic!("nobody can be asked")
    };
    let plan = Plan::of_nobody(blocked, Timestamp(7));
    assert!(plan.waves.is_empty() && plan.planned_at == Timestamp(7));
    let told: Vec<_> = plan.blocked.iter().map(|blocked| blocked.device.as_str()).collect();
    assert_eq!(told, ["d0", "d1"]);
}

#[test]
fn a_device_on_probation_cannot_be_taken_for_a_silent_one() {
    let patient = |silent_after_secs| {
        let strategy = Strategy { silent_after_secs, ..Strategy::default() };
        plan(&spec("all", strategy), &needs(), &fleet(1), &[], Timestamp(0))
    };
    let Err(PlanError::Strategy(why)) = patient(60) else { panic!("its probation takes a minute") };
    let told = why.to_string();
    assert!(
        told.starts_with(
            "silent_after_secs is 60 s, and a device that watches digits@2 says nothing for 60 s"
        ),
        "{told}"
    );
    assert!(told.contains("write more than 60"), "{told}");
    assert!(patient(61).is_ok());
}

#[test]
fn the_newer_of_two_rollouts_wins_a_device() {
    let plan = plan_for("all", &fleet(2), &[other("old", 1, "d0"), other("new", 2_000, "d1")]).unwrap();
    assert_eq!(plan.supersedes, [Superseding { rollout: RolloutId::new("old").unwrap(), device: id("d0") }]);
    let why = BlockedWhy::InNewerRollout { rollout: RolloutId::new("new").unwrap() };
    assert_eq!(plan.blocked, [Blocked { device: id("d1"), why }]);
}

#[test]
fn a_device_that_never_connected_is_planned_and_marked() {
    let mut unknown = device("d0", "berlin");
    (unknown.connected, unknown.inventory) = (false, Default::default());
    let plan = plan_for("all", &[unknown], &[]).unwrap();
    assert_eq!(plan.waves[0].devices[0].reach, Reach::Offline);
}

#[test]
fn a_canary_wave_holds_each_site() {
    let fleet = fleet(100);
    let plan = planned(waves(&[WaveShare::Percent(10), WaveShare::All]), &fleet);
    let site = |d: &&PlannedDevice| fleet.iter().any(|f| f.id == d.device && f.labels["site"] == "paris");
    assert_eq!(plan.waves[0].devices.len(), 10);
    assert_eq!(plan.waves[0].devices.iter().filter(site).count(), 5);
}

#[test]
fn devices_that_no_wave_reaches_are_named() {
    let plan = planned(waves(&[WaveShare::Count(1)]), &fleet(3));
    assert_eq!(plan.blocked.iter().filter(|b| b.why == BlockedWhy::BeyondLastWave).count(), 2);
}

proptest! {
    #[test]
    fn every_selected_device_stands_in_one_wave(count in 1usize..60, percent in 1u32..100, seed: u64) {
        let shares = waves(&[WaveShare::Percent(percent), WaveShare::Count(3), WaveShare::All]);
        let strategy = Strategy { seed, ..shares };
        let mut fleet = fleet(count);
        let plan = planned(strategy.clone(), &fleet);
        let names: Vec<_> = plan.waves.iter().flat_map(|w| &w.devices).map(|d| d.device.clone()).collect();
        prop_assert_eq!(names.len(), count);
        prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), count);
        fleet.reverse();
        prop_assert_eq!(planned(strategy, &fleet), plan);
    }
}

#[test]
fn the_control_cohort_is_held_back_to_the_end_and_is_a_picture_of_the_fleet() {
    let strategy = Strategy { control_percent: 20, ..waves(&[WaveShare::Count(2), WaveShare::All]) };
    let plan = planned(strategy, &fleet(20));
    let sizes: Vec<_> = plan.waves.iter().map(|wave| (wave.devices.len(), wave.kind)).collect();
    assert_eq!(sizes, [(2, WaveKind::Step), (14, WaveKind::Step), (4, WaveKind::Control)]);
    let even = |planned: &&PlannedDevice| planned.device.as_str()[1..].parse::<u32>().unwrap() % 2 == 0;
    assert_eq!(plan.waves[2].devices.iter().filter(even).count(), 2);
}

#[test]
fn a_wave_can_name_its_devices() {
    let paris = WaveShare::Selector(Selector::parse("site=paris").unwrap());
    let plan = planned(waves(&[paris, WaveShare::All]), &fleet(6));
    let first: BTreeSet<_> = plan.waves[0].devices.iter().map(|planned| planned.device.to_string()).collect();
    assert_eq!(first, ["d1", "d3", "d5"].map(str::to_owned).into());
    assert_eq!(plan.waves[1].devices.len(), 3);
}

#[test]
fn a_pinned_device_and_one_of_another_version_are_left_out() {
    let mut fleet = fleet(3);
    fleet[0].pins = [(release("digits@1").model, release("digits@1").version)].into();
    fleet[1].committed = vec![release("digits@3")];
    let strategy = Strategy { from: vec![release("digits@1").version], ..Strategy::default() };
    let plan = planned(strategy, &fleet);
    let why: Vec<_> = plan.blocked.iter().map(|blocked| blocked.why.to_string()).collect();
    assert_eq!(why, ["is pinned to version 1", "runs version 3, and the strategy starts from 1"]);
}

#[test]
fn a_higher_priority_holds_a_device_against_a_newer_rollout() {
    let mut important = other("r0", 1, "d0");
    important.priority = 5;
    let plan = plan_for("all", &fleet(2), std::slice::from_ref(&important)).unwrap();
    assert_eq!(plan.blocked[0].why, BlockedWhy::InNewerRollout { rollout: important.id });
}
