//! The gate worker: a short-lived process that parses, loads and runs what a publisher sent.
//!
//! It limits itself before it reads a byte, says its result as one line of JSON, and exits. What kills it kills
//! nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use muster_engine::{Engine, EngineError, Golden, GoldenFailure, TractEngine, inspect, replay};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use shared::manifest::{Budgets, TensorSpec, Tolerance};

use super::golden_file;

/// Name of the subcommand; it is not shown in help.
pub const SUBCOMMAND: &str = "gate-worker";

/// Address space for reading the golden vectors, besides what the model may use.
const SLACK_MIB: u64 = 512;

/// Processor seconds after which the system ends the worker.
const CPU_SECS: u64 = 300;

/// Files it may have open.
const OPEN_FILES: u64 = 32;

/// What the worker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The model.
    pub model: PathBuf,
    /// The golden vectors as they were brought.
    pub golden: PathBuf,
    /// Samples of the training-time distribution.
    pub reference: Option<PathBuf>,
    /// Where to write the golden vectors as safetensors.
    pub golden_out: PathBuf,
    /// What the model may cost.
    pub budgets: Budgets,
    /// How far an output may lie from its golden value.
    pub tolerance: Tolerance,
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who wrote the file.
    pub producer: String,
    /// Opset of each domain.
    pub opsets: BTreeMap<String, i64>,
    /// Operators used.
    pub operators: BTreeSet<String>,
    /// What goes in.
    pub inputs: Vec<TensorSpec>,
    /// What comes out.
    pub outputs: Vec<TensorSpec>,
    /// Nodes of the graph.
    pub node_count: usize,
    /// Golden cases replayed.
    pub cases: u32,
    /// Time to load and warm.
    pub load_ms: u64,
    /// Median latency on the server.
    pub latency_p50_us: u64,
    /// Slowest case on the server.
    pub latency_max_us: u64,
    /// Peak resident memory of the worker.
    pub peak_memory_kib: u64,
}

/// Why the gate refused a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

/// Reads a task from standard input, does it, and writes the result to standard output.
///
/// # Errors
/// When the task cannot be read or the result not written; a refused model is a result.
pub fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let task: Task = serde_json::from_str(&text)?;
    limit(&task.budgets)?;
    let result: Result<Report, Refusal> = work(&task);
    io::stdout().write_all(&serde_json::to_vec(&result)?)
}

fn limit(budgets: &Budgets) -> io::Result<()> {
    let address_space = (own_address_space() + (u64::from(budgets.memory_mib) + SLACK_MIB) * 1_024) * 1_024;
    for (resource, most) in [
        (Resource::As, address_space),
        (Resource::Cpu, CPU_SECS),
        (Resource::Core, 0),
        (Resource::Nofile, OPEN_FILES),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn work(task: &Task) -> Result<Report, Refusal> {
    let model = read(&task.model)?;
    let inspected = inspect(&model).map_err(refusal("bad_structure"))?;
    let golden = golden_file::read(&read(&task.golden)?).map_err(refusal("bad_golden"))?;
    if let Some(reference) = &task.reference {
        golden_file::check_reference(&read(reference)?, &inspected.inputs)
            .map_err(refusal("bad_reference"))?;
    }
    let started = Instant::now();
    let load = TractEngine.load(model, &inspected.inputs, &inspected.outputs);
    let session = load.map_err(|error: EngineError| refusal("does_not_load")(error))?;
    session.warm().map_err(refusal("does_not_run"))?;
    let load_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if load_ms > u64::from(task.budgets.load_ms) {
        let detail = format!("loading took {load_ms} ms; the budget is {} ms", task.budgets.load_ms);
        return Err(refusal("over_budget")(detail));
    }
    let figures = replay(&*session, &golden, &task.tolerance, &task.budgets).map_err(golden_refusal)?;
    write_golden(&golden, &task.golden_out)?;
    Ok(Report {
        producer: inspected.producer,
        opsets: inspected.opsets,
        operators: inspected.operators,
        inputs: inspected.inputs,
        outputs: inspected.outputs,
        node_count: inspected.node_count,
        cases: figures.cases,
        load_ms,
        latency_p50_us: figures.latency_p50_us,
        latency_max_us: figures.latency_max_us,
        peak_memory_kib: status_kib("VmHWM:"),
    })
}

fn golden_refusal(failure: GoldenFailure) -> Refusal {
    let code = match &failure {
        GoldenFailure::Unfit(_) => "bad_golden",
        GoldenFailure::Engine { .. } => "does_not_run",
        GoldenFailure::WrongOutput { .. } => "wrong_output",
        GoldenFailure::Mismatch { .. } => "golden_mismatch",
        GoldenFailure::TooSlow { .. } => "over_budget",
    };
    refusal(code)(failure)
}

fn read(path: &Path) -> Result<Bytes, Refusal> {
    fs::read(path).map(Bytes::from).map_err(refusal("unreadable"))
}

fn write_golden(golden: &Golden, path: &Path) -> Result<(), Refusal> {
    let bytes = golden.write().map_err(refusal("bad_golden"))?;
    fs::write(path, bytes).map_err(refusal("unreadable"))
}

fn refusal<E: ToString>(code: &'static str) -> impl Fn(E) -> Refusal {
    move |error| Refusal { code: code.to_owned(), detail: error.to_string() }
}

fn own_address_space() -> u64 {
    status_kib("VmSize:")
}

/// A line of `/proc/self/status` in KiB; 0 where there is none.
fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
