//! The thread that owns the spool and brings windows to the server: those of telemetry, and those of features
//! ([`drift`](crate::daemon::drift)), which wait in the same spool, in the order in which they came, for the same budget. A window
//! of features is known by its first byte; it leaves on a topic of its own and has acknowledgements of its own.
//!
//! A window goes to the disk first. From there a few are under way at a time; the next one leaves when one was
//! acknowledged, so a backlog flows as fast as the server commits, and not all at once when it is back. A window that is
//! not acknowledged in time is sent again, ever more rarely. Each sending is paid from the day's budget; when that is
//! used up, windows wait. To make it last, windows get longer while the budget is scarce. Windows of features leave half of it
//! to telemetry, so none of them stops it; what telemetry has not used of its half as the day goes on is theirs too.
//!
//! It is a thread and no task because a flush may take as long as the flash likes.

mod line;
mod opening;
mod round;
mod under_way;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use agent_store::{disk::Disk, spool::Bounds};
use shared::{
    message::Limits,
    telemetry::{Delivery, DriftAlarm, Telemetry},
};
use tokio::sync::oneshot;

use super::budget::Budget;
use crate::{clock::Clock, daemon::outgoing::Outgoing};
use opening::open_spool;
#[cfg(test)]
pub(in crate::daemon) use opening::tests::FailsOnce;
use round::Round;
pub(in crate::daemon) use under_way::Name;

/// Letters that may wait while the disk is busy: windows of a minute at the shortest interval.
const LETTERS: usize = 64;

/// What the courier is told.
pub(in crate::daemon) enum Letter {
    Window(Box<Telemetry>),
    /// A window of features, as it travels.
    Sketch(Vec<u8>),
    /// The connection has changed.
    Look,
    Stored(Name),
    Limits(Limits),
    /// Blocks came.
    Transferred(u64),
    Finish(oneshot::Sender<()>),
}

/// The way to the courier; cheap to clone.
#[derive(Clone)]
pub(in crate::daemon) struct Courier {
    letters: SyncSender<Letter>,
    shared: Arc<Mutex<Shared>>,
}

/// What became of alarms of drift.
#[derive(Debug, Default, PartialEq)]
pub(in crate::daemon) struct Told {
    /// Those that the server has stored since it was asked, with windows of this run and of earlier ones.
    pub(in crate::daemon) alarms: Vec<DriftAlarm>,
    /// No window waits any more that could tell another one.
    pub(in crate::daemon) is_all: bool,
}

/// What the courier lets others see.
#[derive(Debug, Default)]
struct Shared {
    delivery: Delivery,
    window: Duration,
    transfer_bytes_left: Option<u64>,
    /// Alarms of drift that the server has, since they were asked for.
    told: Vec<DriftAlarm>,
    /// Whether the server has all windows of telemetry, as far as they were given away.
    has_all: bool,
    /// Windows of features that found no room among the letters, since the courier looked.
    turned_away: u64,
    /// Number of the connection; `None` without one.
    connection: Option<u64>,
    connections: u64,
}

impl Courier {
    /// Starts the thread over the spool in `dir`. It ends with [`Courier::finish`], or when every handle is gone.
    pub(in crate::daemon) fn start<D: Disk>(
        disk: D,
        dir: PathBuf,
        bounds: Bounds,
        interval: Duration,
        outgoing: Outgoing,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let (courier, letters) = Self::detached(LETTERS);
        let shared = Arc::clone(&courier.shared);
        let run = move || match open_spool(&disk, &dir, bounds) {
            Ok(spool) => {
                let budget = Budget::open(disk, dir.join("budget.json"));
                Round::new(spool, budget, shared, interval, outgoing, clock).run(&letters);
            }
            Err(error) => {
                tracing::error!(%error, dir = %dir.display(), "the spool cannot be opened; there is no telemetry");
            }
        };
        std::thread::Builder::new().name("courier".into()).spawn(run)?;
        Ok(courier)
    }

    /// The two ends of the way, without a thread.
    pub(in crate::daemon) fn detached(letters: usize) -> (Self, Receiver<Letter>) {
        let (sender, receiver) = sync_channel(letters);
        (Self { letters: sender, shared: Arc::default() }, receiver)
    }

    /// Gives a window away; false when the courier is far behind or gone.
    pub(in crate::daemon) fn take(&self, window: Telemetry) -> bool {
        let is_taken = self.letters.try_send(Letter::Window(Box::new(window))).is_ok();
        lock(&self.shared).has_all &= !is_taken;
        is_taken
    }

    /// Gives a window of features away, as it travels; false when the courier is far behind or gone.
    pub(in crate::daemon) fn take_sketch(&self, message: Vec<u8>) -> bool {
        let is_taken = self.letters.try_send(Letter::Sketch(message)).is_ok();
        lock(&self.shared).turned_away += u64::from(!is_taken);
        is_taken
    }

    /// What became of alarms of drift since the last call.
    pub(in crate::daemon) fn told_alarms(&self) -> Told {
        let mut shared = lock(&self.shared);
        Told { alarms: std::mem::take(&mut shared.told), is_all: shared.has_all }
    }

    /// Tells something. What does not fit is told again by a time-out or by the next connection.
    pub(in crate::daemon) fn tell(&self, letter: Letter) {
        if self.letters.try_send(letter).is_err() {
            tracing::debug!("the courier is far behind and misses a letter");
        }
    }

    /// There is a new connection, or none any more. No letter is needed for it to be noticed.
    pub(in crate::daemon) fn connected(&self, connected: bool) {
        let mut shared = lock(&self.shared);
        shared.connections += u64::from(connected);
        shared.connection = connected.then_some(shared.connections);
        drop(shared);
        self.tell(Letter::Look);
    }

    /// Waits until everything that was given away is on the disk, and has left if it may.
    pub(in crate::daemon) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        if self.letters.try_send(Letter::Finish(done)).is_ok() {
            let _ = finished.await;
        }
    }

    /// How telemetry gets to the server, for the next window.
    pub(in crate::daemon) fn delivery(&self) -> Delivery {
        lock(&self.shared).delivery.clone()
    }

    /// How long a window shall be.
    pub(in crate::daemon) fn window(&self) -> Duration {
        lock(&self.shared).window
    }

    /// Bytes of blocks that may still come today; `None` without a bound.
    pub(in crate::daemon) fn transfer_bytes_left(&self) -> Option<u64> {
        lock(&self.shared).transfer_bytes_left
    }
}

/// The windows among the letters that wait.
#[cfg(test)]
pub(super) fn windows_in(letters: &Receiver<Letter>) -> impl Iterator<Item = Telemetry> + '_ {
    letters.try_iter().filter_map(|letter| match letter {
        Letter::Window(window) => Some(*window),
        _ => None,
    })
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
