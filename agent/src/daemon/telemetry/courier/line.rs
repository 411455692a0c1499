//! Which window is sent next: the oldest of the kinds that may leave.
//!
//! A server may take telemetry and know no windows of features, as one that was taken back to an older version does, and
//! a budget may pay the ones and not the others. So each kind is read from the spool at a pace of its own, and however many of
//! one wait, none of the other waits for them.

use agent_store::{
    disk::Disk,
    spool::{Cursor, Record, Spool},
};
use shared::sketch::SketchMessage;

/// What was read from the spool of each kind. One record of each is in memory, and the segment that it is from: mostly a
/// quarter of a megabyte, and two at most.
#[derive(Debug, Default)]
pub(super) struct Line {
    telemetry: Queue,
    sketches: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    cursor: Cursor,
    /// Was read and is not sent.
    first: Option<Record>,
}

/// Whether more windows of features may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sketches {
    HaveRoom,
    StepAside,
}

impl Line {
    /// The next window. Without room for windows of features it is one of telemetry.
    pub(super) fn next<D: Disk>(&mut self, spool: &mut Spool<D>, sketches: Sketches) -> Option<Record> {
        let telemetry = self.telemetry.peek(spool, |is_sketch| !is_sketch);
        let sketch = match sketches {
            Sketches::HaveRoom => self.sketches.peek(spool, |is_sketch| is_sketch),
            Sketches::StepAside => None,
        };
        match (telemetry, sketch) {
            (Some(telemetry), Some(sketch)) if sketch < telemetry => self.sketches.first.take(),
            (Some(_), _) => self.telemetry.first.take(),
            (None, Some(_)) => self.sketches.first.take(),
            (None, None) => None,
        }
    }

    /// Whether a window of telemetry waits.
    pub(super) fn has_telemetry<D: Disk>(&mut self, spool: &mut Spool<D>) -> bool {
        self.telemetry.peek(spool, |is_sketch| !is_sketch).is_some()
    }

    /// It was not sent.
    pub(super) fn put_back(&mut self, record: Record) {
        let is_sketch = SketchMessage::is_one(&record.bytes);
        let queue = if is_sketch { &mut self.sketches } else { &mut self.telemetry };
        queue.first = Some(record);
    }

    /// All windows of features that wait; nobody waits for them any more.
    pub(super) fn give_up_sketches<D: Disk>(&mut self, spool: &mut Spool<D>) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(number) = self.sketches.peek(spool, |is_sketch| is_sketch) {
            numbers.push(number);
            self.sketches.first = None;
        }
        numbers
    }
}

impl Queue {
    /// The number of the next record of this kind.
    fn peek<D: Disk>(&mut self, spool: &mut Spool<D>, is_ours: impl Fn(bool) -> bool) -> Option<u64> {
        // The spool may have dropped it meanwhile.
        self.first.take_if(|record| record.number < spool.first_waiting());
        while self.first.is_none() {
            let record = spool.next_record(&mut self.cursor)?;
            self.first = Some(record).filter(|record| is_ours(SketchMessage::is_one(&record.bytes)));
        }
        self.first.as_ref().map(|record| record.number)
    }
}
