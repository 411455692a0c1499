//! A window as bytes: about forty a numeric feature at a thousand rows.
//!
//! Every number is written as its difference from what the reference makes one expect, in an exponential Golomb code
//! (Teuhola 1978; the code of video headers): a variable-length integer whose unit is the bit, so that the usual bin, off by
//! a few, takes six bits and a surprising one as many as it needs. Both sides know the reference, so its hash is enough.
//!
//! | part | coding |
//! |---|---|
//! | version, 1 | 1 byte |
//! | reference | 16 bytes |
//! | device, boot | length, then bytes |
//! | sequence, start, length, stride, rows | one number each |
//! | numeric feature | non-finite, missing, longest run, all bins but the last, four moments, lowest and highest value |
//! | feature with categories | missing, all bins but the last |
//! | end | zeros up to the next whole byte |
//!
//! What follows from the rest is not sent, so each window has one form and [`Window::decode`] refuses every other. It
//! takes bytes from anywhere: memory is bounded by the reference, which is signed, and no input makes it panic.

mod bits;
mod features;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::bits::{BitError, BitReader, BitWriter};
use super::{FeatureCounts, check_window_rows};
use crate::reference::{Reference, ReferenceId};

/// Bytes of an encoded window: what [`MAX_BINS`](crate::reference::MAX_BINS) bins take when none is as expected.
pub const MAX_WINDOW_BYTES: usize = 512 * 1024;

/// Bytes of the name of a device or boot.
pub const MAX_NAME: usize = 64;

/// The first byte; another form gets another number.
const VERSION: u8 = 1;

/// Bytes before the bits: the version and the reference.
const HEAD: usize = 1 + 16;

/// Usual sizes, as the number of low bits that are written as they are. They cost a bit or two when they do not fit.
const NAME_LENGTH_BITS: u32 = 5;
const SEQUENCE_BITS: u32 = 10;
const TIME_BITS: u32 = 40;
const SPAN_BITS: u32 = 16;
const ROWS_BITS: u32 = 10;

/// One run of an agent on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The device: 1 to 64 characters out of `A-Z a-z 0-9 _ -`.
    pub device: String,
    /// The run of its agent, in the same characters.
    pub boot: String,
}

/// What a device counted of its features in a stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// What it was counted against.
    pub reference: ReferenceId,
    /// Who counted.
    pub origin: Origin,
    /// Number of the window among those of this reference in this boot, from 1. With `origin`, it names the window
    /// for ever.
    pub sequence: u64,
    /// Its start, in milliseconds since 1970 by the device's clock.
    pub from_ms: u64,
    /// Its end, not before its start.
    pub to_ms: u64,
    /// Every how many inferences one was counted: neighbouring ones are too alike to count as evidence.
    pub stride: u32,
    /// The counts of each feature, in the order of the reference. All have the same number of rows.
    pub features: Vec<FeatureCounts>,
}

/// Why a window was not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// It was counted against something else.
    #[error(
        "the window was counted against reference {theirs}, not {ours}: encode it with its own reference"
    )]
    OtherReference {
        /// The reference given.
        ours: ReferenceId,
        /// That of the window.
        theirs: ReferenceId,
    },
    /// It is not such as a device counts.
    #[error(
        "the window cannot be sent, because in {place} {what}: seal it from the recorder of its reference"
    )]
    Implausible {
        /// Where.
        place: String,
        /// What is wrong.
        what: &'static str,
    },
    /// It is longer than a window may be.
    #[error(
        "the window takes {bytes} bytes, more than {MAX_WINDOW_BYTES}: give the reference fewer categories"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Why bytes are no window. They are refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than any window.
    #[error("{bytes} bytes are no window: one has at most {MAX_WINDOW_BYTES}")]
    TooLong {
        /// Their number.
        bytes: usize,
    },
    /// Written by another version.
    #[error("the window has form {version}, and form {VERSION} is read here: update the older side")]
    Version {
        /// The first byte.
        version: u8,
    },
    /// Counted against something else.
    #[error("the window was counted against reference {theirs}, not {ours}: look up its own reference first")]
    OtherReference {
        /// The reference given.
        ours: ReferenceId,
        /// That of the window.
        theirs: ReferenceId,
    },
    /// Bytes are missing.
    #[error("the window ends too early: it was cut on its way")]
    Truncated,
    /// Bytes are left.
    #[error("the window goes on after its end: it is not from an agent of this version")]
    Trailing,
    /// It is not such as a device counts.
    #[error(
        "the window cannot have been counted, because in {place} {what}: its sender is broken or hostile"
    )]
    Implausible {
        /// Where.
        place: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Window {
    /// The bytes of the window.
    ///
    /// # Errors
    /// When it is not of `reference`, is not such as a device counts, or is longer than [`MAX_WINDOW_BYTES`].
    pub fn encode(&self, reference: &Reference) -> Result<Vec<u8>, EncodeError> {
        if self.reference != reference.id() {
            return Err(EncodeError::OtherReference { ours: reference.id(), theirs: self.reference });
        }
        self.check(reference).map_err(|(place, what)| EncodeError::Implausible { place, what })?;
        let mut head = vec![VERSION];
        head.extend_from_slice(&self.reference.get().to_be_bytes());
        let mut bits = BitWriter::after(head);
        for name in [&self.origin.device, &self.origin.boot] {
            bits.number(name.len() as u64, NAME_LENGTH_BITS);
            name.bytes().for_each(|byte| bits.put(u64::from(byte), 8));
        }
        let rows = self.features.first().map_or(0, FeatureCounts::rows);
        bits.number(self.sequence, SEQUENCE_BITS);
        bits.number(self.from_ms, TIME_BITS);
        bits.number(self.to_ms - self.from_ms, SPAN_BITS);
        bits.number(u64::from(self.stride - 1), 0);
        bits.number(rows, ROWS_BITS);
        for (counts, feature) in self.features.iter().zip(reference.features()) {
            features::write(&mut bits, counts, &feature.values);
        }
        let bytes = bits.finish();
        if bytes.len() > MAX_WINDOW_BYTES {
            return Err(EncodeError::TooLong { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Which reference is needed to read `bytes`.
    ///
    /// # Errors
    /// When they are too short or of another version.
    pub fn reference_of(bytes: &[u8]) -> Result<ReferenceId, DecodeError> {
        let (&version, rest) = bytes.split_first().ok_or(DecodeError::Truncated)?;
        if version != VERSION {
            return Err(DecodeError::Version { version });
        }
        let id = rest.first_chunk::<16>().ok_or(DecodeError::Truncated)?;
        Ok(u128::from_be_bytes(*id).into())
    }

    /// Who counted and which of its windows this says it is, without the reference: enough to acknowledge a window that
    /// cannot be read any further, so that its sender does not send it for ever.
    ///
    /// # Errors
    /// When they are of another version, or end or make no sense before that.
    pub fn origin_of(bytes: &[u8]) -> Result<(Origin, u64), DecodeError> {
        if bytes.len() > MAX_WINDOW_BYTES {
            return Err(DecodeError::TooLong { bytes: bytes.len() });
        }
        Self::reference_of(bytes)?;
        let mut bits = BitReader::of(&bytes[HEAD..]);
        let read = read_origin(&mut bits).and_then(|origin| Ok((origin, bits.number(SEQUENCE_BITS)?)));
        let (origin, sequence) = read.map_err(|error| error.in_place("its header"))?;
        if is_name(&origin.device) && is_name(&origin.boot) {
            return Ok((origin, sequence));
        }
        let what = "device or boot is not 1 to 64 characters out of A-Z a-z 0-9 _ -";
        Err(DecodeError::Implausible { place: "its header".to_owned(), what })
    }

    /// Reads what [`encode`](Self::encode) wrote, from anyone.
    ///
    /// # Errors
    /// When it is anything else, in any bit.
    pub fn decode(bytes: &[u8], reference: &Reference) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_WINDOW_BYTES {
            return Err(DecodeError::TooLong { bytes: bytes.len() });
        }
        let theirs = Self::reference_of(bytes)?;
        if theirs != reference.id() {
            return Err(DecodeError::OtherReference { ours: reference.id(), theirs });
        }
        let mut bits = BitReader::of(&bytes[HEAD..]);
        let header = Header::read(&mut bits).map_err(|error| error.in_place("its header"))?;
        let Header { origin, sequence, from_ms, to_ms, stride, rows } = header;
        let mut features = Vec::with_capacity(reference.features().len());
        for feature in reference.features() {
            let read = features::read(&mut bits, rows, &feature.values, &mut features);
            read.map_err(|error| error.in_place(&format!("feature '{}'", feature.name)))?;
        }
        bits.finish().map_err(|error| Unreadable::from(error).in_place("its end"))?;
        let window = Self { reference: theirs, origin, sequence, from_ms, to_ms, stride, features };
        let checked = window.check_read(rows, reference);
        checked.map_err(|(place, what)| DecodeError::Implausible { place, what })?;
        Ok(window)
    }

    /// Whether a device can have counted this against `reference`. Otherwise where and what cannot be.
    fn check(&self, reference: &Reference) -> Result<(), (String, &'static str)> {
        self.check_header()?;
        if self.features.len() != reference.features().len() {
            let what = "there are not as many features as in the reference";
            return Err(("its header".to_owned(), what));
        }
        let mut first = None;
        for (counts, feature) in self.features.iter().zip(reference.features()) {
            let checked = counts.check_window(&feature.values).and_then(|rows| {
                let agrees = *first.get_or_insert(rows) == rows;
                if agrees { Ok(()) } else { Err("it has other rows than the first") }
            });
            checked.map_err(|what| (format!("feature '{}'", feature.name), what))?;
        }
        Ok(())
    }

    /// The same of one that was read, whose features have `rows` rows each, and the bins of their references.
    fn check_read(&self, rows: u64, reference: &Reference) -> Result<(), (String, &'static str)> {
        self.check_header()?;
        for (counts, feature) in self.features.iter().zip(reference.features()) {
            let checked = counts.check_of(rows, &feature.values);
            checked.map_err(|what| (format!("feature '{}'", feature.name), what))?;
        }
        Ok(())
    }

    fn check_header(&self) -> Result<(), (String, &'static str)> {
        let header = |what| Err(("its header".to_owned(), what));
        if !(is_name(&self.origin.device) && is_name(&self.origin.boot)) {
            return header("device or boot is not 1 to 64 characters out of A-Z a-z 0-9 _ -");
        }
        // Half of what fits, so that differences and codes fit too.
        let largest = self.sequence.max(self.to_ms);
        if largest > bits::MAX_NUMBER || self.from_ms > self.to_ms || self.stride == 0 {
            return header("sequence, times or stride are out of range");
        }
        Ok(())
    }
}

/// What comes before the features.
struct Header {
    origin: Origin,
    sequence: u64,
    from_ms: u64,
    to_ms: u64,
    stride: u32,
    rows: u64,
}

impl Header {
    fn read(bits: &mut BitReader<'_>) -> Result<Self, Unreadable> {
        let origin = read_origin(bits)?;
        let sequence = bits.number(SEQUENCE_BITS)?;
        let from_ms = bits.number(TIME_BITS)?;
        let to_ms = from_ms.saturating_add(bits.number(SPAN_BITS)?);
        let stride = u32::try_from(bits.number(0)?.saturating_add(1));
        let stride = stride.map_err(|_| Unreadable::Implausible("the stride is too large"))?;
        let rows = check_window_rows(bits.number(ROWS_BITS)?).map_err(Unreadable::Implausible)?;
        Ok(Self { origin, sequence, from_ms, to_ms, stride, rows })
    }
}

fn read_origin(bits: &mut BitReader<'_>) -> Result<Origin, Unreadable> {
    Ok(Origin { device: read_name(bits)?, boot: read_name(bits)? })
}

fn read_name(bits: &mut BitReader<'_>) -> Result<String, Unreadable> {
    let length = bits.number(NAME_LENGTH_BITS)?;
    if length > MAX_NAME as u64 {
        return Err(Unreadable::Implausible("a name is too long"));
    }
    let mut name = String::with_capacity(length as usize);
    for _ in 0..length {
        name.push(char::from(bits.take(8)? as u8));
    }
    Ok(name)
}

/// Why a part cannot be read, before it is known which.
#[derive(Debug, Clone, Copy)]
enum Unreadable {
    Bits(BitError),
    Implausible(&'static str),
}

impl From<BitError> for Unreadable {
    fn from(error: BitError) -> Self {
        Self::Bits(error)
    }
}

impl Unreadable {
    fn in_place(self, place: &str) -> DecodeError {
        let what = match self {
            Self::Bits(BitError::Truncated) => return DecodeError::Truncated,
            Self::Bits(BitError::Trailing) => return DecodeError::Trailing,
            Self::Bits(BitError::TooLarge) => "a number is too large",
            Self::Implausible(what) => what,
        };
        DecodeError::Implausible { place: place.to_owned(), what }
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits)
}
