//! What may be written about drift.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::{Trial, parse_duration};

/// Verbs of `drift`.
#[derive(Debug, Subcommand)]
pub enum DriftCommand {
    /// Tell how a model is watched and how its detectors stand.
    Status {
        /// Name of the model.
        model: String,
    },
    /// Tell what devices counted, against what the model was made with.
    Report(DriftReportArgs),
    /// List alarms, newest first.
    Alarms {
        /// Of this model.
        #[arg(long)]
        model: Option<String>,
        /// In this state; those that are not over when absent.
        #[arg(long, value_enum)]
        state: Option<AlarmStateWord>,
    },
    /// Show an alarm with everything that speaks for it.
    Show {
        /// Number of the alarm.
        alarm: u64,
    },
    /// Say that somebody knows of an alarm.
    Acknowledge {
        /// Number of the alarm.
        alarm: u64,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Say that an alarm is over.
    Close {
        /// Number of the alarm.
        alarm: u64,
        /// Why; whoever reads the alarm later reads it.
        #[arg(long)]
        reason: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Give up what devices were like: what comes from now on is their new baseline.
    Relearn {
        /// Name of the model.
        model: String,
        /// Only this device.
        #[arg(long)]
        device: Option<String>,
        /// Only this feature.
        #[arg(long)]
        feature: Option<String>,
        /// Only under this version.
        #[arg(long, value_name = "NUMBER")]
        version: Option<u32>,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Show how a model is watched, or change it.
    Settings(DriftSettingsArgs),
    /// Write what was counted of a feature into a file.
    Export(DriftExportArgs),
}

/// What is told.
#[derive(Debug, Args)]
pub struct DriftReportArgs {
    /// Name of the model.
    pub model: String,
    /// Tell devices apart by this label, or by `hardware` or `firmware`.
    #[arg(long, value_name = "LABEL")]
    pub by: Option<String>,
    /// From so long ago on.
    #[arg(long, default_value = "24h", value_parser = parse_duration)]
    pub since: Duration,
    /// Number of the version; the newest that devices run when absent.
    #[arg(long, value_name = "NUMBER")]
    pub version: Option<u32>,
    /// Only this feature, bin by bin.
    #[arg(long)]
    pub feature: Option<String>,
}

/// How a model is watched.
#[derive(Debug, Args)]
pub struct DriftSettingsArgs {
    /// Name of the model.
    pub model: String,
    /// At most one false alarm in so many years, over everything that is watched of the model.
    #[arg(long, value_name = "YEARS")]
    pub one_false_alarm_in_years: Option<f64>,
    /// The devices of a finding count nothing for so long.
    #[arg(long, value_parser = parse_duration)]
    pub suppress: Option<Duration>,
    /// Who makes what is seen now the new normal.
    #[arg(long, value_enum)]
    pub relearn: Option<RelearnWord>,
    /// Whether to change anything.
    #[command(flatten)]
    pub trial: Trial,
}

/// What is written, and where.
#[derive(Debug, Args)]
pub struct DriftExportArgs {
    /// Name of the model.
    pub model: String,
    /// Name of the feature.
    pub feature: String,
    /// As what.
    #[arg(long, value_enum, default_value_t = ExportFormat::Kll)]
    pub format: ExportFormat,
    /// Into which file.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Only devices of this stratum.
    #[arg(long, value_name = "LABEL=VALUE")]
    pub stratum: Option<String>,
    /// From so long ago on.
    #[arg(long, default_value = "24h", value_parser = parse_duration)]
    pub since: Duration,
    /// Until so long ago; until now when absent.
    #[arg(long, value_parser = parse_duration)]
    pub until: Option<Duration>,
    /// Number of the version; the newest that devices run when absent.
    #[arg(long, value_name = "NUMBER")]
    pub version: Option<u32>,
}

/// State of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlarmStateWord {
    /// Nobody knows yet.
    Open,
    /// Somebody knows.
    Acknowledged,
    /// It is over.
    Closed,
    /// All of these.
    Any,
}

/// Who makes what is seen now the new normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RelearnWord {
    /// Only `muster drift relearn`.
    Never,
    /// Also whoever acknowledges a drift.
    WhenAcknowledged,
}

/// As what counts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A KLL sketch of floats, as Apache DataSketches reads it.
    Kll,
    /// Counts by bin and time.
    Json,
}

impl AlarmStateWord {
    /// As the API has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Closed => "closed",
            Self::Any => "any",
        }
    }
}
