//! A recording on disk: what the core was told, one line for each entry.
//!
//! A line is a checksum of sixteen hexadecimal digits, a space, and the entry as JSON. The checksum covers the checksum of
//! the line before too, so a line that is missing is noticed like one that was changed. The first line is the start,
//! and the last one says why nothing follows; a recording without it was cut, or its agent was killed.
//!
//! A recording stops at [`MAX_RECORDING_BYTES`]. It is no ring: what comes first is what everything else is rebuilt from.
//! There is no fsync, since the newest lines are worth less than the disk's time, and a disk that fails ends the
//! recording and not the agent.

mod reader;
mod writer;

use shared::Digest;

pub use reader::{Reader, RecordingError};
pub use writer::Recorder;

/// Bytes of a recording: some hundred thousand inputs, days of a device that is busy with deployments.
pub const MAX_RECORDING_BYTES: u64 = 64 * 1_024 * 1_024;

/// The checksum of a line after one with checksum `before`.
fn checksum(before: &str, json: &[u8]) -> String {
    let mut bytes = before.as_bytes().to_vec();
    bytes.extend_from_slice(json);
    Digest::of(&bytes).to_string()[..CHECKSUM_DIGITS].to_owned()
}

const CHECKSUM_DIGITS: usize = 16;

#[cfg(test)]
mod tests;
