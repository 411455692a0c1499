//! Benches of the whole system, every figure beside that of a peer measured in the same run.
//!
//! Machines are noisy and differ, so an absolute figure says little. Each suite lets the contestants take turns in
//! blocks, takes the median of every block, and gives the ratio of two contestants as the median over the rounds:
//! whatever slows the machine for a while slows both.
//!
//! The programs are those beside this one (or in `MUSTER_BIN_DIR`), started as a user would start them. `MUSTER_PYTHON`
//! names the Python with onnxruntime, as in the tests.

mod delivery;
mod drift;
mod fleet;
mod footprint;
mod http;
mod inference;
mod machine;
mod measure;
mod onnxruntime;
mod report;
mod subject;
mod swap;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use machine::Machine;
use report::Report;

/// Measures Muster beside its peers and prints one table.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    suite: Suite,
    /// Also write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The agent's inference endpoints against tract and onnxruntime.
    Inference,
    /// Memory, cold start and size of the programs.
    Footprint,
    /// One artifact to many devices against a raw copy of the same bytes.
    Delivery,
    /// Telemetry, plans and desired states of a large fleet on each database.
    Fleet,
    /// Requests of a stock client while versions change.
    Swap,
    /// Inferences whose features are counted against those of the same model whose are not.
    Drift,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let machine = Machine::look();
    let (suite, rows) = match arguments.suite {
        Suite::Inference => ("inference", inference::run()?),
        Suite::Footprint => ("footprint", footprint::run()?),
        Suite::Delivery => ("delivery", delivery::run()?),
        Suite::Fleet => ("fleet", fleet::run()?),
        Suite::Swap => ("swap", swap::run()?),
        Suite::Drift => ("drift", drift::run()?),
    };
    let report = Report { suite, machine, rows };
    report.print();
    match &arguments.json {
        Some(file) => report.write_json(file),
        None => Ok(()),
    }
}
