//! Windows that were sent and are not acknowledged: a few, each with its own time-out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_link::Backoff;
use muster_sketch::window::Window;
use serde::Deserialize;
use shared::{BootId, message::Stream, sketch::SketchMessage};

use crate::daemon::outgoing::TELEMETRY;

/// Twenty seconds are longer than any commit takes; five minutes keep a server that refuses from being asked for ever.
const AGAIN: Backoff = Backoff { min: Duration::from_secs(20), max: Duration::from_secs(300) };

/// What names a window for the server. Windows of telemetry and of features have numbers of their own, so one of each may
/// have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct Name {
    pub(in crate::daemon) stream: Stream,
    pub(in crate::daemon) boot: BootId,
    pub(in crate::daemon) sequence: u64,
}

/// The name of a window as it lies in the spool.
pub(super) fn name_of(payload: &[u8]) -> Option<Name> {
    if SketchMessage::is_one(payload) {
        let message = SketchMessage::decode(payload).ok()?;
        let (origin, sequence) = Window::origin_of(message.window).ok()?;
        return Some(Name { stream: Stream::Sketch, boot: BootId::new(origin.boot).ok()?, sequence });
    }
    #[derive(Deserialize)]
    struct Numbered {
        boot: BootId,
        sequence: u64,
    }
    let Numbered { boot, sequence } = serde_json::from_slice(payload).ok()?;
    Some(Name { stream: Stream::Telemetry, boot, sequence })
}

/// Everything that is under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Vec<Sent>);

#[derive(Debug)]
struct Sent {
    number: u64,
    name: Name,
    payload: Bytes,
    times: u32,
    due: Instant,
}

impl UnderWay {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < TELEMETRY
    }

    pub(super) fn add(&mut self, number: u64, name: Name, payload: Bytes, now: Instant) {
        self.0.push(Sent { number, name, payload, times: 0, due: now + wait(0) });
    }

    /// The number in the spool of a window that the server has stored.
    pub(super) fn stored(&mut self, name: &Name) -> Option<u64> {
        let place = self.0.iter().position(|sent| sent.name == *name)?;
        Some(self.0.remove(place).number)
    }

    /// What the spool has dropped meanwhile is not sent again.
    pub(super) fn drop_before(&mut self, number: u64) {
        self.0.retain(|sent| sent.number >= number);
    }

    /// The connection is new: nothing of what was sent before is on its way any more.
    pub(super) fn again_at_once(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|sent| (sent.times, sent.due) = (0, now));
    }

    /// A window whose time is over.
    pub(super) fn due(&self, now: Instant) -> Option<Bytes> {
        self.0.iter().find(|sent| sent.due <= now).map(|sent| sent.payload.clone())
    }

    /// That window was sent again.
    pub(super) fn sent_again(&mut self, now: Instant) {
        if let Some(sent) = self.0.iter_mut().find(|sent| sent.due <= now) {
            sent.times = sent.times.saturating_add(1);
            sent.due = now + wait(sent.times);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.iter().map(|sent| sent.due).min()
    }
}

/// The whole wait, without jitter: each device began at another moment.
fn wait(times: u32) -> Duration {
    AGAIN.delay(times, u32::MAX)
}
