//! What a device tells about itself.

use std::{collections::BTreeMap, fmt};

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
    /// How far models are locked in; unknown until a process that touches models has told, and in messages of agents
    /// that do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardening: Option<Hardening>,
    /// How far local time is ahead of UTC, in seconds; unknown to agents that do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc_offset_secs: Option<i32>,
}

/// How far the kernel keeps the processes that touch models away from the rest of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardening {
    /// In one word.
    pub level: HardeningLevel,
    /// The layers that do not hold here, by name.
    pub missing: Vec<String>,
}

/// [`Hardening`] in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardeningLevel {
    /// Every layer holds.
    Full,
    /// Some do not.
    Partial,
    /// Neither files nor system calls are out of reach: a hostile model can do what the agent can.
    None,
}

impl HardeningLevel {
    /// As it is written everywhere.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Hardening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.level.word())?;
        if self.missing.is_empty() { Ok(()) } else { write!(f, "; missing: {}", self.missing.join(", ")) }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_of_an_agent_that_does_not_tell_its_hardening_is_read() {
        let told = Inventory::default();
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("hardening"));
        assert_eq!(serde_json::from_str::<Inventory>(&text).unwrap(), told);
    }

    #[test]
    fn what_is_missing_is_told_in_words() {
        let hardening = |level, missing: &[&str]| Hardening {
            level,
            missing: missing.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(hardening(HardeningLevel::Full, &[]).to_string(), "full");
        let partial = hardening(HardeningLevel::Partial, &["files", "network"]);
        assert_eq!(partial.to_string(), "partial; missing: files, network");
    }
}
