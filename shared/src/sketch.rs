//! The message on `up/sk`: what a device counted of a model's features in one window.
//!
//! | part | bytes |
//! |---|---|
//! | form, 1 | 1 |
//! | length of the release | 1 |
//! | release, as `digits@2` | that many |
//! | window ([`muster_sketch::window::Window`]) | the rest |
//!
//! The window names device, run and number, and the server acknowledges it by those with
//! [`Stream::Sketch`](crate::message::Stream::Sketch). Numbers are unique within a run of the agent, whatever the release.

use thiserror::Error;

use crate::id::ReleaseId;

/// The first byte; another form gets another number.
const FORM: u8 = 1;

/// A window as it travels: its counts mean something only together with the reference of its release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchMessage<'a> {
    /// Whose inputs and outputs were counted.
    pub release: ReleaseId,
    /// The encoded window.
    pub window: &'a [u8],
}

/// Why bytes are no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidSketch {
    /// Written by another version.
    #[error("a sketch of form {0}; this software reads form {FORM}")]
    Form(u8),
    /// It ends before its window.
    #[error("a sketch that ends before its window begins")]
    Truncated,
    /// It does not name a release.
    #[error("a sketch of no release")]
    Release,
}

impl<'a> SketchMessage<'a> {
    /// The bytes of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let release = self.release.to_string();
        // Names are bounded far below 255 bytes by their type.
        let length = u8::try_from(release.len()).unwrap_or(u8::MAX);
        let mut bytes = Vec::with_capacity(2 + release.len() + self.window.len());
        bytes.extend_from_slice(&[FORM, length]);
        bytes.extend_from_slice(release.as_bytes());
        bytes.extend_from_slice(self.window);
        bytes
    }

    /// Reads a message; the window inside is not looked at.
    ///
    /// # Errors
    /// When the bytes are no such message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, InvalidSketch> {
        match bytes.first() {
            Some(&FORM) => {}
            Some(&form) => return Err(InvalidSketch::Form(form)),
            None => return Err(InvalidSketch::Truncated),
        }
        let (&length, rest) = bytes[1..].split_first().ok_or(InvalidSketch::Truncated)?;
        let (release, window) = rest.split_at_checked(length.into()).ok_or(InvalidSketch::Truncated)?;
        let text = std::str::from_utf8(release).map_err(|_| InvalidSketch::Release)?;
        let release = text.parse().map_err(|_| InvalidSketch::Release)?;
        Ok(Self { release, window })
    }

    /// Whether bytes that wait to be sent are such a message: JSON never begins with its first byte.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.first() == Some(&FORM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_every_cut_is_refused_or_shortens_the_window() {
        let message = SketchMessage { release: "digits@12".parse().unwrap(), window: b"window" };
        let bytes = message.encode();
        assert!(SketchMessage::is_one(&bytes) && !SketchMessage::is_one(b"{}"));
        assert_eq!(SketchMessage::decode(&bytes), Ok(message));
        for end in 0..bytes.len() - 6 {
            assert!(SketchMessage::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn what_names_no_release_is_refused() {
        assert_eq!(SketchMessage::decode(b"\x02\x00"), Err(InvalidSketch::Form(2)));
        assert_eq!(SketchMessage::decode(b"\x01\x03abcw"), Err(InvalidSketch::Release));
        assert_eq!(SketchMessage::decode(b"\x01\x02\xff\xfe"), Err(InvalidSketch::Release));
    }
}
