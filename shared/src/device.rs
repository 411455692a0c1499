//! What a device tells about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most labels of a device.
pub const MAX_LABELS: usize = 32;

/// Longest label name or value.
pub const MAX_LABEL_LEN: usize = 64;

/// Labels such as `site=berlin`, set by the operator at enrolment or later.
pub type Labels = BTreeMap<String, String>;

/// What a device is, told once at every connect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Version of the agent.
    pub agent_version: String,
    /// Processor architecture, as Rust names it: `x86_64`, `aarch64`, `arm`.
    pub arch: String,
    /// Operating system and its version.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub cpu: String,
    /// Logical processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Free space of the agent's file system in MiB.
    pub disk_free_mib: u64,
    /// Inference engines built in, as `name version`.
    pub engines: Vec<String>,
}

/// Reads `name=value`.
///
/// # Errors
/// Says what a label looks like.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let wrong = || {
        format!(
            "'{text}' is not a label: write NAME=VALUE, for example site=berlin, with A-Z a-z 0-9 _ - . only"
        )
    };
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let fits = |part: &str| {
        (1..=MAX_LABEL_LEN).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    if fits(name) && fits(value) { Ok((name.into(), value.into())) } else { Err(wrong()) }
}
