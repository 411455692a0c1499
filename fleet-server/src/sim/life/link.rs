//! The link of a device: down, waiting, dialling or up.

use std::{pin::Pin, sync::atomic::Ordering};

use tokio::time::{Instant, sleep_until};

use super::{Counters, Life};
use crate::sim::session::{Incoming, Lost, Session};

/// Where it stands.
pub(super) enum Link {
    /// Nobody dials: it is cut, or there is no power.
    Down,
    /// It is dialled at this moment.
    Waiting(Instant),
    /// Somebody dials.
    Dialling(Pin<Box<dyn Future<Output = Result<Box<Session>, Lost>> + Send>>),
    /// It stands.
    Up(Box<Session>),
}

/// What came of it.
pub(super) enum News {
    /// It is time.
    TimeToDial,
    /// There is a session, or none.
    Dialled(Result<Box<Session>, Lost>),
    /// A message came, or something else, or nothing will any more.
    Came(Result<Option<Incoming>, Lost>),
}

impl Link {
    /// The next news. Nothing is lost when this is dropped while it waits.
    pub(super) async fn next(&mut self) -> News {
        match self {
            Self::Down => std::future::pending().await,
            Self::Waiting(until) => {
                sleep_until(*until).await;
                News::TimeToDial
            }
            Self::Dialling(dialling) => News::Dialled(dialling.as_mut().await),
            Self::Up(session) => News::Came(session.next().await),
        }
    }
}

impl Life {
    pub(super) fn dial(&mut self) {
        let (surroundings, identity) = (self.surroundings.clone(), self.identity.clone());
        let (device, link_kib) = (self.device.id().clone(), self.link_kib);
        self.link = Link::Dialling(Box::pin(async move {
            // The semaphore lives as long as the surroundings and is never closed.
            let _place = surroundings.dials.acquire().await;
            Session::open(&surroundings.fleet, &device, &identity, link_kib).await.map(Box::new)
        }));
    }

    /// Dials again after a while, as agents wait; never while the link is cut or there is no power.
    pub(super) fn redial(&mut self) {
        if self.cut || !self.device.is_on() {
            self.link = Link::Down;
            return;
        }
        let dice = u32::try_from(self.random.below(u64::from(u32::MAX))).unwrap_or(0);
        let wait = self.surroundings.backoff.delay(self.attempts, dice);
        self.attempts = self.attempts.saturating_add(1);
        self.link = Link::Waiting(Instant::now() + wait);
    }

    pub(super) fn lose_link(&mut self, why: &Lost) {
        tracing::debug!(device.id = %self.device.id(), %why, "a virtual device lost its session");
        self.drop_link();
        self.redial();
    }

    /// Ends the session without a goodbye, as a broken link does.
    pub(super) fn drop_link(&mut self) {
        if let Link::Up(_) = std::mem::replace(&mut self.link, Link::Down) {
            let counters = &self.surroundings.counters;
            counters.connected.fetch_sub(1, Ordering::Relaxed);
            Counters::count(&counters.breaks);
            self.device.disconnected(self.now());
        }
    }
}
