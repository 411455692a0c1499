//! Which window is sent next. Mostly it is the oldest; windows of features step aside while enough of them are under way.
//!
//! A server may take telemetry and know no windows of features, as one that was taken back to an older version does. It
//! never acknowledges them, and must not cost the fleet the telemetry behind them.

use std::collections::VecDeque;

use agent_store::{
    disk::Disk,
    spool::{Record, Spool},
};
use shared::sketch::SketchMessage;

/// Windows of features that step aside: a few hours of a device with as many models as usual. Behind more of them everything
/// waits.
const MAX_ASIDE: usize = 64;

/// What they take of the memory, but for one that is larger.
const MAX_ASIDE_BYTES: usize = 256 * 1_024;

/// What was read from the spool and is not sent.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Could not be paid for, or found no room aside.
    first: Option<Record>,
    /// Windows of features, oldest first.
    aside: VecDeque<Record>,
}

impl Line {
    /// The next window. Without room for windows of features it is one of telemetry.
    pub(super) fn next<D: Disk>(&mut self, spool: &mut Spool<D>, sketches: Sketches) -> Option<Record> {
        if sketches == Sketches::HaveRoom
            && let Some(record) = self.aside.pop_front()
        {
            return Some(record);
        }
        loop {
            let record = self.first.take().or_else(|| spool.next_record())?;
            if record.number < spool.first_waiting() {
                continue;
            }
            if sketches == Sketches::HaveRoom || !SketchMessage::is_one(&record.bytes) {
                return Some(record);
            }
            if !self.has_room(&record) {
                self.first = Some(record);
                return None;
            }
            self.aside.push_back(record);
        }
    }

    /// It was not sent.
    pub(super) fn put_back(&mut self, record: Record) {
        if SketchMessage::is_one(&record.bytes) {
            self.aside.push_front(record);
        } else {
            self.first = Some(record);
        }
    }

    /// What stepped aside; nobody waits for it any more.
    pub(super) fn give_up_aside(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.aside).into_iter().map(|record| record.number)
    }

    fn has_room(&self, record: &Record) -> bool {
        let bytes: usize = self.aside.iter().map(|record| record.bytes.len()).sum();
        self.aside.is_empty()
            || (self.aside.len() < MAX_ASIDE && bytes + record.bytes.len() <= MAX_ASIDE_BYTES)
    }
}

/// Whether more windows of features may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sketches {
    HaveRoom,
    StepAside,
}
