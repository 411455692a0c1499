//! Reading: what a start finds on the disk, and the records that wait, oldest first.

use std::{io, ops::Range};

use super::{
    Record, Spool,
    segment::{Body, Mark, STATE_BYTES, Segment, file_name, id_of, read_frame},
};
use crate::disk::Disk;

/// No segment of ours is larger, also when one record fills it.
const MAX_SEGMENT_BYTES: u64 = 2 * 1_024 * 1_024;

/// How far somebody has read. Several may read a spool, each at a pace of its own.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Number of the next record.
    next: u64,
    loaded: Option<Loaded>,
}

/// The segment that is being read.
#[derive(Debug)]
struct Loaded {
    id: u64,
    bytes: Vec<u8>,
    offset: usize,
}

impl<D: Disk> Spool<D> {
    /// The next record that waits, oldest first; a cursor is given each once.
    pub fn next_record(&mut self, cursor: &mut Cursor) -> Option<Record> {
        loop {
            let from = cursor.next.max(self.first_waiting);
            let number = self.next_held(from).unwrap_or(from);
            cursor.next = number;
            if number >= self.next_number {
                cursor.loaded = None;
                return None;
            }
            cursor.next += 1;
            if self.acknowledged.contains(&number) {
                continue;
            }
            let in_memory = self.newest.iter().chain(&self.memory).find(|record| record.number == number);
            match in_memory.cloned().or_else(|| self.read(number, cursor)) {
                Some(record) => return Some(record),
                None => self.lose_unreadable(number),
            }
        }
    }

    /// Reads a record from the disk.
    fn read(&self, number: u64, cursor: &mut Cursor) -> Option<Record> {
        let segment = self.segments.iter().find(|segment| segment.holds(number))?;
        let found = cursor.loaded.as_mut().filter(|loaded| loaded.id == segment.id);
        if let Some(record) = found.and_then(|loaded| loaded.find(number)) {
            return Some(record);
        }
        // It was not loaded, or has grown since.
        let bytes = self.disk.read_bounded(&self.dir.join(file_name(segment.id)), MAX_SEGMENT_BYTES);
        let bytes = bytes.ok().flatten()?;
        cursor.loaded.insert(Loaded { id: segment.id, bytes, offset: 0 }).find(number)
    }

    /// A record that cannot be read any more is lost like one for which there was no room.
    fn lose_unreadable(&mut self, number: u64) {
        tracing::warn!(number, "a record of the spool cannot be read and is lost");
        self.give_up(number);
    }

    /// Finds what earlier runs left.
    pub(super) fn recover(&mut self) -> io::Result<()> {
        let entries = self.disk.list(&self.dir)?;
        let mut ids: Vec<u64> = entries.iter().filter_map(|entry| id_of(&entry.name)).collect();
        ids.sort_unstable();
        for id in ids {
            self.next_segment = self.next_segment.max(id.saturating_add(1));
            self.recover_segment(id);
        }
        self.acknowledged = self.acknowledged.split_off(&self.first_waiting);
        self.settle();
        if self.make_room(2 * STATE_BYTES as u64) {
            // A disk that takes no mark now takes one with the next record.
            let _ = self.note(self.done());
        }
        Ok(())
    }

    fn recover_segment(&mut self, id: u64) {
        let path = self.dir.join(file_name(id));
        let bytes = match self.disk.read_bounded(&path, MAX_SEGMENT_BYTES) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                return tracing::warn!(%error, path = %path.display(), "a segment of the spool cannot be read");
            }
        };
        let (records, marks) = scan(&bytes, self.segments.back().map_or(0, Segment::next));
        for mark in &marks {
            self.next_number = self.next_number.max(mark.next_number);
            self.first_waiting = self.first_waiting.max(mark.first_waiting);
            self.lost = self.lost.max(mark.lost);
        }
        let mut segment = Segment { id, size_bytes: bytes.len() as u64, ..records };
        if segment.records == 0 && marks.is_empty() {
            return self.remove(&segment);
        }
        // A segment may hold nothing but marks; a newer one repeats them, if its own were not cut off.
        if !marks.is_empty() {
            self.drop_empty();
        }
        self.next_number = self.next_number.max(segment.next());
        if segment.records == 0 {
            segment.first = self.next_number;
        }
        self.segments.push_back(segment);
        marks.iter().flat_map(|mark| &mark.done).for_each(|done| self.recover_done(done));
    }

    /// A mark names records that were written before it.
    fn recover_done(&mut self, done: &Range<u64>) {
        for segment in &self.segments {
            self.acknowledged.extend(done.start.max(segment.first)..done.end.min(segment.next()));
        }
    }
}

impl Loaded {
    fn find(&mut self, wanted: u64) -> Option<Record> {
        while let Some((body, next)) = read_frame(&self.bytes, self.offset) {
            match body {
                Body::Record { number, .. } if number > wanted => return None,
                Body::Record { number, bytes } if number == wanted => {
                    let record = Record { number, bytes: bytes.to_vec() };
                    self.offset = next;
                    return Some(record);
                }
                Body::Record { .. } | Body::Mark(_) => self.offset = next,
            }
        }
        None
    }
}

/// The records of a segment from number `from` on, as far as they follow each other, and its marks.
fn scan(bytes: &[u8], from: u64) -> (Segment, Vec<Mark>) {
    let mut segment = Segment { id: 0, first: 0, records: 0, size_bytes: 0 };
    let (mut marks, mut offset) = (Vec::new(), 0);
    while let Some((body, next)) = read_frame(bytes, offset) {
        match body {
            Body::Mark(mark) => marks.push(mark),
            Body::Record { number, .. } if segment.records == 0 && number >= from => {
                (segment.first, segment.records) = (number, 1);
            }
            Body::Record { number, .. } if segment.records > 0 && number == segment.next() => {
                segment.records += 1;
            }
            Body::Record { .. } => {}
        }
        offset = next;
    }
    (segment, marks)
}
