//! The command line: one noun, one verb. Data goes to standard output, talk to standard error.
//!
//! Every command but `serve`, `demo`, `sim` and `config` is a client of the HTTP API and can do nothing that the API cannot.

// The one place of this library that is meant to print.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod challengers;
mod client;
mod context;
mod devices;
mod drift;
mod experiments;
mod failure;
mod freezes;
mod groups;
mod history;
mod models;
mod output;
mod patience;
mod rollouts;
mod serve;
mod sim;
mod tokens;
mod watch;
mod webhooks;
mod when;

pub use args::{Cli, Command};
pub use client::Client;
pub use context::Context;
pub use failure::{Exit, Failure};

use args::{ConfigCommand, EnrollCommand, EnrollTokenCommand, RolloutNoun};
use output::Output;

use crate::{
    config::{Config, DEFAULTS, Variables},
    demo,
};

/// Does what the command line says.
///
/// # Errors
/// With the exit code for the failure.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let output = Output::new(cli.output);
    let context = || Context::find(cli.context.as_deref());
    let client = || Client::new(&context()?);
    match cli.command {
        Command::Serve(args) => serve::serve(args).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Sim(options) => sim::run(options, context, &output).await,
        Command::Config(command) => config(command),
        Command::Enroll(EnrollCommand::Token(EnrollTokenCommand::Create(args))) => {
            tokens::create_enroll_token(&client()?, args, &output).await
        }
        Command::Model(command) => models::run(&client()?, command, &output).await,
        Command::Challenger(command) => challengers::run(&client()?, command, &output).await,
        Command::Rollout(RolloutNoun::Verb(command)) => rollouts::run(&client()?, command, &output).await,
        Command::Rollout(RolloutNoun::History(args)) => history::rollout(&client()?, args, &output).await,
        Command::StopEverything { reason, yes, trial } => {
            rollouts::stop_everything(&client()?, (reason, yes), trial, &output).await
        }
        Command::Device(command) => devices::run(&client()?, command, &output).await,
        Command::Group(command) => groups::run(&client()?, command, &output).await,
        Command::Experiment(command) => experiments::run(&client()?, command, &output).await,
        Command::Drift(command) => drift::run(&client()?, command, &output).await,
        Command::Freeze(command) => freezes::run(&client()?, command, &output).await,
        Command::Events(args) => history::events(&client()?, args, &output).await,
        Command::Token(command) => tokens::run(&client()?, command, &output).await,
        Command::Webhook(command) => webhooks::run(&client()?, command, &output).await,
        Command::Context => {
            output.line(&context()?.server);
            Ok(())
        }
        // The program does this before it comes here, outside of any runtime.
        Command::GateWorker => Err(Failure::usage("the server starts this command, people do not")),
    }
}

fn config(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Defaults => print!("{DEFAULTS}"),
        ConfigCommand::Check { file } => {
            Config::load(Some(&file), &Variables::of_process())
                .map_err(|error| Failure::usage(chain(&error)))?;
            eprintln!("{}: fine", file.display());
        }
    }
    Ok(())
}

/// An error with its causes, on one line each.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n  because: {cause}"));
        source = cause.source();
    }
    text
}
