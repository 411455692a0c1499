//! Reading a handed-over file: from its start, whole, once, with its digest.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::Bytes;
use shared::{Digest, artifact::MAX_ARTIFACT_BYTES};

/// Reads the file and checks that its bytes have `digest`. Only these bytes are used afterwards, so nobody can
/// exchange the file between check and use.
///
/// # Errors
/// In words: unreadable, too large, or of another digest.
pub(crate) fn read_verified(file: &File, digest: &Digest) -> Result<Bytes, String> {
    let bytes = read_whole(file).map_err(|error| format!("cannot be read: {error}"))?;
    let found = Digest::of(&bytes);
    if found == *digest {
        return Ok(bytes.into());
    }
    Err(format!("has the digest {found} where the manifest says {digest}"))
}

fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    // Not `File::metadata`, whose call could be used on paths as well.
    let size_bytes = u64::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)?;
    if size_bytes > MAX_ARTIFACT_BYTES {
        return Err(io::Error::other(format!(
            "{size_bytes} bytes are more than the allowed {MAX_ARTIFACT_BYTES}"
        )));
    }
    let length = usize::try_from(size_bytes).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
