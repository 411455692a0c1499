//! Words of `webhook`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Verbs of `webhook`.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Add an address that events are posted to, and print its secret, this once.
    Add(WebhookAdd),
    /// List webhooks and how they stand.
    List,
    /// Remove a webhook.
    Remove {
        /// Its id.
        id: String,
    },
    /// Try a webhook at once that fails or was given up.
    Enable {
        /// Its id.
        id: String,
    },
    /// Post a test event and say what came of it.
    Test {
        /// Its id.
        id: String,
    },
}

/// A webhook.
#[derive(Debug, Args)]
pub struct WebhookAdd {
    /// Where events are posted: https, or http on the server's own machine.
    pub url: String,
    /// Kinds of events such as drift, or single ones such as rollout.halted; all when absent.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub events: Vec<String>,
    /// The CA that signed the receiver's certificate, as PEM; those of the server's system when absent.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Post to http elsewhere too, which anybody on the way can read and change.
    #[arg(long)]
    pub insecure_http: bool,
}
