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
mod under_way;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use agent_store::{
    disk::Disk,
    spool::{Bounds, Spool},
};
use shared::{
    message::Limits,
    sketch::SketchMessage,
    telemetry::{Delivery, DriftAlarm, Telemetry},
};
use tokio::sync::oneshot;

use super::budget::{Budget, Purpose};
use crate::{clock::Clock, daemon::outgoing::Outgoing};
use line::{Line, Sketches};
use opening::open_spool;
#[cfg(test)]
pub(in crate::daemon) use opening::tests::FailsOnce;
pub(in crate::daemon) use under_way::Name;
use under_way::{UnderWay, alarms_in};

/// Letters that may wait while the disk is busy: windows of a minute at the shortest interval.
const LETTERS: usize = 64;

/// What waits this long without acknowledgement is flushed: a power cut then costs the windows of these seconds, and
/// a device that is connected never flushes.
const FLUSH_AFTER: Duration = Duration::from_secs(10);

/// What a window costs beside its payload: topic, packet and record headers, and the two acknowledgements.
const OVERHEAD_BYTES: u64 = 320;

/// Windows do not get longer than this, however scarce the budget: it is what a power cut may cost.
const LONGEST_WINDOW: Duration = Duration::from_secs(600);

/// Alarms of drift that the server has and nobody has asked for yet. Those beyond are told once more.
const MAX_TOLD_ALARMS: usize = 1_024;

/// How often a used up budget is looked at: the day ends at a moment that a clock which is set may change.
const BUDGET_AGAIN: Duration = Duration::from_secs(600);

const DAY: Duration = Duration::from_secs(86_400);

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

/// What the thread owns.
struct Round<D: Disk> {
    spool: Spool<D>,
    budget: Budget<D>,
    shared: Arc<Mutex<Shared>>,
    interval: Duration,
    outgoing: Outgoing,
    clock: Clock,
    connection: Option<u64>,
    under_way: UnderWay,
    /// Read from the spool, and not sent yet.
    line: Line,
    /// When what lies in the spool is to be flushed.
    flush_at: Option<Instant>,
    /// What windows of telemetry cost of late, with what else was sent since the one before.
    cost_bytes: u64,
    /// What was sent since the last of them.
    since_window_bytes: u64,
    in_memory: bool,
    /// What the budget has paid in this turn.
    paid: Paid,
}

/// What the budget pays. Whatever it does not pay waits, and is not asked about again in the same turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Paid {
    Nothing,
    /// And no windows of features.
    Telemetry,
    Everything,
}

impl<D: Disk> Round<D> {
    fn new(
        spool: Spool<D>,
        budget: Budget<D>,
        shared: Arc<Mutex<Shared>>,
        interval: Duration,
        outgoing: Outgoing,
        clock: Clock,
    ) -> Self {
        let mut round = Self {
            spool,
            budget,
            shared,
            interval,
            outgoing,
            clock,
            connection: None,
            under_way: UnderWay::default(),
            line: Line::default(),
            flush_at: None,
            cost_bytes: 0,
            since_window_bytes: 0,
            in_memory: false,
            paid: Paid::Everything,
        };
        round.show();
        round
    }

    fn run(mut self, letters: &Receiver<Letter>) {
        loop {
            let wait = self.next_look().map_or(DAY, |at| at.saturating_duration_since(Instant::now()));
            match letters.recv_timeout(wait) {
                Ok(Letter::Finish(done)) => return self.finish(done),
                Ok(letter) => self.read(letter, Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.turn(Instant::now());
        }
    }

    fn read(&mut self, letter: Letter, now: Instant) {
        match letter {
            Letter::Window(window) => match serde_json::to_vec(&window) {
                Ok(bytes) => self.keep(bytes, now),
                Err(error) => tracing::error!(%error, "a window has no JSON form"),
            },
            Letter::Sketch(message) => self.keep(message, now),
            Letter::Stored(name) => {
                if let Some((number, payload)) = self.under_way.stored(&name) {
                    self.spool.acknowledge(number);
                    self.note_told(alarms_in(&payload));
                }
            }
            Letter::Limits(limits) => {
                if self.budget.adopt(limits) {
                    tracing::info!(limits = ?self.budget.limits(), "the server has set other limits");
                }
            }
            Letter::Transferred(bytes) => {
                self.budget.add(Purpose::Transfers, bytes);
            }
            Letter::Look | Letter::Finish(_) => {}
        }
    }

    fn keep(&mut self, bytes: Vec<u8>, now: Instant) {
        let kept = self.spool.append(bytes);
        self.flush_at.get_or_insert(now + FLUSH_AFTER);
        let refused = kept.is_err();
        if refused && !self.in_memory {
            let error = kept.err().map(|error| error.to_string()).unwrap_or_default();
            tracing::warn!(error, "the disk takes no telemetry; it waits in memory");
        } else if !refused && self.in_memory {
            tracing::info!("the disk takes telemetry again");
        }
        self.in_memory = refused;
    }

    fn note_told(&self, alarms: Vec<DriftAlarm>) {
        let told = &mut lock(&self.shared).told;
        let room = MAX_TOLD_ALARMS.saturating_sub(told.len());
        told.extend(alarms.into_iter().take(room));
    }

    /// Flushes, sends and shows what there is.
    fn turn(&mut self, now: Instant) {
        let turned_away = std::mem::take(&mut lock(&self.shared).turned_away);
        self.spool.count_lost(turned_away);
        self.budget.begin_day(self.clock.now());
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
        self.follow_connection(now);
        self.paid = Paid::Everything;
        if self.connection.is_some() {
            self.give_up_sketches();
            self.send_again(now);
            self.send_more(now);
        }
        self.show();
    }

    fn follow_connection(&mut self, now: Instant) {
        let connection = lock(&self.shared).connection;
        if connection != self.connection && connection.is_some() {
            self.under_way.drop_before(self.spool.first_waiting());
            self.under_way.again_at_once(now);
        }
        self.connection = connection;
    }

    fn flush(&mut self) {
        self.flush_at = None;
        if self.spool.is_at_risk()
            && let Err(error) = self.spool.sync()
        {
            tracing::warn!(%error, "telemetry was not flushed to the disk");
        }
    }

    fn give_up_sketches(&mut self) {
        let unwanted = self.under_way.give_up_sketches();
        if unwanted.is_empty() {
            return;
        }
        let waiting = self.line.give_up_sketches(&mut self.spool);
        tracing::warn!(
            windows = unwanted.len() + waiting.len(),
            "the server takes telemetry and no windows of features; they are dropped"
        );
        self.spool.give_up_all(unwanted.into_iter().chain(waiting));
    }

    fn send_again(&mut self, now: Instant) {
        while self.paid > Paid::Nothing
            && let Some(place) = self.under_way.due(now, self.sketches())
        {
            let payload = self.under_way.payload(place);
            if self.pay(&payload) {
                self.outgoing.window(payload);
                self.under_way.sent_again(place, now);
            } else if self.is_never_paid(&payload) {
                let number = self.under_way.take(place);
                self.give_up(number);
            }
        }
    }

    fn send_more(&mut self, now: Instant) {
        while self.paid > Paid::Nothing && self.under_way.has_room() {
            let sketches =
                if self.under_way.has_room_for_sketches() { self.sketches() } else { Sketches::StepAside };
            let Some(record) = self.line.next(&mut self.spool, sketches) else { break };
            let Some(name) = under_way::name_of(&record.bytes) else {
                tracing::warn!(number = record.number, "a window of the spool cannot be read and is dropped");
                self.spool.give_up(record.number);
                continue;
            };
            if self.pay(&record.bytes) {
                let payload = bytes::Bytes::from(record.bytes);
                self.outgoing.window(payload.clone());
                self.under_way.add(record.number, name, payload, now);
            } else if self.is_never_paid(&record.bytes) {
                self.give_up(record.number);
            } else {
                self.line.put_back(record);
            }
        }
    }

    fn sketches(&self) -> Sketches {
        if self.paid == Paid::Everything { Sketches::HaveRoom } else { Sketches::StepAside }
    }

    /// Pays a sending. Windows of features leave telemetry its share; telemetry may use up everything.
    fn pay(&mut self, payload: &[u8]) -> bool {
        let (cost, is_sketch) = (cost_of(payload), SketchMessage::is_one(payload));
        let share = if is_sketch { self.share_of_telemetry() } else { 0 };
        let is_paid = self.budget.spend(Purpose::Telemetry, cost, share);
        if is_paid {
            self.note_cost(cost, is_sketch);
        } else if is_sketch && !self.is_never_paid(payload) {
            self.paid = self.paid.min(Paid::Telemetry);
        } else if !is_sketch {
            self.paid = Paid::Nothing;
        }
        is_paid
    }

    /// What is kept for the telemetry of the rest of the day: half of the budget for a whole one. What it has not used of its
    /// half so far is anybody's.
    fn share_of_telemetry(&self) -> u64 {
        let half = self.budget.limits().telemetry_bytes_per_day.unwrap_or(0) / 2;
        let share = half as f64 * self.rest_of_day().as_secs_f64() / DAY.as_secs_f64();
        // Positive, and not more than half a limit.
        share.round() as u64
    }

    /// Whether this is a window of features that costs more than its kind may cost on a whole day. A budget of nothing says
    /// that nothing is wanted for now, and no window is too large for it.
    fn is_never_paid(&self, payload: &[u8]) -> bool {
        let limit = self.budget.limits().telemetry_bytes_per_day.filter(|limit| *limit > 0);
        SketchMessage::is_one(payload) && limit.is_some_and(|limit| cost_of(payload) > limit - limit / 2)
    }

    fn give_up(&mut self, number: u64) {
        tracing::warn!(
            number,
            "a window of features costs more than half of a day's budget of telemetry and is dropped"
        );
        self.spool.give_up(number);
    }

    /// Only the length of windows of telemetry follows the budget, so what windows of features cost is put to the next of them.
    fn note_cost(&mut self, cost: u64, is_sketch: bool) {
        self.since_window_bytes += cost;
        if is_sketch {
            return;
        }
        let cost = std::mem::take(&mut self.since_window_bytes);
        self.cost_bytes = if self.cost_bytes == 0 { cost } else { (7 * self.cost_bytes + cost) / 8 };
    }

    fn show(&mut self) {
        let waiting = self.spool.waiting();
        let (window, has_all) = (self.window(), self.has_all());
        let mut shared = lock(&self.shared);
        (shared.window, shared.has_all) = (window, has_all);
        shared.transfer_bytes_left = self.budget.left(Purpose::Transfers);
        shared.delivery = Delivery {
            windows_lost: waiting.lost,
            windows_waiting: waiting.records,
            waiting_bytes: waiting.size_bytes,
            in_memory: waiting.in_memory,
            telemetry_bytes_today: self.budget.spent(Purpose::Telemetry),
            transfer_bytes_today: self.budget.spent(Purpose::Transfers),
            limits_revision: self.budget.limits().revision,
        };
    }

    /// Whether the server has every window of telemetry. Without a connection that is not worth to be read from the disk.
    fn has_all(&mut self) -> bool {
        let is_connected = self.connection.is_some();
        is_connected && !self.under_way.has_telemetry() && !self.line.has_telemetry(&mut self.spool)
    }

    /// How long windows are to be so that what is left of the budget lasts until midnight.
    fn window(&self) -> Duration {
        let Some(left) = self.budget.left(Purpose::Telemetry) else { return Duration::ZERO };
        let cost = self.cost_bytes.max(OVERHEAD_BYTES);
        let windows = u32::try_from(left / cost).unwrap_or(u32::MAX);
        let lasting = self.rest_of_day().checked_div(windows).unwrap_or(LONGEST_WINDOW).min(LONGEST_WINDOW);
        if lasting > self.interval { lasting } else { Duration::ZERO }
    }

    /// Until midnight UTC.
    fn rest_of_day(&self) -> Duration {
        let since_midnight =
            self.clock.now().as_millis() % u64::try_from(DAY.as_millis()).unwrap_or(u64::MAX);
        DAY.saturating_sub(Duration::from_millis(since_midnight))
    }

    /// When there is something to do without a letter.
    fn next_look(&self) -> Option<Instant> {
        let again = (self.paid < Paid::Everything).then(|| Instant::now() + BUDGET_AGAIN);
        let due = (self.paid > Paid::Nothing).then(|| self.under_way.next_due(self.sketches())).flatten();
        let send = again.into_iter().chain(due).min().filter(|_| self.connection.is_some());
        self.flush_at.into_iter().chain(send).min()
    }

    fn finish(mut self, done: oneshot::Sender<()>) {
        self.turn(Instant::now());
        self.flush();
        // Whoever waits may have given up.
        let _ = done.send(());
    }
}

/// What sending a window costs.
fn cost_of(payload: &[u8]) -> u64 {
    payload.len() as u64 + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
