//! What the agent takes of a device: memory, time to start, bytes of programs.
//!
//! The peer with a model is the least that serves one in Python: a process with onnxruntime and the same model, which
//! has no server, no network and no updates. Without a model there is no peer, and the bounds of the design stand in
//! its column.

mod recovery;

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use system_tests::{device::Device, digits::images_with_ink_in_margin, fleet::Fleet, http::Target, programs};

use crate::{
    measure::{Comparison, cpu_nanos, median},
    onnxruntime::{self, OnnxRuntime},
    report::{Row, progress},
    subject::Subject,
};

/// What the daemon may take without a model.
const IDLE_BOUND_MIB: f64 = 8.0;

/// What it may take of one core while nothing happens.
const IDLE_CPU_BOUND_PERCENT: f64 = 0.1;

/// What a start needed is given back by then.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// Looks at a daemon for which nothing happens: a minute, two windows of telemetry.
const IDLE_LOOKS: usize = 120;

/// Between two of them.
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(500);

/// In what time an agent without a model is to be ready.
const START_BOUND_MS: f64 = 100.0;

/// The agent's own default of `[telemetry] interval_secs`.
const USUAL_INTERVAL_SECS: u32 = 30;

/// Who sets bounds.
const BOUND: &str = "bound";

/// The peer that has a model.
const PYTHON: &str = "python + onnxruntime";

/// Starts of each contestant; medians of fewer jump.
const STARTS: usize = 9;

/// Looks at the memory of a process, spread over [`LOOK_EVERY`] each.
const LOOKS: usize = 20;

/// With [`LOOKS`] it covers several telemetry windows of the device.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How exactly a start is timed.
const POLL_EVERY: Duration = Duration::from_micros(500);

/// A program that is not ready by then never will be.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Inferences before memory is looked at, of every contestant.
const INFERENCES: usize = 300;

/// Measures a device before and after it gets a model.
pub fn run() -> anyhow::Result<Vec<Row>> {
    let scratch = tempfile::tempdir()?;
    let subject = Subject::digits(scratch.path())?;
    let mut fleet = Fleet::start(1);
    let mut rows = sizes()?;
    progress("measuring the agent without a model");
    rows.extend(without_model(&mut fleet)?);
    subject.bring(&fleet)?;
    progress("measuring the agent with the digits model");
    rows.extend(with_model(&mut fleet, &subject)?);
    drop(fleet);
    progress("measuring a device whose agent is killed");
    rows.extend(recovery::rows()?);
    Ok(rows)
}

fn without_model(fleet: &mut Fleet) -> anyhow::Result<[Row; 5]> {
    let device = &mut fleet.devices[0];
    // As a device is set up that nobody watches closely: the tests' own windows are thirty times shorter.
    ensure!(device.stop().success(), "the agent ended badly");
    device.change(|options| options.interval_secs = USUAL_INTERVAL_SECS);
    device.run();
    let pid = device.process().pid();
    fleet.wait_until_online();
    thread::park_timeout(SETTLED_AFTER);
    let (since, before) = (Instant::now(), cpu_nanos(pid)?);
    let resident = looks_at(&status_of(pid), "VmRSS:", IDLE_LOOKS, IDLE_LOOK_EVERY)?;
    let cpu = (cpu_nanos(pid)? - before) / 1e9 / since.elapsed().as_secs_f64() * 100.0;
    let most = resident.iter().copied().fold(0.0, f64::max);
    let anonymous = anonymous_mib(pid)?;
    let device = &mut fleet.devices[0];
    let starts =
        (0..STARTS).map(|_| start_millis(device, endpoints_are_there)).collect::<Result<Vec<_>, _>>()?;
    fleet.wait_until_online();
    Ok([
        Row::beside("daemon without a model, resident", median(&resident), "MiB", BOUND, IDLE_BOUND_MIB),
        Row::beside("daemon without a model, resident at most", most, "MiB", BOUND, IDLE_BOUND_MIB),
        Row::beside("daemon without a model, of one core", cpu, "%", BOUND, IDLE_CPU_BOUND_PERCENT),
        Row::alone("daemon without a model, of that not pages of files", anonymous, "MiB"),
        Row::beside("start without a model to endpoints", median(&starts), "ms", BOUND, START_BOUND_MS),
    ])
}

fn with_model(fleet: &mut Fleet, subject: &Subject) -> anyhow::Result<Vec<Row>> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        ours.push(start_millis(&mut fleet.devices[0], model_is_ready)?);
        let since = Instant::now();
        drop(OnnxRuntime::start(subject)?);
        peers.push(millis(since));
    }
    let starts = Comparison::of_rounds(&ours, &peers);
    let mut rows = memory_with_model(&mut fleet.devices[0], subject)?;
    rows.push(Row::compared("start with digits to ready", "ms", PYTHON, starts));
    Ok(rows)
}

fn memory_with_model(device: &mut Device, subject: &Subject) -> anyhow::Result<Vec<Row>> {
    let digit = images_with_ink_in_margin().into_iter().next().context("there are test images")?;
    for _ in 0..INFERENCES {
        device.infer(&digit).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let mut python = OnnxRuntime::start(subject)?;
    python.run(INFERENCES)?;
    let daemon = device.process().pid();
    let runner = device.runner().context("a device with a model has a runner")?;
    let python = python.pid();
    let ours_shared = proportional_mib(daemon)? + proportional_mib(runner)?;
    let python_resident = resident_mib(python)?;
    Ok(vec![
        Row::alone("daemon with digits, resident", resident_mib(daemon)?, "MiB"),
        Row::beside("runner with digits, resident", resident_mib(runner)?, "MiB", PYTHON, python_resident),
        Row::beside(
            "both with digits, shared pages once",
            ours_shared,
            "MiB",
            PYTHON,
            proportional_mib(python)?,
        ),
    ])
}

/// Starts the device anew and waits until `ready`, in milliseconds.
fn start_millis(device: &mut Device, ready: fn(&Device) -> bool) -> anyhow::Result<f64> {
    let status = device.stop();
    if !status.success() {
        bail!("the agent ended with {status}");
    }
    let since = Instant::now();
    device.run();
    if !wait_until(|| ready(device)) {
        bail!("the agent did not get ready; it said:\n{}", device.log_text());
    }
    Ok(millis(since))
}

/// False when it was in vain.
fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + START_WITHIN;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        thread::park_timeout(POLL_EVERY);
    }
    true
}

fn endpoints_are_there(device: &Device) -> bool {
    endpoints(device).is_some_and(|endpoints| endpoints["http"].is_string())
}

/// Asks over the Unix socket, which is where it was before the start as well, so nothing is waited for twice.
fn model_is_ready(device: &Device) -> bool {
    let socket =
        endpoints(device).and_then(|endpoints| Some(PathBuf::from(endpoints["unix_socket"].as_str()?)));
    let Some(socket) = socket.filter(|socket| UnixStream::connect(socket).is_ok()) else { return false };
    Target::Unix(socket).get("/v2/models/digits/ready").is_ok_and(|answer| answer.status == 200)
}

fn endpoints(device: &Device) -> Option<Value> {
    serde_json::from_slice(&fs::read(device.data_dir().join("endpoints.json")).ok()?).ok()
}

/// Sizes of what is shipped; the smaller build only where somebody has made it.
fn sizes() -> anyhow::Result<Vec<Row>> {
    let library = size_mib(&onnxruntime::library()?)?;
    let agent = programs::muster_agent();
    let mut rows = vec![
        Row::beside(
            "muster-agent, as built here",
            size_mib(&agent)?,
            "MiB",
            "onnxruntime's library",
            library,
        ),
        Row::alone("muster, as built here", size_mib(&programs::muster())?, "MiB"),
    ];
    let shipped = agent.parent().context("a program lies in a folder")?.join("../dist/muster-agent");
    if shipped.is_file() {
        let what = "muster-agent, dist profile";
        rows.push(Row::beside(what, size_mib(&shipped)?, "MiB", "onnxruntime's library", library));
    }
    Ok(rows)
}

#[allow(clippy::cast_precision_loss)] // far below 2^52 bytes
fn size_mib(file: &Path) -> anyhow::Result<f64> {
    let metadata = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?;
    Ok(metadata.len() as f64 / (1_024.0 * 1_024.0))
}

/// Pages in memory, shared ones counted in full.
fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    watched_mib(&status_of(pid), "VmRSS:")
}

/// Pages in memory that no file holds, which the kernel cannot simply drop.
fn anonymous_mib(pid: u32) -> anyhow::Result<f64> {
    watched_mib(&status_of(pid), "RssAnon:")
}

/// Pages in memory, each shared one divided among those who share it.
fn proportional_mib(pid: u32) -> anyhow::Result<f64> {
    watched_mib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn status_of(pid: u32) -> String {
    format!("/proc/{pid}/status")
}

/// The median of a field over some seconds.
fn watched_mib(path: &str, field: &str) -> anyhow::Result<f64> {
    Ok(median(&looks_at(path, field, LOOKS, LOOK_EVERY)?))
}

/// A field again and again, in MiB.
fn looks_at(path: &str, field: &str, looks: usize, every: Duration) -> anyhow::Result<Vec<f64>> {
    let look = |_| {
        thread::park_timeout(every);
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)).context("a field is missing")?;
        let kib: f64 = value.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1_024.0)
    };
    (0..looks).map(look).collect()
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
