//! The program `muster`: the fleet server, and the command line that talks to it.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
};

use clap::Parser;
use muster::{
    cli::{self, Cli, Command},
    publish::worker,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The worker limits itself before anything else; it has no use for a runtime.
    if matches!(cli.command, Command::GateWorker) {
        return if worker::main().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    start_tracing();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&cli::Failure::new(cli::Exit::Failed, format!("no runtime: {error}"))),
    };
    match runtime.block_on(Box::pin(cli::run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// `RUST_LOG` decides what is told; by default what the server does and what goes wrong elsewhere. Colours are for
/// a person at a terminal who did not ask for none with `NO_COLOR`.
fn start_tracing() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,muster=info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = stderr().is_terminal() && !plain;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(colours).init();
}

#[allow(clippy::print_stderr)] // the last word of the program
fn fail(failure: &cli::Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::from(failure.exit as u8)
}
