//! `muster-agent`: the daemon of a device and its two helpers, in one binary.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use muster_agent::{config::Config, daemon, enroll};
use shared::DeviceId;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs machine-learning models on this device for a Muster fleet.
#[derive(Debug, Parser)]
#[command(name = "muster-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this device a member of a fleet.
    Enroll {
        /// The line that `muster enroll token create` printed.
        token: String,
        /// Name of this device in the fleet; the server makes one up otherwise.
        #[arg(long)]
        name: Option<DeviceId>,
        /// Configuration file.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run the agent.
    Run {
        /// Configuration file.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Enroll { token, name, config } => {
                let config = Config::load(config.as_deref())?;
                let device = enroll::enroll(&config, &token, name).await?;
                say(&format!("enrolled as {device}; start the agent with `muster-agent run`"));
                Ok(())
            }
            Command::Run { config } => daemon::run(Config::load(config.as_deref())?, until_signal()?).await,
        }
    })
}

/// A token that is cancelled by SIGTERM or SIGINT.
fn until_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(cancel)
}

fn start_log() {
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

#[allow(clippy::print_stdout)] // the answer to the command
fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr)] // the last word of a command that failed
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
