//! Several rollouts of one model: who asks a device, who speaks for it, and what it goes back to.

use super::*;
use crate::{
    DeviceFacts, Plan,
    fixtures::{needs, spec},
    plan,
};

/// The rollouts of a server, and what it wrote for its devices.
struct Office {
    rollouts: Vec<Rollout>,
    fleet: Vec<DeviceFacts>,
}

impl Office {
    fn of(devices: usize) -> Self {
        Self { rollouts: vec![], fleet: fleet(devices) }
    }

    fn plan(&self, spec: &RolloutSpec, now: Timestamp) -> Plan {
        let others: Vec<_> = self.rollouts.iter().map(Rollout::summary).collect();
        plan(spec, &needs(), &self.fleet, &others, now).unwrap()
    }

    fn start(&mut self, name: &str, release_name: &str, strategy: Strategy, now: u64) {
        let mut spec = spec("all", strategy);
        (spec.id, spec.release) = (RolloutId::new(name).unwrap(), release(release_name));
        spec.created_at = Timestamp(now);
        let plan = self.plan(&spec, Timestamp(now));
        let own = Rollout::start(spec, plan, Timestamp(now));
        for (other, devices) in own.contest(self.rollouts.iter()).taken {
            self.tell(&other, Input::Claimed { devices, by: own.id().clone() }, now);
        }
        self.rollouts.push(own);
        self.pass_on(now);
    }

    fn tell(&mut self, id: &RolloutId, input: Input, now: u64) {
        let rollout = self.rollouts.iter_mut().find(|rollout| rollout.id() == id).unwrap();
        rollout.handle(input, Timestamp(now)).unwrap();
    }

    fn order(&mut self, name: &str, input: Input, now: u64) {
        self.tell(&RolloutId::new(name).unwrap(), input, now);
        self.pass_on(now);
    }

    /// A device says something of the release of a rollout.
    fn says(&mut self, name: &str, device: &str, event: DeploymentEvent, now: u64) {
        let release = self.rollout(name).spec().release.clone();
        if matches!(event, DeploymentEvent::Committed { .. }) {
            self.facts(device).committed = vec![release.clone()];
        }
        let device = id(device);
        self.order(name, Input::Report { device, at: Timestamp(now), release, event }, now);
    }

    fn pass_on(&mut self, now: u64) {
        while let Some((own, effects)) = self.rollouts.iter_mut().find_map(|rollout| {
            let effects = drain(rollout);
            (!effects.is_empty()).then(|| (rollout.id().clone(), effects))
        }) {
            let own = self.rollouts.iter().find(|rollout| *rollout.id() == own).unwrap();
            for (other, input) in own.tells(&effects, self.rollouts.iter()) {
                self.tell(&other, input, now);
            }
            for effect in effects {
                match effect {
                    Effect::Assign { device, release, .. } => {
                        self.facts(device.as_str()).desired = vec![release];
                    }
                    Effect::Restore { device, previous } => {
                        self.facts(device.as_str()).desired = previous.into_iter().collect();
                    }
                    Effect::Compare { .. } | Effect::Announce(_) => {}
                }
            }
        }
    }

    fn facts(&mut self, device: &str) -> &mut DeviceFacts {
        self.fleet.iter_mut().find(|facts| facts.id.as_str() == device).unwrap()
    }

    fn desired(&self) -> Vec<String> {
        let desired = self.fleet.iter().flat_map(|facts| &facts.desired);
        desired.map(ToString::to_string).collect()
    }

    fn rollout(&self, name: &str) -> &Rollout {
        self.rollouts.iter().find(|rollout| rollout.id().as_str() == name).unwrap()
    }
}

fn roll_back() -> Input {
    Input::Rollback { by: "ada".into() }
}

/// Two devices keep `digits@2` of `r1`.
fn after_r1() -> Office {
    let mut office = Office::of(2);
    office.start("r1", "digits@2", Strategy::default(), 1_000);
    for device in ["d0", "d1"] {
        office.says("r1", device, COMMITTED, 2_000);
    }
    assert_eq!(office.rollout("r1").state().word(), "completed");
    office
}

#[test]
fn a_device_that_a_newer_rollout_gives_back_belongs_to_the_older_one_again() {
    let mut office = after_r1();
    office.start("r2", "digits@3", Strategy::default(), 3_000);
    assert_eq!(office.rollout("r1").counts().superseded, 2);
    office.says("r2", "d0", BAD, 4_000);
    assert_eq!(office.desired(), ["digits@2", "digits@2"]);
    assert_eq!(office.rollout("r1").counts().superseded, 0);
    office.says("r1", "d0", COMMITTED, 5_000);
    office.order("r1", roll_back(), 6_000);
    assert_eq!(office.desired(), ["digits@1", "digits@1"]);
}

#[test]
fn a_release_can_be_taken_from_devices_that_a_newer_rollout_planned_and_never_asked() {
    let mut office = after_r1();
    let strategy = Strategy { on_halt: StopAction::Halt, ..two_waves(0) };
    office.start("r2", "digits@3", strategy, 3_000);
    let canary = office.rollout("r2").status().devices[0].device.clone();
    office.says("r2", canary.as_str(), BAD, 4_000);
    assert_eq!(office.rollout("r2").state().word(), "halted");
    office.order("r1", roll_back(), 5_000);
    assert_eq!(office.desired(), ["digits@1", "digits@1"]);
}

#[test]
fn a_rollout_that_was_overtaken_by_a_newer_one_does_not_bring_its_release_back() {
    let mut office = after_r1();
    office.start("r2", "digits@3", Strategy::default(), 3_000);
    for device in ["d0", "d1"] {
        office.says("r2", device, COMMITTED, 4_000);
    }
    office.order("r1", roll_back(), 5_000);
    assert_eq!(office.desired(), ["digits@3", "digits@3"], "they are with r2");
    office.order("r2", roll_back(), 6_000);
    assert_eq!(office.desired(), ["digits@1", "digits@1"], "digits@2 is gone by then");
}

#[test]
fn a_rollout_that_starts_while_another_is_brought_back_goes_back_to_what_came_before() {
    let mut office = after_r1();
    office.order("r1", roll_back(), 3_000);
    // They still say that they keep digits@2.
    office.start("r2", "digits@3", Strategy::default(), 4_000);
    office.says("r2", "d0", BAD, 5_000);
    assert_eq!(office.desired(), ["digits@1", "digits@1"]);
}

#[test]
fn what_was_asked_again_after_a_rollback_is_what_a_newer_rollout_goes_back_to() {
    let mut office = after_r1();
    office.order("r1", roll_back(), 3_000);
    for facts in &mut office.fleet {
        facts.committed = vec![release("digits@1")];
    }
    office.start("r2", "digits@2", Strategy::default(), 4_000);
    for device in ["d0", "d1"] {
        office.says("r2", device, COMMITTED, 5_000);
    }
    office.start("r3", "digits@3", Strategy::default(), 6_000);
    office.says("r3", "d0", BAD, 7_000);
    assert_eq!(office.desired(), ["digits@2", "digits@2"]);
}

#[test]
fn who_waits_while_a_newer_rollout_wants_it_is_asked_when_that_stops() {
    let mut office = Office::of(3);
    office.start("r1", "digits@2", two_waves(60), 1_000);
    let canary = office.rollout("r1").status().devices[0].device.clone();
    office.start("r2", "digits@3", Strategy { on_halt: StopAction::Halt, ..two_waves(0) }, 2_000);
    office.says("r1", canary.as_str(), COMMITTED, 3_000);
    office.order("r1", Input::Tick, 100_000);
    assert_eq!(office.desired().iter().filter(|it| *it == "digits@2").count(), 0, "{:?}", office.desired());
    office.order("r2", Input::Halt { by: "ada".into(), reason: "smoke".into() }, 101_000);
    assert_eq!(office.rollout("r1").counts().waiting, 0);
    assert_eq!(office.desired().iter().filter(|it| *it == "digits@2").count(), 2);
}

#[test]
fn a_rollout_whose_devices_are_all_taken_over_has_not_completed_anything() {
    let mut office = Office::of(2);
    office.start("r1", "digits@2", Strategy::default(), 1_000);
    office.start("r2", "digits@3", Strategy::default(), 2_000);
    let status = office.rollout("r1").status();
    assert_eq!(status.state.word(), "superseded");
    assert_eq!(status.reason.unwrap(), "every device was taken over before it was through, by r2");
    assert!(status.state.is_final());
}

#[test]
fn a_device_that_failed_in_a_rollout_in_force_is_not_asked_by_an_older_one() {
    let mut office = Office::of(2);
    let patient = Strategy { max_failed: MaxFailed { absolute: 2, percent: 5 }, ..Strategy::default() };
    office.start("r1", "digits@2", Strategy { ramp: Some(crate::Ramp::steady(1)), ..patient.clone() }, 1_000);
    office.start("r2", "digits@3", patient, 2_000);
    office.says("r2", "d0", BAD, 3_000);
    office.order("r1", Input::Tick, 200_000);
    let second = office.rollout("r1").status().devices[1].clone();
    assert_eq!(second.progress, Progress::Superseded { by: Some(RolloutId::new("r2").unwrap()) });
}

#[test]
fn a_device_that_an_older_program_gave_up_is_read_as_taken() {
    let rollout = started(Strategy::default(), &fleet(1));
    let mut text = serde_json::to_value(&rollout).unwrap();
    let record = text["devices"]["d0"].as_object_mut().unwrap();
    assert!(record.remove("hold").is_some() && record.remove("before").is_some());
    record.insert("left_for".into(), serde_json::Value::Null);
    assert_eq!(serde_json::from_value::<Rollout>(text.clone()).unwrap(), rollout);
    text["devices"]["d0"]["left_for"] = "r2".into();
    let read: Rollout = serde_json::from_value(text).unwrap();
    assert!(read.summary().devices.is_empty());
}
