//! What may be written on the command line.

mod challengers;
mod devices;
mod drift;
mod experiment;
mod operator;
mod webhooks;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::{ReleaseId, device::parse_label};

pub use challengers::{ChallengerCommand, ChallengerStart};
pub use devices::{DeviceCommand, LimitsArgs, ListArgs};
pub use drift::{
    AlarmStateWord, DriftCommand, DriftExportArgs, DriftReportArgs, DriftSettingsArgs, ExportFormat,
    RelearnWord,
};
pub use experiment::{AtEndWord, ExperimentArgs, ExperimentCommand};
pub use operator::{EventsArgs, FreezeArgs, FreezeCommand, GroupCommand, HistoryArgs, RolloutNoun, Trial};
pub use webhooks::{WebhookAdd, WebhookCommand};

use crate::{auth::Role, demo::DemoOptions, sim::SimOptions};

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 rollout failed or halted, 4 timed out, \
                          5 not authorised, 6 conflict, 7 not found, 8 server unreachable";

/// Publishes models, rolls them out to devices, and answers what runs where and why.
#[derive(Debug, Parser)]
#[command(name = "muster", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// File that names the server and holds a token.
    #[arg(long, global = true, env = "MUSTER_CONTEXT", value_name = "FILE")]
    pub context: Option<PathBuf>,
    /// Form of the answer.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// As the API gives it.
    Json,
    /// One name a line, for scripts.
    Name,
}

/// Nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(ServeArgs),
    /// Watch a whole fleet on this machine: a real server, real devices, a model that goes bad.
    Demo(DemoOptions),
    /// Put thousands of virtual devices before a real server and tell a story: outages, bad releases, silent devices.
    Sim(SimOptions),
    /// Check the server's configuration or show its defaults.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Let devices join.
    #[command(subcommand)]
    Enroll(EnrollCommand),
    /// Publish models and look at them.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Bring releases to devices.
    #[command(subcommand)]
    Rollout(RolloutNoun),
    /// Run releases beside champions without answering anyone, and compare.
    #[command(subcommand)]
    Challenger(ChallengerCommand),
    /// Compare two releases side by side.
    #[command(subcommand)]
    Experiment(ExperimentCommand),
    /// Halt every rollout under way and end every experiment, at once; devices stay as they are.
    StopEverything {
        /// Why; kept with every rollout.
        #[arg(long)]
        reason: String,
        /// Do not ask whether it is meant.
        #[arg(long)]
        yes: bool,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Look at devices and change them.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Give selectors names.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Tell whether inputs and outputs of models have moved away from what they were made with.
    #[command(subcommand)]
    Drift(DriftCommand),
    /// Say when rollouts may not move.
    #[command(subcommand)]
    Freeze(FreezeCommand),
    /// Tell what happened in rollouts.
    Events(EventsArgs),
    /// Let people and programs in.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Tell other systems of events.
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Say which server is meant.
    Context,
    /// Try a model; started by the server.
    #[command(name = crate::publish::worker::SUBCOMMAND, hide = true)]
    GateWorker,
}

/// Run the server.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of keys, database and artifacts; wins over the configuration.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a file and say what is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print every key with its default and what it means.
    Defaults,
}

/// Nouns below `enroll`.
#[derive(Debug, Subcommand)]
pub enum EnrollCommand {
    /// Tokens that devices join with.
    #[command(subcommand)]
    Token(EnrollTokenCommand),
}

/// Verbs of `enroll token`.
#[derive(Debug, Subcommand)]
pub enum EnrollTokenCommand {
    /// Make a token and print it, this once.
    Create(EnrollTokenArgs),
}

/// Make an enrolment token.
#[derive(Debug, Args)]
pub struct EnrollTokenArgs {
    /// Label of every device that joins with it; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
    /// How many devices may join with it.
    #[arg(long, default_value_t = 1)]
    pub uses: u32,
    /// How long it works: 30m, 1h, 7d.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    pub expires: Duration,
}

/// Verbs of `model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Test, pack, sign and store a model as the next version.
    Publish(PublishArgs),
    /// List models.
    List,
    /// Show the versions of a model, or one version.
    Show {
        /// `NAME` or `NAME@VERSION`.
        model: String,
    },
}

/// Publish a model.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The model, an ONNX file.
    pub file: PathBuf,
    /// The line of versions that gets another one.
    #[arg(long)]
    pub name: String,
    /// Where the model comes from (TOML).
    #[arg(long, value_name = "FILE")]
    pub lineage: PathBuf,
    /// Inputs and the outputs they must give (.npz or .safetensors).
    #[arg(long, value_name = "FILE")]
    pub golden: PathBuf,
    /// Samples of the training-time distribution (.npz or .csv); drift is watched against them.
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// What of the samples is watched, where that is not to be derived from the model (TOML).
    #[arg(long, value_name = "FILE", requires = "reference")]
    pub features: Option<PathBuf>,
    /// Budgets, tolerance and probation, where they differ from the defaults (TOML).
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Verbs of `rollout`.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Say what a rollout would do; nothing moves.
    Plan(RolloutArgs),
    /// Start a rollout.
    Start {
        /// What, to whom, and how.
        #[command(flatten)]
        wanted: RolloutArgs,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Say where a rollout stands.
    Status {
        /// Its id.
        id: String,
        /// Go on telling until it is finished.
        #[arg(long)]
        watch: bool,
        /// Give up watching after this long.
        #[arg(long, value_parser = parse_duration, requires = "watch")]
        timeout: Option<Duration>,
    },
    /// List rollouts, newest first.
    List,
    /// Ask nobody new.
    Pause {
        /// Its id.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Go on.
    Resume {
        /// Its id.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Let the wave under way pass, whatever it still waits for.
    Promote {
        /// Its id.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Agree that the wave is asked which waits for it; its author cannot.
    Approve {
        /// Its id.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Ask the devices again that failed or fell silent.
    Retry {
        /// Its id.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Tell why it decided as it did: the evidence of its metrics, judged once more.
    Explain {
        /// Its id.
        id: String,
    },
    /// Start what a file describes, unless it was started already.
    Apply {
        /// TOML: `release`, `selector`, and `[strategy]`.
        #[arg(short = 'f', long, value_name = "FILE")]
        file: PathBuf,
        /// Say what it would do; nothing moves.
        #[arg(long)]
        dry_run: bool,
        /// Start it also when it was stopped or taken back before.
        #[arg(long)]
        again: bool,
    },
    /// Stop for good and leave devices as they are.
    Halt {
        /// Its id.
        id: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Take the release away again.
    Rollback {
        /// Its id.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
}

/// What to roll out, to whom, and how.
#[derive(Debug, Args)]
pub struct RolloutArgs {
    /// `NAME@VERSION`
    pub release: ReleaseId,
    /// Which devices: `all`, `site=berlin,env!=lab`, `id in (a,b)`, `group:NAME`.
    #[arg(long, value_name = "SELECTOR")]
    pub to: String,
    /// Sizes of the waves in order: `1,10%,all`.
    #[arg(long, value_name = "SIZES")]
    pub waves: Option<String>,
    /// Watch each wave this long after its devices have settled.
    #[arg(long, value_parser = parse_duration)]
    pub bake: Option<Duration>,
    /// Percentage of the devices that is held back to the end, to compare the others with.
    #[arg(long, value_name = "PERCENT")]
    pub control: Option<u32>,
    /// Ask at most so many devices a minute.
    #[arg(long, value_name = "DEVICES")]
    pub per_minute: Option<u32>,
    /// Let a wave pass only when its metrics are not worse than those of devices that were not asked.
    #[arg(long)]
    pub metrics: bool,
    /// Somebody else has to approve before the first device is asked.
    #[arg(long)]
    pub approve: bool,
    /// Ask also devices that come to match later.
    #[arg(long)]
    pub continuous: bool,
    /// Whole strategy as JSON or, in a file that ends in .toml, as TOML; the other options change it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["waves", "bake"])]
    pub strategy: Option<PathBuf>,
    /// Ask also devices that refused this release before.
    #[arg(long)]
    pub retry: bool,
}

/// Verbs of `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once.
    Create {
        /// What people call it.
        name: String,
        /// viewer, operator, publisher, approver or admin.
        #[arg(long)]
        role: Role,
        /// How long it works; for ever when absent.
        #[arg(long, value_parser = parse_duration)]
        expires: Option<Duration>,
    },
    /// List tokens.
    List,
    /// Take a token back.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// Reads `500`, `500kB`, `2MB`, `1GB`, in thousands as bills count.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a number of bytes: write for example 500kB or 2MB");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// Reads `90s`, `30m`, `1h`, `7d`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration: write a number and s, m, h or d, for example 30m");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bytes_are_counted_in_thousands() {
        assert_eq!(parse_bytes("2MB"), Ok(2_000_000));
        assert_eq!(parse_bytes("500"), Ok(500));
        for wrong in ["", "MB", "2MiB", "-1", "2 MB", "99999999999999999999", "9999999999999GB", "2ü"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("30m"), Ok(Duration::from_secs(1_800)));
        for wrong in ["30", "m", "", "1y", "-1h", "99999999999999999999d", "1ü"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
