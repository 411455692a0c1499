//! What a virtual device says and hears: the messages of the wire, opened.
//!
//! A device of a simulation is handed these by the virtual network. To put one before a real server, a shell decodes and
//! verifies what comes (the director's signature, the digest of every block) and signs what goes.

use shared::{
    block::Frame,
    message::{Acknowledgement, DirectorDocument, Hello, MetadataPart, Request},
    report::Report,
    trust::Verified,
};

/// From a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Up {
    /// It introduces itself, once in each session.
    Hello(Box<Hello>),
    /// A report, which the shell signs.
    Report(Report),
    /// It asks for metadata or blocks.
    Request(Request),
}

/// To a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Down {
    /// The director's word, whose signature was checked.
    Desired(Box<Verified<DirectorDocument>>),
    /// The server has stored a report.
    Acknowledgement(Acknowledgement),
    /// A part of a manifest.
    Metadata(MetadataPart),
    /// A frame of the block topic.
    Block(BlockNews),
}

/// A frame of the block topic without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockNews {
    /// A block came.
    Came {
        /// First eight bytes of the packed digest.
        artifact: [u8; 8],
        /// Which block.
        index: u32,
        /// How long it is.
        bytes: u32,
        /// Whether its digest is the one of the manifest.
        whole: bool,
    },
    /// The server is busy.
    RetryAfter {
        /// First eight bytes of the packed digest.
        artifact: [u8; 8],
        /// How long to wait.
        delay_ms: u32,
    },
    /// The server does not have the artifact.
    Gone {
        /// First eight bytes of the packed digest.
        artifact: [u8; 8],
    },
}

impl BlockNews {
    /// What a frame says; `whole` tells whether the bytes of a block have the digest of the manifest.
    #[must_use]
    pub fn of(frame: &Frame<'_>, whole: bool) -> Self {
        match *frame {
            Frame::Block { artifact, index, bytes } => {
                Self::Came { artifact, index, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX), whole }
            }
            Frame::RetryAfter { artifact, delay_ms } => Self::RetryAfter { artifact, delay_ms },
            Frame::Gone { artifact } => Self::Gone { artifact },
        }
    }
}
