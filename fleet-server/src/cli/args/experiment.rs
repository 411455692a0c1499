//! What may be written about experiments.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use shared::ReleaseId;

use super::{Trial, parse_duration};

/// Verbs of `experiment`.
#[derive(Debug, Subcommand)]
pub enum ExperimentCommand {
    /// Deal devices to two arms, bring each its release, and compare them.
    Start(Box<ExperimentArgs>),
    /// Start what a file describes, unless it was started already.
    Apply {
        /// TOML: `name`, `a`, `b`, `selector`, and what differs from the defaults.
        #[arg(short = 'f', long, value_name = "FILE")]
        file: PathBuf,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// List experiments, newest first.
    List,
    /// Show an experiment: who is in which arm, and where it stands.
    Show {
        /// Its name.
        name: String,
    },
    /// Tell what it shows, metric by metric, judged once more from the stored looks.
    Report {
        /// Its name.
        name: String,
    },
    /// End an experiment; devices stay as they are.
    Stop {
        /// Its name.
        name: String,
        /// Why; kept with the experiment.
        #[arg(long)]
        reason: String,
        /// Bring the devices back that it moved.
        #[arg(long)]
        restore: bool,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
}

/// What becomes of the devices at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AtEndWord {
    /// They keep what they run.
    Leave,
    /// They go back to what they ran before.
    Restore,
    /// The better release, if one is, is rolled out to everybody who was selected.
    Adopt,
}

/// What to compare, on whom, and how.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// Its name; taken for good.
    pub name: String,
    /// `NAME@VERSION` of arm A, usually what runs.
    pub a: ReleaseId,
    /// `NAME@VERSION` of arm B, of the same model.
    pub b: ReleaseId,
    /// Whose devices are dealt: `all`, `site=berlin,env!=lab`, `id in (a,b)`, `group:NAME`.
    #[arg(long, value_name = "SELECTOR")]
    pub to: String,
    /// Percentages of the able devices for arm A and arm B.
    #[arg(long, value_name = "A,B", default_value = "50,50")]
    pub shares: String,
    /// Decides who is in which arm; made of the name when absent.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Probability that an arm is called better though neither is beyond a margin; 0.05 by default.
    #[arg(long)]
    pub alpha: Option<f64>,
    /// End it undecided after this long: 12h, 7d.
    #[arg(long, default_value = "7d", value_parser = parse_duration)]
    pub max_duration: Duration,
    /// What becomes of the devices at the end.
    #[arg(long, value_enum, default_value_t = AtEndWord::Leave)]
    pub at_end: AtEndWord,
    /// Sizes of the waves in which an arm is brought its release: `1,10%,all`.
    #[arg(long, value_name = "SIZES")]
    pub waves: Option<String>,
    /// Ask at most so many devices a minute.
    #[arg(long, value_name = "DEVICES")]
    pub per_minute: Option<u32>,
    /// Somebody else has to approve before the first device is asked.
    #[arg(long)]
    pub approve: bool,
    /// Whole strategy as JSON or, in a file that ends in .toml, as TOML; the other options change it.
    #[arg(long, value_name = "FILE", conflicts_with = "waves")]
    pub strategy: Option<PathBuf>,
    /// How arms are compared, with metrics and margins, as JSON or TOML; --alpha changes it.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Whether to change anything.
    #[command(flatten)]
    pub trial: Trial,
}
