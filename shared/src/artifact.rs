//! Artifacts: stored bytes, named by their digest, and the packed form in which they travel.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::Digest;

/// Bytes of a block. Small enough for a slow link's keep-alive to fit between two, and below the 128 KiB that the
/// strictest hosted broker carries; block size hardly matters for CPU.
pub const BLOCK_BYTES: u32 = 64 * 1_024;

/// Largest block size that a manifest may ask for.
pub const MAX_BLOCK_BYTES: u32 = 120 * 1_024;

/// Largest artifact, packed or not. The block table of a larger one would not fit a manifest.
pub const MAX_ARTIFACT_BYTES: u64 = 512 * 1_024 * 1_024;

/// How the bytes that travel become the bytes that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are.
    Stored,
    /// One Zstandard frame (RFC 8878) with a window of at most 8 MiB.
    Zstd,
}

/// An artifact and its packed form. Both digests are under the manifest's signature, so nothing is unpacked
/// that was not signed, and nothing is used that was unpacked wrongly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Digest of the bytes that are used.
    pub digest: Digest,
    /// How many they are.
    pub size_bytes: u64,
    /// The form that travels.
    pub packed: Packed,
}

/// The form of an artifact that travels, cut into blocks that are verified one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packed {
    /// How to unpack.
    pub encoding: Encoding,
    /// Digest of the packed bytes.
    pub digest: Digest,
    /// How many they are.
    pub size_bytes: u64,
    /// Size of every block but the last.
    pub block_bytes: u32,
    /// Digest of each block in order.
    pub blocks: Vec<Digest>,
}

/// Why the description of an artifact contradicts itself or a bound.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidArtifact {
    /// An artifact is empty or larger than [`MAX_ARTIFACT_BYTES`].
    #[error("an artifact of {0} bytes; allowed are 1 to {MAX_ARTIFACT_BYTES}")]
    Size(u64),
    /// The block size is zero or larger than [`MAX_BLOCK_BYTES`].
    #[error("blocks of {0} bytes; allowed are 1 to {MAX_BLOCK_BYTES}")]
    BlockSize(u32),
    /// The number of block digests does not fit the size.
    #[error("{found} block digests where the size asks for {expected}")]
    BlockCount {
        /// What the size asks for.
        expected: u64,
        /// What is listed.
        found: usize,
    },
    /// A stored artifact differs from its packed form.
    #[error("a stored artifact must equal its packed form")]
    StoredDiffers,
}

impl Artifact {
    /// Checks sizes against the bounds and the block table against the sizes.
    ///
    /// # Errors
    /// Names the first contradiction.
    pub fn check(&self) -> Result<(), InvalidArtifact> {
        for size in [self.size_bytes, self.packed.size_bytes] {
            if size == 0 || size > MAX_ARTIFACT_BYTES {
                return Err(InvalidArtifact::Size(size));
            }
        }
        let packed = &self.packed;
        if packed.block_bytes == 0 || packed.block_bytes > MAX_BLOCK_BYTES {
            return Err(InvalidArtifact::BlockSize(packed.block_bytes));
        }
        let expected = packed.size_bytes.div_ceil(u64::from(packed.block_bytes));
        if expected != packed.blocks.len() as u64 {
            return Err(InvalidArtifact::BlockCount { expected, found: packed.blocks.len() });
        }
        let same = self.digest == packed.digest && self.size_bytes == packed.size_bytes;
        if packed.encoding == Encoding::Stored && !same {
            return Err(InvalidArtifact::StoredDiffers);
        }
        Ok(())
    }
}

impl Packed {
    /// Describes `bytes`, cut into blocks of [`BLOCK_BYTES`].
    #[must_use]
    pub fn describe(bytes: &[u8], encoding: Encoding) -> Self {
        let blocks = bytes.chunks(BLOCK_BYTES as usize).map(Digest::of).collect();
        let size_bytes = bytes.len() as u64;
        Self { encoding, digest: Digest::of(bytes), size_bytes, block_bytes: BLOCK_BYTES, blocks }
    }

    /// Number of blocks. A manifest is bounded to far fewer than `u32::MAX`.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    /// Where block `index` starts and how long it is; `None` past the end.
    #[must_use]
    pub fn block_range(&self, index: u32) -> Option<(u64, u32)> {
        let offset = u64::from(index).checked_mul(u64::from(self.block_bytes))?;
        let left = self.size_bytes.checked_sub(offset).filter(|&left| left > 0)?;
        Some((offset, u32::try_from(left.min(u64::from(self.block_bytes))).unwrap_or(self.block_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(len: usize) -> Artifact {
        let bytes = vec![7; len];
        let packed = Packed::describe(&bytes, Encoding::Stored);
        Artifact { digest: packed.digest, size_bytes: packed.size_bytes, packed }
    }

    #[test]
    fn the_blocks_of_an_artifact_cover_it_exactly() {
        for len in [1, 65_535, 65_536, 65_537, 200_000] {
            let artifact = artifact(len);
            artifact.check().unwrap();
            let ranges: Vec<_> = (0..).map_while(|i| artifact.packed.block_range(i)).collect();
            assert_eq!(ranges.len(), artifact.packed.blocks.len());
            assert_eq!(ranges.iter().map(|r| u64::from(r.1)).sum::<u64>(), len as u64);
        }
    }

    #[test]
    fn a_missing_block_digest_is_noticed() {
        let mut artifact = artifact(100_000);
        artifact.packed.blocks.pop();
        assert!(matches!(artifact.check(), Err(InvalidArtifact::BlockCount { expected: 2, found: 1 })));
    }

    #[test]
    fn an_empty_or_endless_artifact_is_refused() {
        assert!(artifact(0).check().is_err());
        let mut endless = artifact(1);
        endless.size_bytes = u64::MAX;
        assert!(matches!(endless.check(), Err(InvalidArtifact::Size(u64::MAX))));
    }
}
