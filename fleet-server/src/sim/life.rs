//! The life of one virtual device before a real server: one task that owns the device and its session.
//!
//! Turn by turn: something comes (a packet, an order of the story, a moment), the device hears of it, and what it says
//! then is sent. The device knows no network; what it may believe is checked here, see [`inbox`].

mod figures;
mod inbox;
mod link;
mod order;
mod surroundings;

use std::{sync::Arc, time::Duration};

use muster_sim::{Ending, Profile, Random, Up, VirtualDevice};
use rumqttc::v5::mqttbytes::QoS;
use shared::{
    DeviceId, ReleaseId, Timestamp,
    message::StateMessage,
    topic::{self, Topic},
    trust::Signed,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::identity::Identity;

use figures::Figures;
use link::{Link, News};
pub(super) use order::Order;
pub(super) use surroundings::{Counters, Surroundings};

/// Orders that wait for a device; it takes each at once.
pub(super) const ORDERS: usize = 4;

/// Power that failed comes back after this long, as in virtual time.
const POWER_BACK: Duration = Duration::from_secs(30);

/// Nothing is due for longer than this without a look at the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What a device is born with.
pub(super) struct Birth {
    pub(super) profile: Profile,
    pub(super) identity: Identity,
    pub(super) catalog: Arc<muster_sim::Catalog>,
    pub(super) link_kib: Option<u32>,
    pub(super) damage_ppm: u32,
    pub(super) telemetry: Option<Duration>,
}

/// How a life stood at its end.
pub(super) struct Ended {
    pub(super) device: DeviceId,
    pub(super) connected: bool,
    /// What it keeps.
    pub(super) keeps: Vec<ReleaseId>,
    /// What of it no device may keep.
    pub(super) bad: Vec<ReleaseId>,
}

/// A device, what it shows, and what happens to it.
pub(super) struct Life {
    // Who it is.
    device: VirtualDevice,
    identity: Arc<Identity>,
    link_kib: Option<u32>,
    damage_ppm: u32,
    surroundings: Arc<Surroundings>,

    // Inputs.
    orders: mpsc::Receiver<Order>,
    random: Random,

    // State.
    link: Link,
    /// Attempts to connect in vain, since the last that was not.
    attempts: u32,
    cut: bool,
    mute: bool,
    dead: bool,
    power_back: Option<Instant>,
    flap: Option<order::Flap>,
    figures: Figures,
}

enum Happened {
    Order(Order),
    Due,
    Link(News),
    Over,
}

impl Life {
    pub(super) fn new(birth: Birth, surroundings: Arc<Surroundings>, orders: mpsc::Receiver<Order>) -> Self {
        let now = surroundings.clock.now();
        let mut random = Random::new(birth.profile.seed);
        let figures = Figures::new(birth.telemetry, now, &mut random);
        Self {
            device: VirtualDevice::new(birth.profile, birth.catalog, now),
            identity: Arc::new(birth.identity),
            link_kib: birth.link_kib,
            damage_ppm: birth.damage_ppm,
            surroundings,
            orders,
            random,
            link: Link::Waiting(Instant::now()),
            attempts: 0,
            cut: false,
            mute: false,
            dead: false,
            power_back: None,
            flap: None,
            figures,
        }
    }

    /// Lives until nobody gives orders any more.
    pub(super) async fn live(mut self) -> Ended {
        loop {
            let due = self.next_due();
            let happened = tokio::select! {
                order = self.orders.recv() => order.map_or(Happened::Over, Happened::Order),
                () = sleep_until(due) => Happened::Due,
                news = self.link.next() => Happened::Link(news),
            };
            match happened {
                Happened::Order(order) => self.obey(order).await,
                Happened::Due => self.pass_time().await,
                Happened::Link(news) => self.hear(news).await,
                Happened::Over => return self.end().await,
            }
            self.say_what_waits().await;
            self.notice_power_cut();
        }
    }

    async fn end(mut self) -> Ended {
        let connected = self.device.is_online();
        if let Link::Up(session) = std::mem::replace(&mut self.link, Link::Down) {
            // Who cannot be told goodbye is gone anyway.
            let _ = session.goodbye().await;
        }
        let keeps: Vec<ReleaseId> =
            self.device.agent().model_states().into_iter().filter_map(|state| state.committed).collect();
        let bad = keeps.iter().filter(|release| self.device.nature_of(release).is_bad()).cloned().collect();
        Ended { device: self.device.id().clone(), connected, keeps, bad }
    }

    fn now(&self) -> Timestamp {
        self.surroundings.clock.now()
    }

    fn next_due(&self) -> Instant {
        let now = Instant::now();
        let device = self.device.poll_timeout().map(|at| now + at.since(self.now()));
        let session = match &self.link {
            Link::Up(session) => Some(session.poll_timeout()),
            Link::Down | Link::Waiting(_) | Link::Dialling(_) => None,
        };
        let speaks = self.device.is_online() && !self.mute;
        let figures = self.figures.due().filter(|_| speaks);
        let flap = self.flap.as_ref().map(|flap| flap.next);
        let all = [device, session, figures, flap, self.power_back];
        all.into_iter().flatten().min().unwrap_or(now + LONGEST_WAIT).min(now + LONGEST_WAIT)
    }

    /// Does whatever is due by now; harmless at any other moment.
    async fn pass_time(&mut self) {
        let now = Instant::now();
        if self.power_back.is_some_and(|at| at <= now) {
            self.power_back = None;
            self.start();
        }
        if self.flap.as_ref().is_some_and(|flap| flap.next <= now) {
            self.flap(now);
        }
        if self.device.poll_timeout().is_some_and(|at| at <= self.now()) {
            self.device.wake(self.now());
        }
        self.tell_figures(now).await;
        if let Link::Up(session) = &mut self.link
            && session.poll_timeout() <= now
            && let Err(lost) = session.keep_alive().await
        {
            self.lose_link(&lost);
        }
    }

    async fn hear(&mut self, news: News) {
        match news {
            News::TimeToDial => self.dial(),
            News::Dialled(Ok(session)) => {
                self.attempts = 0;
                self.link = Link::Up(session);
                let counters = &self.surroundings.counters;
                Counters::count(&counters.connects);
                Counters::count(&counters.connected);
                self.device.connected(self.now());
            }
            News::Dialled(Err(lost)) => {
                self.surroundings.counters.failed(&lost);
                self.redial();
            }
            News::Came(Ok(Some(message))) => {
                if let Link::Up(session) = &mut self.link
                    && let Err(lost) = session.acknowledge(&message).await
                {
                    return self.lose_link(&lost);
                }
                if let Some(message) = self.open(&message) {
                    self.device.receive(message, self.now());
                }
            }
            News::Came(Ok(None)) => {}
            News::Came(Err(lost)) => self.lose_link(&lost),
        }
    }

    async fn say_what_waits(&mut self) {
        while let Link::Up(session) = &mut self.link
            && session.has_room()
            && let Some(message) = self.device.poll_message()
        {
            if self.mute && !matches!(message, Up::Hello(_)) {
                continue;
            }
            let (up, qos, payload) = encode(&message, &self.identity);
            if matches!(message, Up::Report(_)) {
                Counters::count(&self.surroundings.counters.reports);
            }
            let topic = Topic::up(self.device.id().clone(), up).to_string();
            if let Err(lost) = session.publish(topic, qos, payload).await {
                return self.lose_link(&lost);
            }
        }
    }

    async fn tell_figures(&mut self, now: Instant) {
        if self.mute || self.figures.due().is_none_or(|due| due > now) {
            return;
        }
        let at = self.now();
        let telemetry = self.figures.take(&self.device, at, &mut self.random);
        let Link::Up(session) = &mut self.link else { return };
        if !session.has_room() {
            return;
        }
        let topic = Topic::up(self.device.id().clone(), topic::Up::Telemetry).to_string();
        let payload = serde_json::to_vec(&telemetry).expect("figures have a JSON form");
        Counters::count(&self.surroundings.counters.telemetry);
        if let Err(lost) = session.publish(topic, QoS::AtLeastOnce, payload).await {
            self.lose_link(&lost);
        }
    }

    fn start(&mut self) {
        self.device.restart(self.now());
        self.redial();
    }

    /// Power may fail in the middle of a turn, when the story has said so before.
    fn notice_power_cut(&mut self) {
        if !self.device.is_on() && !self.dead && self.power_back.is_none() {
            self.drop_link();
            self.power_back = Some(Instant::now() + POWER_BACK);
        }
    }

    fn end_life(&mut self, ending: Ending, back_in: Duration) {
        self.drop_link();
        self.device.end(ending, self.now());
        self.power_back = Some(Instant::now() + back_in);
    }
}

fn encode(message: &Up, identity: &Identity) -> (topic::Up, QoS, Vec<u8>) {
    let state = |message: &StateMessage| serde_json::to_vec(message).expect("messages have a JSON form");
    match message {
        Up::Hello(hello) => (topic::Up::State, QoS::AtLeastOnce, state(&StateMessage::Hello(hello.clone()))),
        Up::Report(report) => {
            let signed = Signed::sign(report, &[&identity.signer]).expect("a report has a canonical form");
            (topic::Up::State, QoS::AtLeastOnce, state(&StateMessage::Report(signed)))
        }
        Up::Request(request) => {
            let payload = serde_json::to_vec(request).expect("a request has a JSON form");
            (topic::Up::Request, QoS::AtMostOnce, payload)
        }
    }
}
