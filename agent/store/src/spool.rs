//! What waits for the server while it is away, on the disk.
//!
//! Records lie in segments, files that are only ever appended to. Each record has its length and a checksum. A record
//! that was cut off ends its segment, and the next start begins another one, so nothing is ever written behind
//! something torn.
//!
//! A record leaves the spool in one of three ways: the server has acknowledged it; or it was the oldest when the bound in
//! bytes was reached, or was given up; then it is counted as lost. Which records were acknowledged is noted in the segment that is
//! written just then, also of those behind one that waits for long; the head of each segment repeats what still matters of
//! earlier notes. A note that a power cut takes away costs a record that is sent twice, which the server can tell.
//!
//! A closed segment goes as soon as none of its records waits, wherever it lies, so a record that waits for long keeps those around
//! it and no others.
//!
//! Nothing is flushed to the device at an append: while the server answers, a record is acknowledged before that would
//! be worth its wear. Whoever owns the spool calls [`Spool::sync`] when records have waited for a while; a closed
//! segment is flushed in any case. A process that is killed loses nothing, since the system has what was written.
//!
//! A disk that refuses is not the end: records then wait in memory, within a bound of their own, until it takes them.

mod reader;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    ops::Range,
    path::PathBuf,
};

use crate::disk::{Disk, DiskFile as _, OpenAs};
pub use reader::Cursor;
use segment::{FRAME_BYTES, Mark, RANGE_BYTES, STATE_BYTES, Segment, file_name, mark_frame, record_frame};

/// Records wait in this much memory while the disk refuses: an hour of windows, and little beside a model.
const MEMORY_BYTES: usize = 128 * 1_024;

/// A segment is this part of the bound, since the oldest goes whole.
const SEGMENTS: u64 = 64;

/// Segments are read whole, so they stay small enough for a small device.
const LARGEST_SEGMENT: u64 = 256 * 1_024;

/// Smaller ones would be more names than content.
const SMALLEST_SEGMENT: u64 = 4 * 1_024;

/// Notes fill a segment up to so many times its size, then another one begins: nothing may grow beyond what can be read.
const OVERFULL: u64 = 2;

/// The ranges at the head of a segment take up to this part of it. Records that find no room there may be sent twice.
const HEAD_PART: u64 = 8;

/// How much a spool may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// All segments together.
    pub max_bytes: u64,
    /// This much of the file system stays free.
    pub spare_bytes: u64,
}

/// A record with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Grows with every record, also over restarts.
    pub number: u64,
    /// What was appended.
    pub bytes: Vec<u8>,
}

/// What waits, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Records without acknowledgement.
    pub records: u64,
    /// What all segments take.
    pub size_bytes: u64,
    /// Records that were dropped, for want of room or because nobody took them, ever.
    pub lost: u64,
    /// Whether the disk refuses, so that records wait in memory.
    pub in_memory: bool,
}

/// A bounded queue of records that survives power cuts.
#[derive(Debug)]
pub struct Spool<D: Disk> {
    disk: D,
    dir: PathBuf,
    bounds: Bounds,
    /// Oldest first; the last one is written when there is an active file.
    segments: VecDeque<Segment>,
    active: Option<Active<D::File>>,
    next_segment: u64,
    next_number: u64,
    /// The oldest record without acknowledgement.
    first_waiting: u64,
    /// Those after it on the disk that have one.
    acknowledged: BTreeSet<u64>,
    /// What the disk refused.
    memory: VecDeque<Record>,
    lost: u64,
    /// The newest record, which is mostly the next to be read.
    newest: Option<Record>,
}

/// The file of the segment that is written.
#[derive(Debug)]
struct Active<F> {
    file: F,
    /// Something was written since the last flush.
    dirty: bool,
    /// Its name is not flushed yet.
    unnamed: bool,
}

impl<D: Disk> Spool<D> {
    /// Opens the spool in `dir` with everything that was not acknowledged.
    ///
    /// # Errors
    /// When the folder cannot be made or read. A file in it that cannot be read is passed over.
    pub fn open(disk: D, dir: PathBuf, bounds: Bounds) -> io::Result<Self> {
        disk.private_dir(&dir)?;
        let mut spool = Self {
            disk,
            dir,
            bounds,
            segments: VecDeque::new(),
            active: None,
            next_segment: 1,
            next_number: 1,
            first_waiting: 1,
            acknowledged: BTreeSet::new(),
            memory: VecDeque::new(),
            lost: 0,
            newest: None,
        };
        spool.recover()?;
        Ok(spool)
    }

    /// Keeps a record. When the disk refuses it waits in memory, and the error says why.
    ///
    /// # Errors
    /// What the disk said; the record is kept all the same, as long as the memory has room.
    pub fn append(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let record = Record { number: self.next_number, bytes };
        self.next_number += 1;
        self.newest = Some(record.clone());
        self.memory.push_back(record);
        let written = self.write_memory();
        if written.is_err() {
            self.bound_memory();
        }
        written
    }

    /// The server has stored a record for good.
    pub fn acknowledge(&mut self, number: u64) {
        if self.finish(number) {
            self.settle_and_note(number);
        }
    }

    /// Nobody will take this record: it waits no more, and counts as lost.
    pub fn give_up(&mut self, number: u64) {
        if self.finish(number) {
            self.lost += 1;
            self.settle_and_note(number);
        }
    }

    /// The same of many records, with one note.
    pub fn give_up_all(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.lost += u64::from(self.finish(number));
        }
        // As below.
        let done = self.done();
        self.settle();
        let behind = done.into_iter().map(|done| done.start.max(self.first_waiting)..done.end);
        let behind = behind.filter(|behind| !behind.is_empty()).collect();
        let _ = self.note(behind);
    }

    /// Ends the wait of a record; false when it does not wait.
    fn finish(&mut self, number: u64) -> bool {
        let is_known = (self.first_waiting..self.next_number).contains(&number);
        let waits = is_known && !self.acknowledged.contains(&number) && self.next_held(number).is_none();
        if waits && self.segments.iter().any(|segment| segment.holds(number)) {
            self.acknowledged.insert(number);
        } else if waits {
            self.memory.retain(|record| record.number != number);
        }
        waits
    }

    /// Notes that a record waits no more, by its number where the first that waits does not say so. It may have been the last of a segment, which
    /// is gone then, but comes back with a power cut before its removal is durable.
    fn settle_and_note(&mut self, number: u64) {
        let was_on_disk = self.acknowledged.contains(&number);
        self.settle();
        let is_behind = was_on_disk && number >= self.first_waiting;
        // A note that is not written costs a record that is sent twice.
        let _ = self.note(is_behind.then_some(number..number + 1).into_iter().collect());
    }

    /// Counts records that were lost before they got here. The next note tells it to the disk.
    pub fn count_lost(&mut self, records: u64) {
        self.lost += records;
    }

    /// The number of the oldest record that waits; everything before is acknowledged or lost.
    #[must_use]
    pub fn first_waiting(&self) -> u64 {
        self.first_waiting
    }

    /// What waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let on_disk = self.segments.iter().map(|segment| self.waiting_in(segment)).sum::<u64>();
        Waiting {
            records: on_disk + self.memory.len() as u64,
            size_bytes: self.size_bytes(),
            lost: self.lost,
            in_memory: !self.memory.is_empty(),
        }
    }

    /// Whether a power cut would take records that the server does not have.
    #[must_use]
    pub fn is_at_risk(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.dirty) && self.waiting().records > 0
    }

    /// Makes everything durable that is on the disk.
    ///
    /// # Errors
    /// When that cannot be promised. The segment is then closed, because a flush that failed is never tried again.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let mut synced = if active.dirty { active.file.sync() } else { Ok(()) };
        if synced.is_ok() && active.unnamed {
            synced = self.disk.sync_dir(&self.dir);
        }
        if synced.is_ok() {
            (active.dirty, active.unnamed) = (false, false);
        } else {
            self.active = None;
        }
        synced
    }

    fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size_bytes).sum()
    }

    fn segment_bytes(&self) -> u64 {
        (self.bounds.max_bytes / SEGMENTS).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT)
    }

    /// Brings to the disk what waits in memory, oldest first.
    fn write_memory(&mut self) -> io::Result<()> {
        while let Some(record) = self.memory.pop_front() {
            let frame = record_frame(&record);
            if (frame.len() + 2 * STATE_BYTES) as u64 > self.bounds.max_bytes {
                self.lost += 1;
                continue;
            }
            if let Err(error) = self.write(record.number, &frame) {
                self.memory.push_front(record);
                return Err(error);
            }
        }
        self.settle();
        Ok(())
    }

    fn write(&mut self, number: u64, frame: &[u8]) -> io::Result<()> {
        let room = self.segment_bytes();
        let fits =
            |segment: &Segment| segment.next() == number && segment.size_bytes + frame.len() as u64 <= room;
        if self.active.is_none() || !self.segments.back().is_some_and(fits) {
            self.begin_segment(number, frame.len() as u64)?;
        }
        // A mark must fit behind it, or a loss would be forgotten.
        let dropped = self.make_room((frame.len() + STATE_BYTES) as u64);
        self.write_frame(frame)?;
        if let Some(segment) = self.segments.back_mut() {
            segment.records += 1;
        }
        if dropped && self.has_room(STATE_BYTES as u64) {
            return self.write_frame(&mark_frame(&self.mark(Vec::new())));
        }
        Ok(())
    }

    /// Writes at the end of the active segment; after an error nothing is written behind it.
    fn write_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let (Some(active), Some(segment)) = (&mut self.active, self.segments.back_mut()) else {
            return Ok(());
        };
        active.dirty = true;
        match active.file.write_all_at(frame, segment.size_bytes) {
            Ok(()) => {
                segment.size_bytes += frame.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.active = None;
                Err(error)
            }
        }
    }

    /// Notes how far the server has acknowledged, what was lost, and which records wait no more behind one that does. A note is
    /// not worth a record.
    fn note(&mut self, done: Vec<Range<u64>>) -> io::Result<()> {
        let frame = mark_frame(&self.mark(done));
        let bytes = frame.len() as u64;
        let is_full = |segment: &Segment| segment.size_bytes + bytes > OVERFULL * self.segment_bytes();
        if self.active.is_none() || self.segments.back().is_some_and(is_full) {
            let has_room = self.has_room(2 * STATE_BYTES as u64);
            return if has_room { self.begin_segment(self.next_number, 0) } else { Ok(()) };
        }
        if self.has_room(bytes) { self.write_frame(&frame) } else { Ok(()) }
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.size_bytes() + bytes <= self.bounds.max_bytes
    }

    fn mark(&self, done: Vec<Range<u64>>) -> Mark {
        Mark { next_number: self.next_number, first_waiting: self.first_waiting, lost: self.lost, done }
    }

    /// The records that wait no more behind one that does, as far as a head has room for them.
    fn done(&self) -> Vec<Range<u64>> {
        let most = usize::try_from(self.segment_bytes() / HEAD_PART).unwrap_or(usize::MAX) / RANGE_BYTES;
        let mut done: Vec<Range<u64>> = Vec::new();
        for &number in &self.acknowledged {
            let count = done.len();
            match done.last_mut() {
                Some(last) if last.end == number => last.end += 1,
                _ if count < most => done.push(number..number + 1),
                _ => break,
            }
        }
        done
    }

    /// The mark at the head of a segment. It names no records where another one would have to go for that.
    fn head(&self, extra: u64) -> Vec<u8> {
        let head = mark_frame(&self.mark(self.done()));
        let fits = self.has_room((head.len() + STATE_BYTES) as u64 + extra);
        if fits { head } else { mark_frame(&self.mark(Vec::new())) }
    }

    fn begin_segment(&mut self, first: u64, extra: u64) -> io::Result<()> {
        let synced = self.sync();
        self.active = None;
        synced?;
        self.drop_empty();
        self.make_room((self.head(extra).len() + STATE_BYTES) as u64 + extra);
        if self.disk.free_bytes(&self.dir)? < self.bounds.spare_bytes + self.segment_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = self.next_segment;
        self.next_segment += 1;
        let path = self.dir.join(file_name(id));
        let file = self.disk.open(&path, OpenAs::Empty)?;
        let head = self.head(extra);
        if let Err(error) = file.write_all_at(&head, 0) {
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        self.active = Some(Active { file, dirty: true, unnamed: true });
        self.segments.push_back(Segment { id, first, records: 0, size_bytes: head.len() as u64 });
        Ok(())
    }

    /// Drops the oldest segments until `extra` bytes fit the bound; true when one was dropped.
    fn make_room(&mut self, extra: u64) -> bool {
        let mut dropped = false;
        while self.size_bytes() + extra > self.bounds.max_bytes && self.has_closed() {
            self.drop_oldest();
            dropped = true;
        }
        dropped
    }

    fn has_closed(&self) -> bool {
        self.segments.len() > usize::from(self.active.is_some())
    }

    fn drop_oldest(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        self.lost += self.waiting_in(&segment);
        self.remove(&segment);
        self.settle();
    }

    fn waiting_in(&self, segment: &Segment) -> u64 {
        let acknowledged = self.acknowledged.range(segment.first..segment.next()).count();
        segment.from(self.first_waiting).saturating_sub(acknowledged as u64)
    }

    /// The file may come back when the power is cut now; a later note says that it is not needed.
    fn remove(&mut self, segment: &Segment) {
        if let Err(error) = self.disk.remove(&self.dir.join(file_name(segment.id))) {
            tracing::debug!(%error, segment = segment.id, "a segment of the spool was not removed");
        }
    }

    /// A segment that only holds notes is of no use once another one follows, whose head repeats them.
    fn drop_empty(&mut self) {
        if self.segments.back().is_some_and(|segment| segment.records == 0)
            && let Some(segment) = self.segments.pop_back()
        {
            self.remove(&segment);
        }
    }

    fn bound_memory(&mut self) {
        let used = |memory: &VecDeque<Record>| {
            memory.iter().map(|record| record.bytes.len() + FRAME_BYTES).sum::<usize>()
        };
        if used(&self.memory) > MEMORY_BYTES && self.oldest_makes_room() {
            self.drop_oldest();
            // What it says now, it says again at the next append.
            let _ = self.write_memory();
        }
        while used(&self.memory) > MEMORY_BYTES && self.memory.pop_front().is_some() {
            self.lost += 1;
        }
        self.settle();
    }

    /// Whether the oldest segment takes just the room that a new one lacks. A disk that refuses for another reason
    /// keeps what it has.
    fn oldest_makes_room(&self) -> bool {
        let free = self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        let needed = self.bounds.spare_bytes + self.segment_bytes();
        let oldest =
            self.segments.front().filter(|_| self.has_closed()).map_or(0, |oldest| oldest.size_bytes);
        free < needed && free.saturating_add(oldest) >= needed
    }

    /// Moves the first waiting record on, and removes segments that nobody waits for.
    fn settle(&mut self) {
        loop {
            if self.acknowledged.remove(&self.first_waiting) {
                self.first_waiting += 1;
            } else if let Some(next) = self.next_held(self.first_waiting) {
                self.first_waiting = next;
                self.acknowledged.retain(|number| *number >= next);
            } else {
                break;
            }
        }
        // The last one stays, with its mark, until another follows.
        let closed = self.segments.iter().take(self.segments.len().saturating_sub(1));
        let over: Vec<_> = closed.filter(|segment| self.waiting_in(segment) == 0).cloned().collect();
        for segment in over {
            self.segments.retain(|kept| kept.id != segment.id);
            self.acknowledged.retain(|number| !segment.holds(*number));
            self.remove(&segment);
        }
    }

    /// The first number after `number` that is held, if `number` itself is not.
    fn next_held(&self, number: u64) -> Option<u64> {
        let on_disk = self.segments.iter().filter_map(|segment| segment.first_from(number));
        let in_memory = self.memory.iter().map(|record| record.number).filter(|held| *held >= number);
        let next = on_disk.chain(in_memory).min().unwrap_or(self.next_number);
        (next != number).then_some(next)
    }
}
