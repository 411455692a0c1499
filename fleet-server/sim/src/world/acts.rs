//! What the story says that happens.

use std::{collections::BTreeSet, time::Duration};

use fleet_core::{Freeze, Input, RolloutSpec};
use shared::{DeviceId, RolloutId};

use super::{Death, Happening, World};
use crate::{
    device::{Ending, VirtualDevice},
    server::{Server, Unheard},
    story::{Act, Character, Moment},
    transcript::Detail,
};

/// The person who gives orders in stories.
const PERSON: &str = "ada";

impl World {
    pub(super) fn act(&mut self, at: usize) {
        let Some(timed) = self.story.acts.get(at) else { return };
        match timed.act.clone() {
            Act::Start { rollout, release, devices, strategy } => {
                let created_at = self.server_now();
                let (selector, author) = (devices, PERSON.to_owned());
                self.start(RolloutSpec {
                    id: rollout,
                    release,
                    selector,
                    strategy: *strategy,
                    author,
                    created_at,
                });
            }
            Act::Pause { rollout } => self.order(&rollout, "pause", Input::Pause { by: PERSON.into() }),
            Act::Resume { rollout } => self.order(&rollout, "resume", Input::Resume { by: PERSON.into() }),
            Act::Halt { rollout } => {
                let input = Input::Halt { by: PERSON.into(), reason: "it is enough".into() };
                self.order(&rollout, "halt", input);
            }
            Act::RollBack { rollout } => {
                self.order(&rollout, "roll back", Input::Rollback { by: PERSON.into() });
            }
            Act::Approve { rollout, by } => {
                let wave = self.wave_of(&rollout);
                self.order(&rollout, "approve", Input::Approve { wave, by });
            }
            Act::Promote { rollout } => {
                let wave = self.wave_of(&rollout);
                self.order(&rollout, "promote", Input::Promote { wave, by: PERSON.into() });
            }
            Act::Retry { rollout } => self.order(&rollout, "retry", Input::Retry { by: PERSON.into() }),
            Act::Freeze { devices, until, reason } => self.freeze(devices, until, reason),
            Act::Quarantine { devices, lifted } => {
                self.announce(&devices, if lifted { "leave quarantine" } else { "enter quarantine" });
                for device in devices {
                    self.server_turn(|server, now| server.quarantine(&device, !lifted, now));
                }
            }
            Act::Pin { devices, model, lifted } => {
                let done = if lifted { "are no longer pinned" } else { "are pinned" };
                self.announce(&devices, &format!("{done}, model {model}"));
                for device in devices {
                    self.server_turn(|server, now| server.pin(&device, &model, lifted, now));
                }
            }
            Act::DriftAlarm { release, feature, scope, others } => {
                self.note(Detail::Milestones, || format!("{release} drifts: {feature}, {scope:?}"));
                self.server_turn(|server, now| server.raise_alarm(&release, feature, scope, others, now));
            }
            fault => self.fault(fault),
        }
    }

    fn fault(&mut self, act: Act) {
        match act {
            Act::Cut { devices } => self.cut(&devices),
            Act::Reconnect { devices } => self.reconnect(&devices),
            Act::Flap { devices, every_secs, down_secs, until } => {
                self.announce(
                    &devices,
                    &format!("lose their links about every {every_secs} s until {until}"),
                );
                let until = self.story.calm.map_or(until, |calm| calm.min(until));
                // Stories for a real server refuse others.
                let every = Duration::from_secs(every_secs.clamp(1, 86_400));
                let down = Duration::from_secs(down_secs);
                devices.iter().for_each(|device| self.begin_to_flap(device, every, down, until));
            }
            Act::PowerCut { devices, after_effects } => self.cut_power(&devices, after_effects),
            Act::Restart { devices } => self.restart(&devices),
            Act::Die { devices } => self.die(&devices),
            Act::Mute { devices } => {
                self.announce(&devices, "fall silent");
                self.each(&devices, |it| it.character = Character::Mute);
            }
            Act::Clock { devices, ahead_secs } => {
                self.announce(&devices, &format!("will have a clock {ahead_secs} s ahead"));
                self.each(&devices, |it| it.device.set_clock(ahead_secs * 1_000));
            }
            Act::LocalTime { devices, utc_offset_secs } => {
                self.announce(&devices, &format!("have a local time {utc_offset_secs} s ahead of UTC"));
                self.each(&devices, |it| it.device.set_local_time(utc_offset_secs));
            }
            Act::KillRunner { devices } => self.kill_runner(&devices),
            Act::DamageDisk { devices } => {
                self.announce(&devices, "have a damaged disk");
                self.each(&devices, |it| it.device.damage_disk());
                self.kill_runner(&devices);
            }
            Act::Traffic { devices, per_minute } => {
                self.announce(&devices, &format!("get {per_minute} requests in a minute"));
                self.each(&devices, |it| it.device.set_traffic(per_minute));
            }
            Act::StopServer { for_secs } => {
                self.note(Detail::Milestones, || format!("the server is away for {for_secs} s"));
                self.close_office(for_secs);
            }
            Act::KillServer { stored } => {
                self.office.dies = Some(if stored { Death::AfterCommit } else { Death::BeforeCommit });
            }
            Act::ServerClock { ahead_secs } => self.office.next_ahead_ms = ahead_secs * 1_000,
            Act::Start { .. }
            | Act::Pause { .. }
            | Act::Resume { .. }
            | Act::Approve { .. }
            | Act::Promote { .. }
            | Act::Retry { .. }
            | Act::Freeze { .. }
            | Act::Halt { .. }
            | Act::RollBack { .. }
            | Act::Quarantine { .. }
            | Act::DriftAlarm { .. }
            | Act::Pin { .. } => {}
        }
    }

    fn start(&mut self, spec: RolloutSpec) {
        let (id, what) = (spec.id.clone(), format!("{} to {}", spec.release, spec.selector));
        if self.server.rollout(&id).is_some() {
            return;
        }
        self.note(Detail::Milestones, || format!("{PERSON} starts {id}: {what}"));
        let done = self.server_turn(|server, now| server.start(spec, now));
        self.tell_refusal("start", &id, done);
    }

    fn freeze(&mut self, devices: Option<BTreeSet<DeviceId>>, until: Moment, reason: String) {
        self.note(Detail::Milestones, || format!("nobody new is asked until {until}: {reason}"));
        let from = self.server_now();
        let freeze = Freeze { id: "freeze".into(), from, until: until.on_clock(), reason, devices };
        self.server_turn(|server, now| server.freeze(freeze, now));
    }

    fn order(&mut self, id: &RolloutId, name: &str, order: Input) {
        let done = self.server_turn(|server: &mut Server, now| server.order(id, order, now));
        self.tell_refusal(name, id, done);
    }

    /// The wave that a person sees under way when they give an order.
    fn wave_of(&self, id: &RolloutId) -> usize {
        self.server.rollout(id).and_then(|machine| machine.active_wave()).unwrap_or(0)
    }

    fn tell_refusal(&mut self, name: &str, id: &RolloutId, done: Option<Result<(), Unheard>>) {
        match done {
            Some(Ok(())) => {}
            Some(Err(why)) => self.note(Detail::Milestones, || format!("{PERSON} cannot {name} {id}: {why}")),
            None => self.note(Detail::Milestones, || format!("nobody hears {PERSON} {name} {id}")),
        }
    }

    fn cut(&mut self, devices: &[DeviceId]) {
        self.announce(devices, "are cut off");
        for device in devices {
            self.each(std::slice::from_ref(device), |it| it.link.cut = true);
            self.lose_link(device);
        }
    }

    fn reconnect(&mut self, devices: &[DeviceId]) {
        self.announce(devices, "can connect again");
        for device in devices {
            self.each(std::slice::from_ref(device), |it| it.link.cut = false);
            self.redial(device, 1, 5);
        }
    }

    fn cut_power(&mut self, devices: &[DeviceId], after_effects: u32) {
        for device in devices {
            let offline = self.fleet.get(device).is_some_and(|it| !it.link.up && it.device.is_on());
            match (after_effects, offline) {
                (0, _) | (_, true) => {
                    self.note(Detail::Milestones, || format!("power fails at {device}"));
                    self.end_life(device, Ending::PowerCut);
                    self.after(Duration::from_secs(30), Happening::PowerBack(device.clone()));
                }
                (more, false) => {
                    self.each(std::slice::from_ref(device), |it| it.device.cut_power_after(more))
                }
            }
        }
    }

    fn restart(&mut self, devices: &[DeviceId]) {
        self.announce(devices, "are restarted");
        for device in devices {
            self.end_life(device, Ending::Stopped);
            self.after(Duration::from_secs(5), Happening::PowerBack(device.clone()));
        }
    }

    fn kill_runner(&mut self, devices: &[DeviceId]) {
        for device in devices {
            self.note(Detail::Everything, || format!("the runner of {device} is killed"));
            self.with_device(device, VirtualDevice::kill_runner);
        }
    }

    fn die(&mut self, devices: &[DeviceId]) {
        self.announce(devices, "die");
        for device in devices {
            self.end_life(device, Ending::PowerCut);
            self.each(std::slice::from_ref(device), |it| it.dead = true);
        }
    }

    fn each(&mut self, devices: &[DeviceId], act: impl Fn(&mut super::Inhabitant)) {
        for device in devices {
            if let Some(inhabitant) = self.fleet.get_mut(device) {
                act(inhabitant);
            }
        }
    }

    fn announce(&mut self, devices: &[DeviceId], what: &str) {
        let names: Vec<_> = devices.iter().map(ToString::to_string).collect();
        self.note(Detail::Milestones, || format!("{} {what}", names.join(", ")));
    }
}
