//! What may be written about groups, freeze periods, and what happened.

use clap::{Args, Subcommand};

use super::RolloutCommand;
use crate::cli::when::When;

/// Whether to change anything.
#[derive(Debug, Clone, Copy, Args)]
pub struct Trial {
    /// Check everything and say what would be; change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

impl Trial {
    /// What is added to the path of the request.
    pub(crate) fn query(self) -> &'static str {
        if self.dry_run { "?dry_run=true" } else { "" }
    }
}

/// Verbs of `group`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Give a selector a name; `group:NAME` stands for it from then on.
    Create {
        /// The name.
        name: String,
        /// Which devices: `site=berlin,tier in (a,b)`.
        #[arg(long, short = 'l')]
        selector: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// List groups.
    List,
    /// Show a group with the devices that match now.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a group; what was started or frozen by it stays as it is.
    Delete {
        /// Its name.
        name: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
}

/// Verbs of `freeze`.
#[derive(Debug, Subcommand)]
pub enum FreezeCommand {
    /// Add a period in which rollouts ask nobody new.
    Add(FreezeArgs),
    /// List periods, those that are over too.
    List,
    /// Remove a period.
    Remove {
        /// Its id.
        id: String,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
}

/// A freeze period.
#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// When it begins: `2026-12-24T00:00:00+01:00`, `in 2h`, `now`.
    #[arg(long, value_name = "TIME", default_value = "now")]
    pub from: When,
    /// When it ends.
    #[arg(long, value_name = "TIME")]
    pub until: When,
    /// Why; whoever asks what holds a rollout back reads it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Which devices; all when absent. A group is taken as it is now.
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
    /// Whether to change anything.
    #[command(flatten)]
    pub trial: Trial,
}

/// Which events.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on telling until interrupted.
    #[arg(long, short)]
    pub follow: bool,
}

/// Verbs of `rollout`: what moves one, and what tells of it.
#[derive(Debug, Subcommand)]
pub enum RolloutNoun {
    /// What plans, starts, shows or orders.
    #[command(flatten)]
    Verb(RolloutCommand),
    /// Tell what happened in a rollout, in order.
    History(HistoryArgs),
}

/// Whose history.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Id of the rollout.
    pub id: String,
}
