//! The agent's program: one binary for the daemon and its two kinds of children.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Brings models to this device, watches them, and takes them back when they fail.
#[derive(Parser)]
#[command(name = "muster-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves inference for the daemon at the other end of the standard input.
    #[command(hide = true)]
    Runner,
    /// Tries one model for the daemon at the other end of the standard input.
    #[command(hide = true)]
    Trial,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match arguments.command {
        Command::Runner => muster_agent::runner::main(),
        Command::Trial => muster_agent::trial::main(),
    }
}
