//! What may be written about challengers.

use clap::{Args, Subcommand};
use shared::ReleaseId;

use super::Trial;
use crate::cli::when::When;

/// Verbs of `challenger`.
#[derive(Debug, Subcommand)]
pub enum ChallengerCommand {
    /// Run a release beside what devices run of its model; it answers nobody.
    Start(ChallengerStart),
    /// End it; what came of it stays.
    Stop {
        /// `NAME@VERSION`
        release: ReleaseId,
        /// Which devices; all when absent.
        #[arg(long, value_name = "SELECTOR")]
        on: Option<String>,
        /// Whether to change anything.
        #[command(flatten)]
        trial: Trial,
    },
    /// Tell how far it agrees with its champions, and how sure that is.
    Report {
        /// `NAME@VERSION`
        release: ReleaseId,
    },
}

/// Start a challenger.
#[derive(Debug, Args)]
pub struct ChallengerStart {
    /// `NAME@VERSION`
    pub release: ReleaseId,
    /// Which devices: `all`, `site=berlin,env!=lab`, `id in (a,b)`, `group:NAME`.
    #[arg(long, value_name = "SELECTOR")]
    pub on: String,
    /// Share of the champion's inputs, up to 1.
    #[arg(long, default_value_t = 0.05)]
    pub share: f64,
    /// Percentage of one core that it may take.
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    pub cpu: u8,
    /// When it ends by itself: 2026-01-31T08:45:00Z, 'in 7d'.
    #[arg(long, value_name = "MOMENT")]
    pub until: Option<When>,
    /// Whether to change anything.
    #[command(flatten)]
    pub trial: Trial,
}
