//! Links that stand and break, power that fails and comes back, a server that goes and returns.

use std::time::Duration;

use shared::{DeviceId, Timestamp};

use super::{Death, Happening, Inhabitant, Office, REWRITE_PPM, World, people};
use crate::{
    device::{Ending, VirtualDevice},
    oracle::News,
    server::Server,
    story::{BEGIN, Character, Moment, Network},
    transcript::{Detail, plan_in_words, sentence},
};

/// How long a broker takes at most to notice that a link is dead: one and a half keep-alives of a minute.
const NOTICE_SECS: u64 = 90;

/// How long a device waits at most before it dials again.
const DIAL_SECS: u64 = 60;

/// A link that breaks again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flap {
    /// Number of the order.
    order: u64,
    every: Duration,
    down: Duration,
    until: Timestamp,
}

impl Inhabitant {
    /// True when it could do what it is asked to do now.
    pub(super) fn is_reachable(&self) -> bool {
        !self.dead && self.link.up && self.device.is_on() && self.character != Character::Mute
    }
}

impl World {
    /// Lets a device do something, carries away what it says, and lets the oracle look.
    pub(super) fn with_device(&mut self, id: &DeviceId, act: impl FnOnce(&mut VirtualDevice, Timestamp)) {
        let now = self.now;
        let Some(inhabitant) = self.fleet.get_mut(id) else { return };
        act(&mut inhabitant.device, now);
        inhabitant.due = inhabitant.device.poll_timeout();
        let spins = inhabitant.due.is_some_and(|due| due <= now);
        if let Err(violation) = self.oracle.look_at_device(&inhabitant.device) {
            self.violation.get_or_insert(violation);
        }
        self.carry_away(id);
        self.after_power_cut(id);
        if spins {
            self.guard_against_spinning(id);
        }
    }

    pub(super) fn switch_on(&mut self, id: &DeviceId) {
        let Some(inhabitant) = self.fleet.get(id).filter(|it| !it.dead && !it.device.is_on()) else { return };
        let liar = inhabitant.character == Character::Liar && inhabitant.lies == 0;
        if self.server.row(id).is_none()
            && let Some(story) = people::story_of(&self.story, id)
        {
            let (labels, runs) = (story.labels.clone(), story.runs.clone());
            self.server.enrol(id.clone(), labels, runs.as_ref());
            self.oracle.note_enrolment(&self.server, id);
            self.note(Detail::Milestones, || format!("{id} is enrolled"));
        }
        self.note(Detail::Everything, || format!("{id} starts"));
        self.with_device(id, VirtualDevice::restart);
        self.redial(id, 0, 2);
        if liar {
            self.after_secs(60, 600, Happening::Lie(id.clone()));
        }
    }

    /// A link that is down and may be up is dialled, once.
    pub(super) fn redial(&mut self, id: &DeviceId, low_secs: u64, high_secs: u64) {
        let Some(inhabitant) = self.fleet.get_mut(id) else { return };
        let link = &mut inhabitant.link;
        if link.up || link.cut || link.dialling || inhabitant.dead || !inhabitant.device.is_on() {
            return;
        }
        link.dialling = true;
        self.after_secs(low_secs, high_secs, Happening::Dial(id.clone()));
    }

    pub(super) fn dial(&mut self, id: &DeviceId) {
        let closed = self.office.closed;
        let Some(inhabitant) = self.fleet.get_mut(id) else { return };
        inhabitant.link.dialling = false;
        let link = &inhabitant.link;
        if link.up || link.cut || inhabitant.dead || !inhabitant.device.is_on() {
            return;
        }
        if closed {
            return self.redial(id, 1, DIAL_SECS);
        }
        let now = self.now;
        let link = &mut inhabitant.link;
        (link.up, link.session, link.busy_until) = (true, link.session + 1, now);
        self.note(Detail::Everything, || format!("{id} connects"));
        self.server_turn(|server, _| server.note_connection(id, true));
        self.with_device(id, VirtualDevice::connected);
    }

    pub(super) fn break_link(&mut self, id: &DeviceId, session: u64) {
        if self.fleet.get(id).is_some_and(|it| it.link.up && it.link.session == session) {
            self.lose_link(id);
            self.redial(id, 1, DIAL_SECS);
        }
    }

    pub(super) fn lose_link(&mut self, id: &DeviceId) {
        let Some(inhabitant) = self.fleet.get_mut(id).filter(|it| it.link.up) else { return };
        inhabitant.link.up = false;
        let session = inhabitant.link.session;
        self.note(Detail::Everything, || format!("{id} loses its link"));
        self.after_secs(0, NOTICE_SECS, Happening::BrokerNotices { device: id.clone(), session });
        self.with_device(id, VirtualDevice::disconnected);
    }

    pub(super) fn broker_notices(&mut self, id: &DeviceId, session: u64) {
        if self.fleet.get(id).is_some_and(|it| !it.link.up && it.link.session == session) {
            self.server_turn(|server, _| server.note_connection(id, false));
        }
    }

    pub(super) fn begin_to_flap(&mut self, id: &DeviceId, every: Duration, down: Duration, until: Moment) {
        let Some(inhabitant) = self.fleet.get_mut(id) else { return };
        inhabitant.link.flaps += 1;
        let flap = Flap { order: inhabitant.link.flaps, every, down, until: until.on_clock() };
        self.flap_again(id, flap);
    }

    /// The link breaks, and is dialled when it has been down for as long as it shall be.
    pub(super) fn flap(&mut self, id: &DeviceId, flap: Flap) {
        let holds = |it: &&Inhabitant| it.link.flaps == flap.order && !it.dead && self.now < flap.until;
        let Some(inhabitant) = self.fleet.get(id).filter(holds) else { return };
        if inhabitant.link.up {
            self.lose_link(id);
            if let Some(inhabitant) = self.fleet.get_mut(id).filter(|it| !it.link.cut) {
                inhabitant.link.dialling = true;
                self.after(flap.down, Happening::Dial(id.clone()));
            }
        }
        self.flap_again(id, flap);
    }

    /// After half as much more or less, so that links do not break as one.
    fn flap_again(&mut self, id: &DeviceId, flap: Flap) {
        let percent = u32::try_from(self.random.between(50, 150)).unwrap_or(100);
        self.after(flap.every * percent / 100, Happening::Flap { device: id.clone(), flap });
    }

    pub(super) fn end_life(&mut self, id: &DeviceId, ending: Ending) {
        self.lose_link(id);
        self.with_device(id, |device, now| device.end(ending, now));
    }

    /// Power that failed in the middle of something comes back after half a minute.
    fn after_power_cut(&mut self, id: &DeviceId) {
        let Some(inhabitant) = self.fleet.get(id) else { return };
        if inhabitant.device.is_on() || inhabitant.dead || !inhabitant.link.up {
            return;
        }
        self.note(Detail::Milestones, || format!("power fails at {id}"));
        self.lose_link(id);
        self.after(Duration::from_secs(30), Happening::PowerBack(id.clone()));
    }

    /// A device that wants to be woken at once, again and again, would stop time.
    fn guard_against_spinning(&mut self, id: &DeviceId) {
        self.oracle.count_wake(id, self.now);
        if let Some(violation) = self.oracle.spins(id) {
            self.violation.get_or_insert(violation);
        }
    }

    pub(super) fn server_tick(&self) -> Option<Timestamp> {
        if self.office.closed {
            return None;
        }
        let ahead = self.office.ahead_ms;
        self.server.next_tick().map(|at| Timestamp(at.as_millis().saturating_add_signed(-ahead)))
    }

    pub(super) fn server_now(&self) -> Timestamp {
        Timestamp(self.now.as_millis().saturating_add_signed(self.office.ahead_ms))
    }

    /// Lets the server do something, unless it is away; then carries away what it says, and lets the oracle look.
    pub(super) fn server_turn<T>(&mut self, act: impl FnOnce(&mut Server, Timestamp) -> T) -> Option<T> {
        if self.office.closed {
            return None;
        }
        let now = self.server_now();
        let before = self.office.dies.map(|_| self.server.clone());
        if self.random.chance(REWRITE_PPM) {
            self.server.rewrite_in_next_turn();
        }
        self.server.set_time(now);
        let result = act(&mut self.server, now);
        if let (Some(before), Some(death)) = (before, self.office.dies)
            && self.server.has_changed()
        {
            self.die_in_turn(before, death);
            return None;
        }
        self.carry_down();
        self.let_oracle_look();
        Some(result)
    }

    fn die_in_turn(&mut self, before: Server, death: Death) {
        self.office.dies = None;
        self.note(Detail::Milestones, || format!("the server dies in a turn, {death:?}"));
        let messages = self.server.take_messages();
        match death {
            // A server that speaks before it stores has said what it then does not know.
            Death::BeforeCommit => {
                let too_early = self.server.is_hasty();
                self.server = before;
                for (device, message) in messages.into_iter().filter(|_| too_early) {
                    let session = self.fleet.get(&device).map_or(0, |it| it.link.session);
                    self.deliver(&device, session, message);
                }
            }
            Death::AfterCommit => self.let_oracle_look(),
        }
        self.close_office(20);
    }

    pub(super) fn let_oracle_look(&mut self) {
        let news = News::of(&mut self.server);
        self.note_standings();
        self.tell_news(&news);
        let now = self.server_now();
        if let Err(violation) = self.oracle.look_at_server(&self.server, &news, now) {
            self.violation.get_or_insert(violation);
        }
        if self.redrive_at.is_none() && self.server.is_anybody_lagging() {
            self.redrive_at = Some(self.now + super::REDRIVE_EVERY);
        }
    }

    fn tell_news(&mut self, news: &News) {
        for (spec, plan) in &news.plans {
            for line in plan_in_words(plan) {
                self.note(Detail::Milestones, || format!("{} {line}", spec.id));
            }
        }
        for (id, event) in &news.events {
            match sentence(event, BEGIN) {
                Some(line) => self.note(Detail::Milestones, || format!("{id} {line}")),
                None => self.note(Detail::Everything, || format!("{id} {event:?}")),
            }
        }
    }

    pub(super) fn close_office(&mut self, for_secs: u64) {
        if self.office.closed {
            return;
        }
        self.office.closed = true;
        self.redrive_at = None;
        let devices: Vec<DeviceId> = self.fleet.keys().cloned().collect();
        for device in devices {
            self.lose_link(&device);
            self.redial(&device, 1, DIAL_SECS);
        }
        self.after(Duration::from_secs(for_secs), Happening::ServerBack);
    }

    pub(super) fn open_office(&mut self) {
        if !self.office.closed {
            return;
        }
        self.office.closed = false;
        self.office.ahead_ms = self.office.next_ahead_ms;
        self.server.restart();
        self.server.forget_connections();
        self.note(Detail::Everything, || "the server is back".into());
        self.let_oracle_look();
    }

    /// Faults cease: the network is perfect, clocks are right, and everybody who lives starts and dials anew.
    pub(super) fn calm(&mut self) {
        self.note(Detail::Milestones, || "faults cease".into());
        self.network = Network::default();
        self.office = Office { closed: true, ..Office::default() };
        let devices: Vec<DeviceId> = self.fleet.keys().cloned().collect();
        for id in devices {
            let Some(inhabitant) = self.fleet.get_mut(&id) else { continue };
            inhabitant.link.cut = false;
            inhabitant.device.set_clock(0);
            if inhabitant.device.is_on() {
                self.end_life(&id, Ending::Stopped);
            }
            self.after_secs(1, DIAL_SECS, Happening::PowerBack(id));
        }
        self.open_office();
    }
}
