//! Tells a story to devices that are there: what they run before it, its acts in time, what the server says meanwhile.

mod fault;
mod prelude;

use std::{collections::VecDeque, time::Duration};

use fleet_core::{Event, Selector, Strategy};
use futures_util::future::join_all;
use muster_sim::{Crowd, LiveAct, LiveStory, Member, Moment, Steady, Who, sentence};
use shared::{ReleaseId, RolloutId};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{life::Order as DeviceOrder, people::People, server::Server, summary::Finished, teller::Teller};
use crate::{
    api::{Order, RolloutView},
    cli::Failure,
};

use fault::order_of;

/// How often the server is asked what happened.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Of more devices than this, a person is not told every step.
const FEW_DEVICES: usize = 20;

/// Everybody who takes part.
pub(super) struct Stage<'a> {
    pub(super) story: &'a LiveStory,
    pub(super) crowd: &'a Crowd,
    pub(super) people: &'a People,
    pub(super) server: &'a mut Server,
    pub(super) teller: &'a mut Teller,
    /// The ways to the devices, class by class.
    pub(super) devices: &'a [Vec<mpsc::Sender<DeviceOrder>>],
    pub(super) rollouts: Vec<Watched>,
}

/// A rollout that is followed.
pub(super) struct Watched {
    name: RolloutId,
    id: String,
    started: Instant,
    /// When it was seen to be over, and how it stood then: a newer rollout may take its devices over.
    over: Option<(Instant, RolloutView)>,
    /// The last event that was told.
    seen: u64,
}

/// What is left to happen.
struct Due {
    at: Instant,
    moment: Moment,
    what: What,
}

enum What {
    Act(LiveAct),
    /// The end of an outage.
    Reconnect(Who),
}

impl Stage<'_> {
    /// Tells the story until everything has happened and every rollout is over, or until its end.
    pub(super) async fn tell(&mut self) -> anyhow::Result<Vec<Finished>> {
        self.teller.begin();
        let begin = Instant::now();
        for (class, it) in self.crowd.classes.iter().enumerate() {
            if it.story.character == Steady::Mute {
                let members: Vec<_> = (0..it.members.len()).map(|member| (class, member)).collect();
                self.order(&members, DeviceOrder::Mute).await;
            }
        }
        let mut due = self.schedule(begin);
        let end = begin + Duration::from_secs(self.story.end.secs);
        let mut look = begin + LOOK_EVERY;
        loop {
            let next = due.front().map_or(end, |due| due.at);
            sleep_until(next.min(look).min(end)).await;
            let now = Instant::now();
            while due.front().is_some_and(|due| due.at <= now) {
                let Some(Due { moment, what, .. }) = due.pop_front() else { break };
                self.perform(moment, what, begin).await;
            }
            if now >= look {
                self.look().await?;
                look = Instant::now() + LOOK_EVERY;
            }
            let over = !self.rollouts.is_empty() && self.rollouts.iter().all(|it| it.over.is_some());
            if now >= end || (due.is_empty() && over) {
                break;
            }
        }
        self.look().await?;
        self.finish().await
    }

    fn schedule(&self, begin: Instant) -> VecDeque<Due> {
        let at = |moment: Moment| begin + Duration::from_secs(moment.secs);
        let mut due: Vec<Due> = vec![];
        for timed in &self.story.acts {
            if let LiveAct::Outage { devices, for_secs } = &timed.act {
                let moment = Moment::of_secs(timed.at.secs + for_secs);
                due.push(Due { at: at(moment), moment, what: What::Reconnect(devices.clone()) });
            }
            due.push(Due { at: at(timed.at), moment: timed.at, what: What::Act(timed.act.clone()) });
        }
        // Stable, so that acts of one moment happen in the order in which they are written.
        due.sort_by_key(|due| due.moment);
        due.into()
    }

    async fn perform(&mut self, moment: Moment, what: What, begin: Instant) {
        let act = match what {
            What::Act(act) => act,
            What::Reconnect(devices) => LiveAct::Reconnect { devices },
        };
        match act {
            LiveAct::Start { rollout, release, devices, strategy } => {
                self.start(rollout, &release, &devices, *strategy).await;
            }
            LiveAct::Pause { rollout } => self.give(&rollout, Order::Pause, "pauses").await,
            LiveAct::Resume { rollout } => self.give(&rollout, Order::Resume, "resumes").await,
            LiveAct::Promote { rollout } => self.give(&rollout, Order::Promote, "promotes").await,
            LiveAct::Retry { rollout } => self.give(&rollout, Order::Retry, "asks again in").await,
            LiveAct::Halt { rollout } => self.give(&rollout, Order::Halt, "halts").await,
            LiveAct::RollBack { rollout } => self.give(&rollout, Order::Rollback, "rolls back").await,
            fault => self.befall(moment, &fault, begin).await,
        }
    }

    async fn befall(&mut self, moment: Moment, act: &LiveAct, begin: Instant) {
        let (Some(who), Some((order, words))) = (act.devices(), order_of(act, begin)) else { return };
        let members = self.crowd.who(who);
        let whom = match &members[..] {
            [one] => self.crowd.id(*one).to_string(),
            many => format!("{} devices", many.len()),
        };
        tracing::debug!(%moment, %whom, ?order, "something befalls devices");
        self.teller.milestone(&format!("{whom} {words}"));
        self.order(&members, order).await;
    }

    async fn order(&self, members: &[Member], order: DeviceOrder) {
        // A device whose task is gone takes no orders, and is told of at the end.
        let sends = members.iter().map(|(class, member)| self.devices[*class][*member].send(order));
        join_all(sends).await;
    }

    async fn start(&mut self, name: RolloutId, release: &ReleaseId, devices: &Selector, strategy: Strategy) {
        self.teller.milestone(&format!("a person starts {name}: {release} to {devices}"));
        match self.people.start(release, devices, strategy).await {
            Ok(id) => {
                self.rollouts.push(Watched { name, id, started: Instant::now(), over: None, seen: 0 });
            }
            Err(failure) => self.teller.milestone(&format!("{name} cannot be started: {}", failure.message)),
        }
    }

    async fn give(&mut self, name: &RolloutId, order: Order, verb: &str) {
        let Some(watched) = self.rollouts.iter().find(|it| it.name == *name) else {
            return self.teller.milestone(&format!("nobody {verb} {name}, which was not started"));
        };
        match self.people.order(&watched.id, order).await {
            Ok(()) => self.teller.milestone(&format!("a person {verb} {name}")),
            Err(failure) => self.teller.milestone(&format!("nobody {verb} {name}: {}", failure.message)),
        }
    }

    /// Tells what happened since the last look.
    async fn look(&mut self) -> anyhow::Result<()> {
        self.server.check_alive()?;
        if self.rollouts.is_empty() {
            return Ok(());
        }
        let summaries = self.people.rollouts().await.map_err(told)?;
        for at in 0..self.rollouts.len() {
            self.tell_events(at).await?;
            let watched = &mut self.rollouts[at];
            if !summaries.iter().any(|it| it.id == watched.id && it.finished) {
                // A person may order something of a rollout that was over.
                watched.over = None;
            } else if watched.over.is_none() {
                let view = self.people.rollout(&watched.id).await.map_err(told)?;
                watched.over = view.finished.then(|| (Instant::now(), view));
            }
        }
        Ok(())
    }

    async fn tell_events(&mut self, at: usize) -> anyhow::Result<()> {
        let few = self.crowd.len() <= FEW_DEVICES;
        loop {
            let Watched { name, id, seen, .. } = &self.rollouts[at];
            let (name, events) = (name.clone(), self.people.events(id, *seen).await.map_err(told)?);
            let Some(last) = events.last() else { return Ok(()) };
            self.rollouts[at].seen = last.sequence;
            for event in events {
                let of_device =
                    matches!(event.document, Event::DeviceProgressed { .. } | Event::DeviceRestored { .. });
                match sentence(&event.document, self.teller.begun()) {
                    Some(text) if few || !of_device => self.teller.milestone(&format!("{name} {text}")),
                    Some(text) => self.teller.detail(event.at, &format!("{name} {text}")),
                    None => {}
                }
            }
        }
    }

    async fn finish(&mut self) -> anyhow::Result<Vec<Finished>> {
        let mut finished = vec![];
        for Watched { name, id, started, over, .. } in std::mem::take(&mut self.rollouts) {
            let (at, view) = match over {
                Some(over) => over,
                None => (Instant::now(), self.people.rollout(&id).await.map_err(told)?),
            };
            finished.push(Finished { name, view, seconds: at.duration_since(started).as_secs_f64() });
        }
        Ok(finished)
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
pub(super) fn told(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!("{failure}")
}
