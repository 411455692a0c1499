//! What an operator asks on the device itself. Data goes to standard output, talk to standard error.
//!
//! Every command but `doctor` is a client of the daemon's control socket. `doctor` also works while the daemon is down,
//! which is when it is needed.

// The one place of this library that is meant to print.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod failure;
mod lines;
mod output;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

pub use failure::{Exit, Failure};

use output::Output;

use crate::{
    config::Config,
    control::{self, ModelView, STATUS_PATH, StatusView, client, unknown_model},
    doctor,
};

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 5 not authorised, 6 conflict, 7 not found, \
                          8 the agent is unreachable";

/// Commands for the operator of one device.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How the agent of this device is: link, clock, runner, what waits.
    #[command(after_help = EXIT_CODES)]
    Status(Asked),
    /// Which versions run here and which are coming.
    #[command(after_help = EXIT_CODES)]
    Models(Asked),
    /// Why this device runs what it runs.
    #[command(after_help = EXIT_CODES)]
    Why {
        /// One model; all of them otherwise.
        model: Option<String>,
        /// How it is asked.
        #[command(flatten)]
        asked: Asked,
    },
    /// Check what the agent needs, also while it does not run.
    #[command(after_help = EXIT_CODES)]
    Doctor(Asked),
    /// Go back from a version on probation to the committed one, at once.
    #[command(after_help = EXIT_CODES)]
    Rollback {
        /// Which model.
        model: String,
        /// How it is asked.
        #[command(flatten)]
        asked: Asked,
    },
}

/// What all of them take.
#[derive(Debug, Clone, Args)]
pub struct Asked {
    /// Configuration file of the agent.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Does what the command line says.
///
/// # Errors
/// With the exit code for the failure.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Status(asked) => {
            let (status, output) = status(&asked).await?;
            output.one(&status, || lines::status(&status));
        }
        Command::Models(asked) => {
            let (status, output) = status(&asked).await?;
            output.one(&status.models, || lines::models(&status.models));
        }
        Command::Why { model, asked } => why(model.as_deref(), &asked).await?,
        Command::Doctor(asked) => return examine(&asked).await,
        Command::Rollback { model, asked } => roll_back(&model, &asked).await?,
    }
    Ok(())
}

async fn status(asked: &Asked) -> Result<(StatusView, Output), Failure> {
    let socket = control::socket_path(&config(asked)?.data_dir);
    let status = client::ask(&socket, Method::GET, STATUS_PATH).await?;
    Ok((status, Output::new(asked.output)))
}

async fn why(model: Option<&str>, asked: &Asked) -> Result<(), Failure> {
    let (status, output) = status(asked).await?;
    let reasons = match model {
        None => control::reasons(&status),
        Some(name) => {
            let mut reasons = control::reasons_of(find(name, &status.models)?);
            let of_model = status.drift.iter().filter(|view| view.release.model.as_str() == name);
            reasons.extend(of_model.flat_map(control::drift_of));
            reasons
        }
    };
    let answer = serde_json::json!({ "device": status.device, "reasons": reasons });
    output.one(&answer, || reasons.iter().map(|reason| format!("- {reason}")).collect());
    Ok(())
}

fn find<'a>(name: &str, models: &'a [ModelView]) -> Result<&'a ModelView, Failure> {
    let found = models.iter().find(|view| view.model.as_str() == name);
    found.ok_or_else(|| Failure::new(Exit::NotFound, unknown_model(name, models).detail))
}

async fn roll_back(model: &str, asked: &Asked) -> Result<(), Failure> {
    let (before, output) = status(asked).await?;
    let before = find(model, &before.models)?;
    let socket = control::socket_path(&config(asked)?.data_dir);
    let after: ModelView = client::ask(&socket, Method::POST, &control::rollback_path(model)).await?;
    if let (Some(left), Some(kept)) = (&before.candidate, &after.committed) {
        eprintln!("went back from {left} to {kept}; the server is told");
    }
    output.one(&after, || lines::models(std::slice::from_ref(&after)));
    Ok(())
}

async fn examine(asked: &Asked) -> Result<(), Failure> {
    let checks = doctor::examine(asked.config.as_deref()).await;
    Output::new(asked.output).one(&checks, || lines::checks(&checks));
    match checks.iter().filter(|check| check.state == doctor::State::Fail).count() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, "1 check failed")),
        failed => Err(Failure::new(Exit::Failed, format!("{failed} checks failed"))),
    }
}

fn config(asked: &Asked) -> Result<Config, Failure> {
    Config::load(asked.config.as_deref()).map_err(|error| Failure::new(Exit::Usage, format!("{error:#}")))
}
