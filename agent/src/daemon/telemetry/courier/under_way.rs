//! Windows that were sent and are not acknowledged: a few, each with its own time-out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_link::Backoff;
use muster_sketch::window::Window;
use serde::Deserialize;
use shared::{BootId, message::Stream, sketch::SketchMessage, telemetry::DriftAlarm};

use super::line::Sketches;
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

/// The alarms of drift that a window tells.
pub(super) fn alarms_in(payload: &[u8]) -> Vec<DriftAlarm> {
    #[derive(Deserialize)]
    struct Telling {
        #[serde(default)]
        drift_alarms: Vec<DriftAlarm>,
    }
    let telling = (!SketchMessage::is_one(payload)).then(|| serde_json::from_slice(payload).ok()).flatten();
    telling.map_or_else(Vec::new, |Telling { drift_alarms }| drift_alarms)
}

/// Windows of features among those under way, so that one of telemetry always finds room.
const SKETCHES: usize = TELEMETRY / 2;

/// A window of features that was passed over so often is not wanted: the server would have acknowledged one that it cannot
/// read. On one connection this takes half an hour; a link that is cut every few seconds never gets there.
const GIVE_UP: u32 = 8;

/// Everything that is under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    sent: Vec<Sent>,
    /// Windows of telemetry that were acknowledged.
    acknowledged: u64,
}

#[derive(Debug)]
struct Sent {
    number: u64,
    name: Name,
    payload: Bytes,
    /// Since the connection began.
    times: u32,
    /// It was sent on this connection, so the server had the time to answer.
    has_left: bool,
    /// Telemetry that was acknowledged before it was sent last.
    acknowledged: u64,
    /// How often telemetry was acknowledged between two sendings of it on one connection, and it was not: the server stores, but
    /// not this.
    passed_over: u32,
    due: Instant,
}

impl UnderWay {
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < TELEMETRY
    }

    pub(super) fn has_telemetry(&self) -> bool {
        self.sent.iter().any(|sent| !sent.is_sketch())
    }

    pub(super) fn has_room_for_sketches(&self) -> bool {
        self.sent.iter().filter(|sent| sent.is_sketch()).count() < SKETCHES
    }

    pub(super) fn add(&mut self, number: u64, name: Name, payload: Bytes, now: Instant) {
        let (times, has_left, acknowledged, passed_over) = (0, true, self.acknowledged, 0);
        let due = now + wait(times);
        self.sent.push(Sent { number, name, payload, times, has_left, acknowledged, passed_over, due });
    }

    /// A window that the server has stored: its number in the spool, and itself.
    pub(super) fn stored(&mut self, name: &Name) -> Option<(u64, Bytes)> {
        let place = self.sent.iter().position(|sent| sent.name == *name)?;
        self.acknowledged += u64::from(name.stream == Stream::Telemetry);
        let Sent { number, payload, .. } = self.sent.remove(place);
        Some((number, payload))
    }

    /// The numbers of windows of features that the server does not want, although it takes telemetry. When there is one, it
    /// is all of them.
    pub(super) fn give_up_sketches(&mut self) -> Vec<u64> {
        if !self.sent.iter().any(|sent| sent.is_sketch() && sent.passed_over >= GIVE_UP) {
            return Vec::new();
        }
        self.sent.extract_if(.., |sent| sent.is_sketch()).map(|sent| sent.number).collect()
    }

    /// What the spool has dropped meanwhile is not sent again.
    pub(super) fn drop_before(&mut self, number: u64) {
        self.sent.retain(|sent| sent.number >= number);
    }

    /// The connection is new: nothing of what was sent before is on its way any more.
    pub(super) fn again_at_once(&mut self, now: Instant) {
        self.sent.iter_mut().for_each(|sent| (sent.times, sent.has_left, sent.due) = (0, false, now));
    }

    /// The place of a window whose time is over.
    pub(super) fn due(&self, now: Instant, sketches: Sketches) -> Option<usize> {
        self.sent.iter().position(|sent| sent.due <= now && sent.may_leave(sketches))
    }

    /// What lies at a [place](Self::due).
    #[allow(clippy::indexing_slicing)] // places are found here and used at once
    pub(super) fn payload(&self, place: usize) -> Bytes {
        self.sent[place].payload.clone()
    }

    /// That window was sent again.
    #[allow(clippy::indexing_slicing)] // as above
    pub(super) fn sent_again(&mut self, place: usize, now: Instant) {
        let sent = &mut self.sent[place];
        sent.times = sent.times.saturating_add(1);
        sent.passed_over += u32::from(sent.has_left && self.acknowledged > sent.acknowledged);
        sent.has_left = true;
        sent.acknowledged = self.acknowledged;
        sent.due = now + wait(sent.times);
    }

    /// That window is not sent any more. Gives its number in the spool.
    pub(super) fn take(&mut self, place: usize) -> u64 {
        self.sent.remove(place).number
    }

    pub(super) fn next_due(&self, sketches: Sketches) -> Option<Instant> {
        self.sent.iter().filter(|sent| sent.may_leave(sketches)).map(|sent| sent.due).min()
    }
}

impl Sent {
    fn is_sketch(&self) -> bool {
        self.name.stream == Stream::Sketch
    }

    fn may_leave(&self, sketches: Sketches) -> bool {
        sketches == Sketches::HaveRoom || !self.is_sketch()
    }
}

/// The whole wait, without jitter: each device began at another moment.
fn wait(times: u32) -> Duration {
    AGAIN.delay(times, u32::MAX)
}
