//! `muster-agent`: the daemon of a device and its two kinds of children, in one binary.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use muster_agent::{
    cli,
    config::Config,
    daemon,
    enroll::{self, ClockCheck},
    replay, runner, trial,
};
use shared::DeviceId;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Brings models to this device, watches them, and takes them back when they fail.
#[derive(Debug, Parser)]
#[command(name = "muster-agent", version)]
struct Arguments {
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
        /// Enrol whatever this device's clock says: it has none that keeps time without power.
        #[arg(long)]
        any_clock: bool,
        /// Configuration file.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run the agent.
    Run {
        /// Configuration file.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Write down what the agent decides upon, up to 64 MiB, for `muster-agent replay`. A file that is there is kept with
        /// `.1` at its end. There are no keys and no data of callers in it.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Print what an agent was told and what it made of that, from a file that `run --record` wrote. Nothing is done.
    Replay {
        /// The recording.
        file: PathBuf,
        /// Form of the transcript; JSON is one object a line.
        #[arg(short, long, value_enum, default_value_t = cli::Format::Table)]
        output: cli::Format,
    },
    #[command(flatten)]
    Operator(cli::Command),
    /// Serves inference for the daemon at the other end of the standard input.
    #[command(hide = true)]
    Runner,
    /// Runs a challenger for the daemon at the other end of the standard input.
    #[command(hide = true)]
    Challenger,
    /// Tries one model for the daemon at the other end of the standard input.
    #[command(hide = true)]
    Trial,
}

/// Threads of the daemon: one decides, the other keeps the link alive meanwhile.
const DAEMON_THREADS: usize = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let done = match arguments.command {
        Command::Runner => return runner::main(),
        Command::Challenger => return runner::challenger_main(),
        Command::Trial => return trial::main(),
        Command::Operator(command) => return ask(command),
        Command::Enroll { token, name, any_clock, config } => {
            let clock_check = if any_clock { ClockCheck::Waived } else { ClockCheck::Enforced };
            enroll_device(&token, name, clock_check, config)
        }
        Command::Run { config, record } => run_daemon(config, record),
        Command::Replay { file, output } => replay::replay(&file, output, &mut std::io::stdout().lock()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn enroll_device(
    token: &str,
    name: Option<DeviceId>,
    clock_check: ClockCheck,
    config: Option<PathBuf>,
) -> anyhow::Result<()> {
    let config = Config::load(config.as_deref())?;
    let device = runtime()?.block_on(enroll::enroll(&config, token, name, clock_check))?;
    say(&format!("enrolled as {device}; start the agent with `muster-agent run`"));
    Ok(())
}

/// A command of the operator of this device: no daemon, hence one thread.
fn ask(command: cli::Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(cli::run(command))),
        Err(error) => Err(cli::Failure::new(cli::Exit::Failed, format!("no runtime: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say_last(&failure.to_string());
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run_daemon(config: Option<PathBuf>, record: Option<PathBuf>) -> anyhow::Result<()> {
    let config = Config::load(config.as_deref())?;
    runtime()?.block_on(async { Box::pin(daemon::run(config, record, until_signal()?)).await })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(DAEMON_THREADS).enable_all().build()
}

/// A token that SIGTERM or SIGINT cancels.
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

/// What to log comes from `RUST_LOG`, for example `info,muster_link=debug`. The filter has no regular expressions,
/// whose machinery would be the largest part of an idle daemon.
fn start_log() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

#[allow(clippy::print_stdout)] // the answer to the command
fn say(text: &str) {
    println!("{text}");
}

fn complain(error: &anyhow::Error) {
    say_last(&format!("error: {error:#}"));
}

#[allow(clippy::print_stderr)] // the last word of a command that failed
fn say_last(text: &str) {
    eprintln!("{text}");
}
