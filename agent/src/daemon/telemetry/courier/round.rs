//! What the courier's thread does with each letter, and in between: it keeps, pays, sends, and shows how that goes.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use agent_store::{disk::Disk, spool::Spool};
use shared::{
    sketch::SketchMessage,
    telemetry::{Delivery, DriftAlarm},
};
use tokio::sync::oneshot;

use super::{
    Letter, Shared,
    line::{Line, Sketches},
    lock,
    under_way::{self, UnderWay, alarms_in},
};
use crate::{
    clock::Clock,
    daemon::{
        outgoing::Outgoing,
        telemetry::budget::{Budget, Purpose},
    },
};

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

/// What the thread owns.
pub(super) struct Round<D: Disk> {
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
    pub(super) fn new(
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

    pub(super) fn run(mut self, letters: &Receiver<Letter>) {
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
