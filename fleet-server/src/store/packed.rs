//! Large documents that nobody reads in the database: JSON, compressed, in base 64.
//!
//! Evidence is floats with all their digits, and counts are mostly small numbers; both take a third to a half of their JSON this way. Writing
//! and reading go through it in pieces, so no second copy of a state of many megabytes is held.

use std::io::{BufReader, Write as _};

use base64::{engine::general_purpose::STANDARD as BASE64, read::DecoderReader, write::EncoderStringWriter};
use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;

/// The fastest level: higher ones take longer than they save on a disk.
const LEVEL: i32 = 1;

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 * 1_024;

/// A packed document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed(String);

impl Packed {
    /// Packs a value that is made of texts, numbers and collections.
    #[must_use]
    pub fn of<T: Serialize>(value: &T) -> Self {
        const WRITES: &str =
            "memory takes every byte, and stored documents are texts, numbers and collections";
        let mut encoder = zstd::Encoder::new(EncoderStringWriter::new(&BASE64), LEVEL).expect(WRITES);
        serde_json::to_writer(&mut encoder, value).expect(WRITES);
        encoder.flush().expect(WRITES);
        Self(encoder.finish().expect(WRITES).into_inner())
    }

    /// Unpacks what [`of`](Self::of) packed.
    ///
    /// # Errors
    /// When it is something else: a newer program wrote it, or it is damaged.
    pub fn read<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, StoreError> {
        let corrupt = |detail: String| StoreError::Corrupt { what, detail };
        let decoder = zstd::Decoder::new(DecoderReader::new(self.0.as_bytes(), &BASE64));
        let decoder = decoder.map_err(|error| corrupt(error.to_string()))?;
        let reader = BufReader::with_capacity(READ_BYTES, decoder);
        serde_json::from_reader(reader).map_err(|error| corrupt(error.to_string()))
    }

    pub(super) fn as_text(&self) -> &str {
        &self.0
    }

    pub(super) fn from_text(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_read_to_the_bit_and_what_is_damaged_is_refused() {
        let numbers: Vec<f64> = (1..2_000).map(|n| 1.0 / f64::from(n)).collect();
        let packed = Packed::of(&numbers);
        assert!(packed.as_text().len() < serde_json::to_string(&numbers).unwrap().len());
        assert_eq!(packed.read::<Vec<f64>>("numbers").unwrap(), numbers);
        let text = packed.as_text();
        for damaged in [&text[..text.len() / 2], "", "no base 64!", &text.replace('A', "B")] {
            assert!(Packed::from_text(damaged.to_owned()).read::<Vec<f64>>("numbers").is_err());
        }
    }
}
