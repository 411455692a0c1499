//! Packs a file for its way to devices: one Zstandard frame, or as it is when that is smaller.

use std::io;

use bytes::Bytes;
use shared::{
    Digest,
    artifact::{Artifact, Encoding, Packed},
};
use zstd::{bulk::Compressor, zstd_safe::CParameter};

/// The slowest level that still keeps to the window below; packing happens once, sending thousands of times.
const LEVEL: i32 = 19;

/// A window of 8 MiB: what a device must hold to unpack.
const WINDOW_LOG: u32 = 23;

/// The artifact's description and its packed bytes.
pub(super) fn pack(bytes: &Bytes) -> io::Result<(Artifact, Bytes)> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    let small = compressor.compress(bytes)?;
    let (encoding, packed) = match small.len() < bytes.len() {
        true => (Encoding::Zstd, Bytes::from(small)),
        false => (Encoding::Stored, bytes.clone()),
    };
    let artifact = Artifact {
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u64,
        packed: Packed::describe(&packed, encoding),
    };
    Ok((artifact, packed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_unpacks_to_the_same() {
        let bytes: Bytes = b"weights and weights ".repeat(10_000).into();
        let (artifact, packed) = pack(&bytes).unwrap();
        assert_eq!(artifact.packed.encoding, Encoding::Zstd);
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), bytes);
        artifact.check().unwrap();
    }

    #[test]
    fn what_does_not_shrink_is_stored() {
        let (artifact, packed) = pack(&Bytes::from_static(b"x")).unwrap();
        assert_eq!((artifact.packed.encoding, &packed[..]), (Encoding::Stored, &b"x"[..]));
        artifact.check().unwrap();
    }
}
