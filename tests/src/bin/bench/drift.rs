//! What it costs an application that the features of its inferences are counted.
//!
//! One runner, driven as the daemon drives it, holds the same model in several versions: one whose features are not watched, the
//! same once more, one of which every row is counted, and one of which every tenth is. They share its threads, and take turns
//! with the same requests over one connection. Two versions that are the same show how exact the comparison is. Because they
//! lie differently in memory, the last rows compare one session with itself, without an agent ([`engine`]).
//!
//! A caller who asks again at once also meets the counting of its last answer, so the time of a request has both in it. The
//! processor time of the runner is the other figure: it has everything, whoever waits for it, but that what is counted of the last answer of
//! a block, about a microsecond, may fall to the next one.

mod engine;
mod models;

use std::{cell::RefCell, net::TcpStream, rc::Rc, time::Duration};

use anyhow::{Context as _, ensure};
use muster_agent::runner::{Event, LoadRequest};
use serde_json::{Value, json};
use shared::{
    Digest,
    manifest::{CapturePolicy, DriftSpec},
};
use system_tests::{
    http::Target,
    rig::{Rig, release},
    smuggle::BUDGETS,
};

use crate::{
    http::{Connection, post},
    measure::{Comparison, Contestant, Rounds, cpu_nanos, mean, means},
    report::{Row, progress},
};
use models::Watched;

/// What a version is called in the table, and every how manieth of its rows is counted.
const VERSIONS: [(&str, Option<u32>); 4] = [
    ("not watched", None),
    ("not watched, once more", None),
    ("every row counted", Some(1)),
    ("every tenth row counted", Some(10)),
];

/// What counting may take of the time of an inference of a millisecond, in percent.
const BOUND_PERCENT: f64 = 2.0;

/// Inferences in a block: about a hundredth of a second, in which a machine rarely changes its pace.
const BLOCK: usize = 8;

/// Rounds that make one figure: with 128 inferences of each it holds what counting does at every tenth and at every 128th row, in its
/// place, and a round that was interrupted spoils one figure of many.
const GROUP: usize = 128 / BLOCK;

/// Rounds that are counted: a multiple of the contestants, so that each is at every place equally often.
const ROUNDS: usize = 80 * GROUP;

/// A runner that does not answer for this long is hung.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Measures both models.
pub fn run() -> anyhow::Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut rows = Vec::new();
    for watched in [models::table()?, models::image()?] {
        progress(&format!("measuring {}", watched.name));
        let rig = runtime.block_on(load(&watched))?;
        rows.extend(measure(&rig, &watched)?);
        rows.extend(alone(&watched)?);
    }
    Ok(rows)
}

async fn load(watched: &Watched) -> anyhow::Result<Rig> {
    let mut rig = Rig::start(BUDGETS).await;
    for (version, (_, every)) in (1..).zip(VERSIONS) {
        let capture = CapturePolicy { every, window_secs: 86_400, min_rows: 50 };
        let drift = every.map(|_| DriftSpec { capture, ..watched.spec.clone() });
        let request = LoadRequest {
            release: release(version),
            model_digest: Digest::of(&watched.onnx),
            inputs: watched.inputs.clone(),
            outputs: watched.outputs.clone(),
            budgets: BUDGETS,
            drift,
            known_every: None,
        };
        let loaded = rig.load_as(request, &watched.onnx).await;
        ensure!(matches!(loaded, Event::Loaded { .. }), "{}: {loaded:?}", watched.name);
    }
    Ok(rig)
}

fn measure(rig: &Rig, watched: &Watched) -> anyhow::Result<Vec<Row>> {
    let cpu: Vec<_> = VERSIONS.iter().map(|_| Rc::new(RefCell::new(vec![]))).collect();
    let mut contestants = Vec::new();
    for ((version, (name, _)), cpu) in (1..).zip(VERSIONS).zip(&cpu) {
        contestants.push(contestant(rig, watched, version, name, Rc::clone(cpu))?);
    }
    let rounds = Rounds::play_by(mean, &mut contestants, ROUNDS, BLOCK)?.grouped(GROUP);
    let asked = (ROUNDS + 1) * BLOCK;
    check_counted(rig, asked)?;
    let [plain, again, ..] = VERSIONS.map(|(name, _)| name);
    let row = |what: &str, peer: &str, found: Comparison| {
        Row::compared(format!("{}: {what}", watched.name), "µs", peer, found)
    };
    let mut rows = vec![row("request, not watched", again, rounds.compare(plain, again))];
    for (name, _) in &VERSIONS[2..] {
        let found = rounds.compare(name, plain);
        rows.push(row(&format!("request, {name}"), plain, found));
        let (what, percent) = (format!("{}: {name}, longer by", watched.name), (found.ratio - 1.0) * 100.0);
        rows.push(Row::beside(what, percent, "%", "bound", BOUND_PERCENT));
    }
    // The first block warmed up.
    let cpu: Vec<_> = cpu.iter().map(|blocks| means(&blocks.borrow()[1..], GROUP)).collect();
    for ((name, _), of_version) in VERSIONS.iter().zip(&cpu).skip(1) {
        let what = format!("processor time of the runner, {name}");
        rows.push(row(&what, plain, Comparison::of_rounds(of_version, &cpu[0])));
    }
    Ok(rows)
}

/// The same without an agent.
fn alone(watched: &Watched) -> anyhow::Result<[Row; 2]> {
    let (name, found) = (&watched.name, engine::compare(watched)?);
    let (what, percent) = (format!("{name}: the same, longer by"), (found.ratio - 1.0) * 100.0);
    Ok([
        Row::compared(format!("{name}: in this process, every row counted"), "µs", "the model alone", found),
        Row::beside(what, percent, "%", "bound", BOUND_PERCENT),
    ])
}

/// Asks one version with each of the model's requests in turn, and writes down what a request of each block costs the runner, in
/// microseconds.
fn contestant<'a>(
    rig: &Rig,
    watched: &Watched,
    version: u32,
    name: &'static str,
    cpu: Rc<RefCell<Vec<f64>>>,
) -> anyhow::Result<Contestant<'a>> {
    let stream = TcpStream::connect(rig.address())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut connection = Connection::new(stream);
    let path = format!("/v2/models/digits/versions/{version}/infer");
    let requests: Vec<Vec<u8>> = watched.rows.iter().map(|row| request(&path, watched, row)).collect();
    let (pid, mut next) = (rig.pid(), 0);
    let mut timed = Contestant::calling(name, move || {
        next = (next + 1) % requests.len();
        connection.exchange(&requests[next]).map(|_| ())
    });
    let block = move |count| {
        let before = cpu_nanos(pid)?;
        let times = (timed.block)(count)?;
        cpu.borrow_mut().push((cpu_nanos(pid)? - before) / 1e3 / count as f64);
        Ok(times)
    };
    Ok(Contestant { name, block: Box::new(block) })
}

/// The tensor follows the JSON as bytes, and the answer is asked for in the same form.
fn request(path: &str, watched: &Watched, row: &[f32]) -> Vec<u8> {
    let tensor: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": watched.shape,
                    "parameters": {"binary_data_size": tensor.len()}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let headers = format!(
        "content-type: application/octet-stream\r\ninference-header-content-length: {}\r\n",
        header.len()
    );
    post(path, &headers, &[header.as_bytes(), &tensor].concat())
}

/// A cost of something that did not happen would be no figure.
fn check_counted(rig: &Rig, asked: usize) -> anyhow::Result<()> {
    for (version, (name, every)) in (1..).zip(VERSIONS) {
        let path = format!("/v2/models/digits/versions/{version}/stats");
        let stats: Value = Target::Tcp(rig.address()).get(&path)?.json();
        let drift = &stats["model_stats"][0]["muster_drift"];
        let Some(every) = every else {
            ensure!(drift.is_null(), "{name}: {drift}");
            continue;
        };
        // The last answer may not be counted yet.
        let least = (asked as u64).div_ceil(every.into()) - 1;
        let counted = drift["rows_counted"].as_u64().context("a version that is watched tells it")?;
        ensure!(
            counted >= least && drift["rows_left_out"] == 0,
            "{name}: {counted} rows of {asked}: {drift}"
        );
    }
    Ok(())
}
