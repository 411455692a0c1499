//! What may be written after `device`.

use clap::{Args, Subcommand};

use super::{Trial, parse_bytes};
use crate::api::DeviceStatus;

/// Verbs of `device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List devices.
    List(ListArgs),
    /// Show a device.
    Show {
        /// Its name.
        id: String,
    },
    /// Set labels (`NAME=VALUE`) or remove them (`NAME-`).
    Label {
        /// Its name.
        id: String,
        /// What to set or remove.
        #[arg(required = true)]
        changes: Vec<String>,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Let it keep the version of a model that it keeps now; rollouts of that model pass it over.
    Pin {
        /// Its name.
        id: String,
        /// The model.
        model: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Let rollouts of a model ask it again.
    Unpin {
        /// Its name.
        id: String,
        /// The model.
        model: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Take it out of every rollout.
    Quarantine {
        /// Its name.
        id: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// End its quarantine.
    Release {
        /// Its name.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Bound what devices spend on their links; what is not named has no bound then.
    Limits(LimitsArgs),
    /// Explain why it runs what it runs.
    Why {
        /// Its name.
        id: String,
    },
    /// Say which version answered at a moment, on what evidence, and who brought it there.
    At {
        /// Its name.
        id: String,
        /// The moment: `2026-01-31T08:45:00Z`, `2h ago`, `now`.
        #[arg(required = true, num_args = 1..=3)]
        time: Vec<String>,
        /// Only this model.
        #[arg(long)]
        model: Option<String>,
    },
    /// Lock it out for good; its name is free to be enrolled again.
    #[command(visible_alias = "retire")]
    Revoke {
        /// Its name.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
}

/// Which devices to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which: `site=berlin,env!=lab`, `group:NAME`.
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
    /// Only those of this status.
    #[arg(long, value_enum)]
    pub status: Option<DeviceStatus>,
}

/// Whose link, and how much of it.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// Name of one device.
    #[arg(required_unless_present = "selector", conflicts_with = "selector")]
    pub id: Option<String>,
    /// Several devices: `site=berlin,env!=lab`, `group:NAME`.
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
    /// Telemetry in a day: 500kB, 2MB, 1GB.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub telemetry_bytes_per_day: Option<u64>,
    /// Blocks of models in a day.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub transfer_bytes_per_day: Option<u64>,
}
