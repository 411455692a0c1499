//! How a segment looks: frames of a length, a checksum and a body. A body is a record or a mark.

use std::ops::Range;

use shared::Digest;

use super::Record;

/// Length and checksum before each body.
pub(super) const FRAME_BYTES: usize = 4 + 8;

/// A mark with its frame, where it names no record.
pub(super) const STATE_BYTES: usize = FRAME_BYTES + 1 + 3 * 8;

/// What each range of records takes in a mark.
pub(super) const RANGE_BYTES: usize = 2 * 8;

/// Larger bodies are none of ours: a window fits an MQTT packet.
const MAX_BODY_BYTES: usize = 1_024 * 1_024;

const RECORD: u8 = 1;
const MARK: u8 = 2;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: u64,
    /// Number of its first record; the others follow without a gap.
    pub(super) first: u64,
    pub(super) records: u64,
    pub(super) size_bytes: u64,
}

impl Segment {
    /// The number after its last record.
    pub(super) fn next(&self) -> u64 {
        self.first + self.records
    }

    pub(super) fn holds(&self, number: u64) -> bool {
        (self.first..self.next()).contains(&number)
    }

    /// How many records it has from `number` on.
    pub(super) fn from(&self, number: u64) -> u64 {
        self.next().saturating_sub(number.max(self.first))
    }

    /// Its first record from `number` on.
    pub(super) fn first_from(&self, number: u64) -> Option<u64> {
        (self.from(number) > 0).then(|| number.max(self.first))
    }
}

/// How far things were when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) next_number: u64,
    pub(super) first_waiting: u64,
    pub(super) lost: u64,
    /// Records after the first that waits which wait no more.
    pub(super) done: Vec<Range<u64>>,
}

/// The body of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    Record { number: u64, bytes: &'a [u8] },
    Mark(Mark),
}

/// Names sort as segments follow each other.
pub(super) fn file_name(id: u64) -> String {
    format!("{id:016x}.seg")
}

/// The segment whose file has this name.
pub(super) fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

pub(super) fn record_frame(record: &Record) -> Vec<u8> {
    let mut body = vec![RECORD];
    body.extend(record.number.to_le_bytes());
    body.extend(&record.bytes);
    frame(&body)
}

pub(super) fn mark_frame(mark: &Mark) -> Vec<u8> {
    let mut body = vec![MARK];
    body.extend([mark.next_number, mark.first_waiting, mark.lost].into_iter().flat_map(u64::to_le_bytes));
    body.extend(mark.done.iter().flat_map(|done| [done.start, done.end]).flat_map(u64::to_le_bytes));
    frame(&body)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(Digest::of(body).short());
    frame.extend(body);
    frame
}

/// The frame at `offset` and where the next one starts; `None` at the end and at whatever is not whole.
pub(super) fn read_frame(segment: &[u8], offset: usize) -> Option<(Body<'_>, usize)> {
    let head = segment.get(offset..offset.checked_add(FRAME_BYTES)?)?;
    let (length, checksum) = head.split_at(4);
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    if length > MAX_BODY_BYTES {
        return None;
    }
    let start = offset + FRAME_BYTES;
    let body = segment.get(start..start + length)?;
    if Digest::of(body).short() != checksum {
        return None;
    }
    Some((read_body(body)?, start + length))
}

fn read_body(body: &[u8]) -> Option<Body<'_>> {
    let (kind, rest) = body.split_first()?;
    match *kind {
        RECORD => {
            let (number, bytes) = rest.split_at_checked(8)?;
            Some(Body::Record { number: number_of(number)?, bytes })
        }
        MARK => Some(Body::Mark(read_mark(rest)?)),
        _ => None,
    }
}

/// Three numbers and any number of ranges; agents that wrote no ranges left none.
fn read_mark(bytes: &[u8]) -> Option<Mark> {
    let (numbers, ranges) = bytes.split_at_checked(24)?;
    let (ranges, rest) = ranges.as_chunks::<RANGE_BYTES>();
    let range = |bytes: &[u8; RANGE_BYTES]| Some(number_of(&bytes[..8])?..number_of(&bytes[8..])?);
    let done = ranges.iter().map(range).collect::<Option<_>>()?;
    rest.is_empty().then_some(Mark {
        next_number: number_of(&numbers[..8])?,
        first_waiting: number_of(&numbers[8..16])?,
        lost: number_of(&numbers[16..])?,
        done,
    })
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
