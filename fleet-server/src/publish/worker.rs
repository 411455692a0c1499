//! The gate worker: a short-lived process that parses, loads and runs what a publisher sent.
//!
//! It limits itself before it reads a byte, says its result as one line of JSON, and exits. What kills it kills
//! nothing else.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use muster_engine::{
    Engine, EngineError, Golden, GoldenFailure, Inspected, Session, TractEngine, inspect, replay,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use shared::manifest::{Budgets, DriftSpec, Tolerance};

pub use super::report::{DriftReport, Refusal, Report};
use super::{
    features::{Model, Plan},
    golden_file,
    reference::{self, Made},
    sample::Sample,
};

/// Name of the subcommand; it is not shown in help.
pub const SUBCOMMAND: &str = "gate-worker";

/// Address space for reading the golden vectors, besides what the model may use.
const SLACK_MIB: u64 = 512;

/// Address space for a sample, besides: its numbers, of which a thousand images of 224 × 224 × 3 have 574 MiB as FP32, and
/// the values of features.
const SAMPLE_MIB: u64 = 1_536;

/// Processor seconds after which the system ends the worker.
const CPU_SECS: u64 = 300;

/// Processor seconds for a sample, besides: to read it, and to run the model on it.
const SAMPLE_CPU_SECS: u64 = 120 + reference::RUN_LIMIT.as_secs();

/// Files it may have open.
const OPEN_FILES: u64 = 32;

/// What the worker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The model.
    pub model: PathBuf,
    /// The golden vectors as they were brought.
    pub golden: PathBuf,
    /// The sample of the training-time distribution.
    pub sample: Option<SampleTask>,
    /// Where to write the golden vectors as safetensors.
    pub golden_out: PathBuf,
    /// What the model may cost.
    pub budgets: Budgets,
    /// How far an output may lie from its golden value.
    pub tolerance: Tolerance,
}

/// A sample of what is to be watched.
#[derive(Debug, Serialize, Deserialize)]
pub struct SampleTask {
    /// The sample as it was brought.
    pub file: PathBuf,
    /// What of it is to be watched, if the publisher says so.
    pub features: Option<PathBuf>,
    /// Is there while the sample is being read and the reference made, to tell what a worker that was killed was doing.
    pub mark: PathBuf,
}

/// A model that passed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passed {
    /// What people are told.
    pub report: Report,
    /// What devices watch, if there was a reference sample.
    pub drift: Option<DriftSpec>,
}

/// Reads a task from standard input, does it, and writes the result to standard output.
///
/// # Errors
/// When the task cannot be read or the result not written; a refused model is a result.
pub fn main() -> io::Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let task: Task = serde_json::from_str(&text)?;
    limit(&task)?;
    let result: Result<Passed, Refusal> = work(&task);
    io::stdout().write_all(&serde_json::to_vec(&result)?)
}

fn limit(task: &Task) -> io::Result<()> {
    let (sample_mib, sample_secs) =
        if task.sample.is_some() { (SAMPLE_MIB, SAMPLE_CPU_SECS) } else { (0, 0) };
    let room_mib = u64::from(task.budgets.memory_mib) + SLACK_MIB + sample_mib;
    let address_space = (own_address_space() + room_mib * 1_024) * 1_024;
    for (resource, most) in [
        (Resource::As, address_space),
        (Resource::Cpu, CPU_SECS + sample_secs),
        (Resource::Core, 0),
        (Resource::Nofile, OPEN_FILES),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn work(task: &Task) -> Result<Passed, Refusal> {
    let model = read(&task.model)?;
    let inspected = inspect(&model).map_err(refusal("bad_structure"))?;
    let golden = golden_file::read(&read(&task.golden)?).map_err(refusal("bad_golden"))?;
    let plan = task.sample.as_ref().map(|sample| sample.plan(&inspected)).transpose()?;
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
    // Before the sample is read, so that it tells what the model needs.
    let peak_memory_kib = status_kib("VmHWM:");
    let made = match (&task.sample, &plan) {
        (Some(sample), Some(plan)) => Some(sample.reference(plan, &*session)?),
        (Some(_) | None, _) => None,
    };
    let (drift, drift_report) = made.map(|made| (made.spec, made.report)).unzip();
    write_golden(&golden, &task.golden_out)?;
    let report = Report {
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
        peak_memory_kib,
        drift: drift_report,
    };
    Ok(Passed { report, drift })
}

impl SampleTask {
    /// What is to be watched.
    fn plan(&self, inspected: &Inspected) -> Result<Plan, Refusal> {
        let model = Model { inputs: &inspected.inputs, outputs: &inspected.outputs };
        let Some(path) = &self.features else { return Ok(Plan::derived()) };
        let text = String::from_utf8(read(path)?.into())
            .map_err(|_| refusal("bad_features")("features.toml is not a text in UTF-8"))?;
        Plan::read(&text, model).map_err(refusal("bad_features"))
    }

    fn reference(&self, plan: &Plan, session: &dyn Session) -> Result<Made, Refusal> {
        let make = || {
            let sample = Sample::read(&self.file, session.inputs(), &plan.element_names())?;
            reference::make(plan, &sample, session, reference::RUN_LIMIT)
        };
        self.marked(make).map_err(refusal("bad_reference"))
    }

    /// Does what may end the worker, with the mark set meanwhile. Without a mark the gate words the end less exactly.
    fn marked<T>(&self, act: impl FnOnce() -> T) -> T {
        let _ = fs::write(&self.mark, []);
        let done = act();
        let _ = fs::remove_file(&self.mark);
        done
    }
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
