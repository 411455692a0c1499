//! The handle that users hold, and the task that keeps a connection up behind it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::outbox::{Outbound, Outbox, Until};
use crate::session::{self, End, HELD, PACKET_OVERHEAD_BYTES};
use crate::{Event, LinkBytes, LinkError, LinkOptions, Message, Qos};

/// Messages that publishers may leave before they have to wait; with the packet limit a bound in bytes too.
const OUTBOX: usize = 32;

/// Events that the reader may be behind before the link holds back: two full credits of blocks.
const EVENTS: usize = 32;

/// A connection that lasted this long was a good one: the next attempt starts without the old back-off.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// And so was one that carried this much, however soon it ended: on a network that cuts every few seconds, blocks would
/// otherwise wait for minutes between connections that each bring some. A server that takes nothing is still spared.
const USEFUL_BYTES: u64 = 256 * 1024;

/// A link to a broker. Clones share it; it ends when all are gone, when it is stopped or cancelled, or when
/// nobody reads its events any more.
#[derive(Clone)]
pub struct Link {
    outbox: mpsc::Sender<Outbound>,
    shared: Arc<Shared>,
}

/// What the handle and the task both see.
pub(crate) struct Shared {
    // Inputs.
    pub(crate) cancel: CancellationToken,
    pub(crate) drain: CancellationToken,
    pub(crate) renew: Notify,
    max_packet_bytes: u32,
    // Outputs.
    pub(crate) bytes: LinkBytes,
    pub(crate) dropped: AtomicU64,
    pub(crate) online: AtomicBool,
    /// Number of the newest connection.
    pub(crate) connection: AtomicU64,
    pub(crate) server_max_packet_bytes: AtomicU32,
    tasks: TaskTracker,
}

impl Shared {
    /// Whether `message` fits into one packet, as far as we know the server's limit.
    pub(crate) fn fits(&self, message: &Message) -> Result<(), LinkError> {
        let limit = self.max_packet_bytes.min(self.server_max_packet_bytes.load(Ordering::Relaxed));
        let max_bytes = (limit as usize).saturating_sub(PACKET_OVERHEAD_BYTES);
        let size_bytes = message.topic.len() + message.payload.len();
        if size_bytes > max_bytes { Err(LinkError::TooLarge { size_bytes, max_bytes }) } else { Ok(()) }
    }
}

impl Link {
    /// Starts to connect, and keeps connected until `cancel`.
    #[must_use]
    pub fn start(options: LinkOptions, cancel: CancellationToken) -> (Self, mpsc::Receiver<Event>) {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let (events, reader) = mpsc::channel(EVENTS);
        let shared = Arc::new(Shared {
            cancel: cancel.child_token(),
            drain: CancellationToken::new(),
            renew: Notify::new(),
            max_packet_bytes: options.max_packet_bytes,
            bytes: LinkBytes::default(),
            dropped: AtomicU64::new(0),
            online: AtomicBool::new(false),
            connection: AtomicU64::new(0),
            server_max_packet_bytes: AtomicU32::new(u32::MAX),
            tasks: TaskTracker::new(),
        });
        let keeper = Keeper {
            options,
            shared: shared.clone(),
            inbox,
            events,
            outbox: Outbox::default(),
            backlog: VecDeque::new(),
        };
        shared.tasks.spawn(keeper.run());
        shared.tasks.close();
        (Self { outbox, shared }, reader)
    }

    /// Leaves a message to be sent, waiting for room.
    ///
    /// A QoS 1 message is then sent and repeated until the server acknowledged it; if the server refuses it,
    /// [`Event::Refused`] tells so. A QoS 0 message is sent once or lost.
    ///
    /// # Errors
    /// When it is too large, the link is stopped, or (QoS 0) there is no connection.
    pub async fn publish(&self, topic: impl Into<String>, qos: Qos, payload: Bytes) -> Result<(), LinkError> {
        if qos == Qos::AtMostOnce && !self.is_connected() {
            return Err(LinkError::Offline);
        }
        let until = match qos {
            Qos::AtMostOnce => self.end_of_this_connection(),
            Qos::AtLeastOnce => Until::Acknowledged,
        };
        self.leave(Message { topic: topic.into(), qos, payload }, until, None).await
    }

    /// Sends a QoS 1 message that is forgotten when this connection ends first: for a user who keeps it, repeats it,
    /// and pays for every byte.
    ///
    /// # Errors
    /// When it is too large, the link is stopped, or there is no connection.
    pub async fn offer(&self, topic: impl Into<String>, payload: Bytes) -> Result<(), LinkError> {
        if !self.is_connected() {
            return Err(LinkError::Offline);
        }
        let message = Message { topic: topic.into(), qos: Qos::AtLeastOnce, payload };
        self.leave(message, self.end_of_this_connection(), None).await
    }

    fn end_of_this_connection(&self) -> Until {
        Until::EndOf(self.shared.connection.load(Ordering::Acquire))
    }

    /// Sends a QoS 1 message and waits for its acknowledgement, over reconnects if need be.
    ///
    /// # Errors
    /// When it is too large, the server refused it, or the link was stopped first.
    pub async fn publish_acked(&self, topic: impl Into<String>, payload: Bytes) -> Result<(), LinkError> {
        let (done, answer) = oneshot::channel();
        let message = Message { topic: topic.into(), qos: Qos::AtLeastOnce, payload };
        self.leave(message, Until::Acknowledged, Some(done)).await?;
        answer.await.unwrap_or(Err(LinkError::Stopped))
    }

    async fn leave(
        &self,
        message: Message,
        until: Until,
        done: Option<oneshot::Sender<Result<(), LinkError>>>,
    ) -> Result<(), LinkError> {
        if self.shared.drain.is_cancelled() {
            return Err(LinkError::Stopped);
        }
        self.shared.fits(&message)?;
        self.outbox.send(Outbound { message, until, done }).await.map_err(|_| LinkError::Stopped)
    }

    /// Whether there is a connection with all its subscriptions just now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.online.load(Ordering::Acquire)
    }

    /// Bytes over this link, TLS included.
    #[must_use]
    pub fn bytes(&self) -> LinkBytes {
        self.shared.bytes.clone()
    }

    /// QoS 0 messages from the server that were dropped because the reader was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Gives up the present connection for a new one, without back-off: a new certificate takes effect.
    pub fn reconnect(&self) {
        self.shared.renew.notify_one();
    }

    /// Takes no more messages, waits up to `drain` until those taken are acknowledged, then says goodbye.
    pub async fn stop(&self, drain: Duration) {
        self.shared.drain.cancel();
        // Whatever did not get through by then is reported as stopped.
        let _ = tokio::time::timeout(drain, self.shared.tasks.wait()).await;
        self.shared.cancel.cancel();
        self.shared.tasks.wait().await;
    }
}

/// Keeps one connection up. It never waits for the reader, who may be waiting for it in a publish.
struct Keeper {
    options: LinkOptions,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Outbound>,
    events: mpsc::Sender<Event>,
    outbox: Outbox,
    backlog: VecDeque<Event>,
}

impl Keeper {
    async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let (started, carried) = (Instant::now(), self.carried_bytes());
            let (end, connected) = self.connect_once().await;
            if was_good(started.elapsed(), self.carried_bytes() - carried) {
                attempt = 0;
            }
            let renewed = matches!(end, End::Renewed);
            let Some(event) = report(end, connected) else { break };
            self.tell(event);
            if !(renewed || self.wait(attempt).await) {
                break;
            }
            attempt += 1;
        }
        self.finish();
    }

    fn carried_bytes(&self) -> u64 {
        let bytes = self.shared.bytes.read();
        bytes.up_bytes + bytes.down_bytes
    }

    /// One connection; a panic in the client is one more way to lose it.
    async fn connect_once(&mut self) -> (End, bool) {
        let session = session::run(
            &self.options,
            &self.shared,
            &mut self.outbox,
            &mut self.inbox,
            &self.events,
            &mut self.backlog,
        );
        let ended = AssertUnwindSafe(Box::pin(session)).catch_unwind().await;
        let connected = self.shared.online.swap(false, Ordering::AcqRel);
        self.outbox.connection_lost();
        (ended.unwrap_or_else(|_| End::Lost { reason: "the MQTT client panicked".into() }), connected)
    }

    /// Keeps `event` for the reader. One that is far behind does not learn of every single attempt.
    fn tell(&mut self, event: Event) {
        if self.backlog.len() < 2 * HELD {
            self.backlog.push_back(event);
        }
    }

    /// Waits out the back-off; false when the link shall end. A stop with messages left is worth one try at once.
    async fn wait(&mut self, attempt: u32) -> bool {
        let mut delay = std::pin::pin!(tokio::time::sleep(self.options.backoff.delay(attempt, roll())));
        let was_draining = self.shared.drain.is_cancelled();
        loop {
            let draining = self.shared.drain.is_cancelled();
            if draining && (!was_draining || self.has_nothing_left()) {
                return !self.has_nothing_left();
            }
            tokio::select! {
                () = &mut delay => return true,
                () = self.shared.renew.notified() => return true,
                () = self.shared.cancel.cancelled() => return false,
                () = self.shared.drain.cancelled(), if !draining => {}
                () = self.events.closed() => return false,
                room = self.events.reserve(), if !self.backlog.is_empty() => {
                    let (Ok(room), Some(event)) = (room, self.backlog.pop_front()) else { return false };
                    room.send(event);
                }
            }
        }
    }

    fn has_nothing_left(&self) -> bool {
        self.outbox.is_empty() && self.inbox.is_empty()
    }

    fn finish(mut self) {
        self.outbox.abandon();
        self.inbox.close();
        while let Ok(outbound) = self.inbox.try_recv() {
            outbound.finish(Err(LinkError::Stopped));
        }
    }
}

/// Whether the next attempt may follow as soon as the first did.
fn was_good(lasted: Duration, carried_bytes: u64) -> bool {
    lasted >= STABLE_AFTER || carried_bytes >= USEFUL_BYTES
}

/// What the reader is told about the end of a connection; nothing when it was wished for.
fn report(end: End, connected: bool) -> Option<Event> {
    let reason = match end {
        End::Stopped => return None,
        End::Refused { what, reason } => return Some(Event::Refused { what, reason }),
        End::Renewed => "a new connection was asked for".to_owned(),
        End::Lost { reason } => reason,
    };
    Some(if connected { Event::Disconnected { reason } } else { Event::Failed { reason } })
}

/// Jitter need not be secret: without randomness every wait is the longest one.
fn roll() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_good_when_it_lasted_or_when_it_carried_something() {
        let second = Duration::from_secs(1);
        assert!(was_good(STABLE_AFTER, 0));
        assert!(was_good(second, USEFUL_BYTES));
        assert!(!was_good(second, USEFUL_BYTES - 1), "a server that takes nothing is spared");
    }
}
