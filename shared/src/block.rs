//! Block frames, and the runs of blocks that a device asks for.
//!
//! A frame is binary: one byte of kind, eight bytes that name the artifact (the first of its packed digest),
//! a little-endian `u32`, then bytes. Nothing in it is trusted: the block's digest decides.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bitvec::prelude::{BitVec, Lsb0};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::artifact::MAX_BLOCK_BYTES;

/// Runs that one request may name.
pub const MAX_RUNS: usize = 32;

const HEADER_BYTES: usize = 1 + 8 + 4;

/// A run of consecutive blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the first block.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What the server sends on the block topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One block.
    Block {
        /// First eight bytes of the packed digest.
        artifact: [u8; 8],
        /// Which block.
        index: u32,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The server is over its budget: ask again after this many milliseconds.
    RetryAfter {
        /// First eight bytes of the packed digest.
        artifact: [u8; 8],
        /// How long to wait.
        delay_ms: u32,
    },
    /// The server does not have this artifact.
    Gone {
        /// First eight bytes of the packed digest.
        artifact: [u8; 8],
    },
}

/// Why bytes are not a frame.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidFrame {
    /// Shorter than the header.
    #[error("a frame of {0} bytes is shorter than its header")]
    Short(usize),
    /// Longer than any block.
    #[error("a block of {0} bytes is larger than allowed")]
    Long(usize),
    /// An unknown kind of frame.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
}

impl<'a> Frame<'a> {
    /// The frame as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, artifact, number, bytes): (u8, _, _, &[u8]) = match self {
            Self::Block { artifact, index, bytes } => (0, artifact, *index, bytes),
            Self::RetryAfter { artifact, delay_ms } => (1, artifact, *delay_ms, &[]),
            Self::Gone { artifact } => (2, artifact, 0, &[]),
        };
        let mut frame = Vec::with_capacity(HEADER_BYTES + bytes.len());
        frame.push(kind);
        frame.extend_from_slice(artifact);
        frame.extend_from_slice(&number.to_le_bytes());
        frame.extend_from_slice(bytes);
        frame
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// When the bytes are too short, too long or of an unknown kind.
    pub fn decode(frame: &'a [u8]) -> Result<Self, InvalidFrame> {
        let (header, bytes) =
            frame.split_first_chunk::<HEADER_BYTES>().ok_or(InvalidFrame::Short(frame.len()))?;
        if bytes.len() > MAX_BLOCK_BYTES as usize {
            return Err(InvalidFrame::Long(bytes.len()));
        }
        let [kind, a0, a1, a2, a3, a4, a5, a6, a7, n0, n1, n2, n3] = *header;
        let artifact = [a0, a1, a2, a3, a4, a5, a6, a7];
        let number = u32::from_le_bytes([n0, n1, n2, n3]);
        match kind {
            0 => Ok(Self::Block { artifact, index: number, bytes }),
            1 => Ok(Self::RetryAfter { artifact, delay_ms: number }),
            2 => Ok(Self::Gone { artifact }),
            other => Err(InvalidFrame::Kind(other)),
        }
    }
}

/// Which blocks of an artifact are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenMap", into = "WrittenMap")]
pub struct BlockMap {
    here: BitVec<u8, Lsb0>,
}

/// A map in JSON: the number of blocks, and the bytes of [`BlockMap::as_bytes`] as base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMap {
    blocks: u32,
    here: String,
}

impl From<BlockMap> for WrittenMap {
    fn from(map: BlockMap) -> Self {
        Self { blocks: map.len(), here: BASE64.encode(map.as_bytes()) }
    }
}

impl TryFrom<WrittenMap> for BlockMap {
    type Error = String;
    fn try_from(written: WrittenMap) -> Result<Self, String> {
        let bytes = BASE64.decode(written.here).map_err(|error| error.to_string())?;
        Self::from_bytes(&bytes, written.blocks)
            .ok_or_else(|| format!("not a map of {} blocks", written.blocks))
    }
}

impl BlockMap {
    /// A map of `count` blocks, none of them here.
    #[must_use]
    pub fn empty(count: u32) -> Self {
        Self { here: BitVec::repeat(false, count as usize) }
    }

    /// Reads the bytes of [`as_bytes`](Self::as_bytes); `None` when their number does not fit `count`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], count: u32) -> Option<Self> {
        if bytes.len() != (count as usize).div_ceil(8) {
            return None;
        }
        let mut here = BitVec::from_slice(bytes);
        here.truncate(count as usize);
        Some(Self { here })
    }

    /// One bit for each block, lowest bit first; unused bits are zero.
    #[must_use]
    pub fn as_bytes(&self) -> Vec<u8> {
        let mut bits = self.here.clone();
        bits.set_uninitialized(false);
        bits.into_vec()
    }

    /// Number of blocks of the artifact.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.here.len()).unwrap_or(u32::MAX)
    }

    /// True for an artifact without blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.here.is_empty()
    }

    /// True when block `index` is here.
    #[must_use]
    pub fn has(&self, index: u32) -> bool {
        self.here.get(index as usize).is_some_and(|bit| *bit)
    }

    /// Notes that block `index` is here; an index past the end is ignored.
    pub fn insert(&mut self, index: u32) {
        if let Some(mut bit) = self.here.get_mut(index as usize) {
            *bit = true;
        }
    }

    /// How many blocks are here.
    #[must_use]
    pub fn count_here(&self) -> u32 {
        u32::try_from(self.here.count_ones()).unwrap_or(u32::MAX)
    }

    /// True when every block is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.here.all()
    }

    /// The first `limit` blocks that are neither here nor in `asked`, as runs.
    #[must_use]
    pub fn missing(&self, asked: &Self, limit: u32) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let wanted = self.here.iter_zeros().filter_map(|i| u32::try_from(i).ok()).filter(|&i| !asked.has(i));
        for index in wanted.take(limit as usize) {
            let full = runs.len() == MAX_RUNS;
            match runs.last_mut() {
                Some(run) if run.first + run.count == index => run.count += 1,
                _ if full => break,
                _ => runs.push(Run { first: index, count: 1 }),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_longer_than_any_block_is_refused() {
        let frame =
            Frame::Block { artifact: [0; 8], index: 0, bytes: &vec![0; MAX_BLOCK_BYTES as usize + 1] }
                .encode();
        assert!(matches!(Frame::decode(&frame), Err(InvalidFrame::Long(_))));
    }

    #[test]
    fn missing_blocks_are_asked_for_once() {
        let mut here = BlockMap::empty(10);
        [0, 1, 5].into_iter().for_each(|i| here.insert(i));
        let mut asked = BlockMap::empty(10);
        asked.insert(2);
        let runs = here.missing(&asked, 4);
        assert_eq!(runs, [Run { first: 3, count: 2 }, Run { first: 6, count: 2 }]);
    }

    proptest! {
        #[test]
        fn a_frame_survives_its_wire_form(index: u32, artifact: [u8; 8], bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for frame in [Frame::Block { artifact, index, bytes: &bytes }, Frame::RetryAfter { artifact, delay_ms: index }, Frame::Gone { artifact }] {
                let encoded = frame.encode();
                prop_assert_eq!(Frame::decode(&encoded).unwrap(), frame);
            }
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Frame::decode(&bytes);
        }

        #[test]
        fn a_map_survives_its_disk_form(count in 0_u32..100, indices in prop::collection::vec(0_u32..100, 0..50)) {
            let mut map = BlockMap::empty(count);
            indices.iter().for_each(|&i| map.insert(i));
            let json = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(&serde_json::from_str::<BlockMap>(&json).unwrap(), &map);
            prop_assert_eq!(BlockMap::from_bytes(&map.as_bytes(), count).unwrap(), map);
        }
    }
}
