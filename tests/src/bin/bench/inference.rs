//! What an inference costs, from the application's side of the agent down to the bare engine.
//!
//! A real server and a real agent carry the models the whole way; then the agent's endpoints, our engine, plain tract
//! and onnxruntime take turns with one and the same input. Every contestant has its request or tensor ready before the
//! clock starts. The engines run on one thread, as they do in the agent.

mod engines;

use std::{net::TcpStream, os::unix::net::UnixStream, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use system_tests::{fleet::Fleet, http::Target};

use crate::{
    http::{Connection, post},
    measure::{Comparison, Contestant, Rounds},
    onnxruntime::OnnxRuntime,
    report::{Row, progress},
    subject::Subject,
};

const TRACT: &str = "tract";
const ONNXRUNTIME: &str = "onnxruntime";
const ENGINE: &str = "our engine in-process";
const UNIX_BINARY: &str = "Unix socket, binary tensors";
const UNIX_JSON: &str = "Unix socket, JSON";
const HTTP_BINARY: &str = "HTTP, binary tensors";
const HTTP_JSON: &str = "HTTP, JSON";

/// Ours, from the innermost outwards.
const OURS: [&str; 5] = [ENGINE, UNIX_BINARY, UNIX_JSON, HTTP_BINARY, HTTP_JSON];

const PEERS: [&str; 2] = [TRACT, ONNXRUNTIME];

/// An agent that does not answer for this long is hung.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Two ways to the same engine give the same numbers, but for the digits that JSON writes.
const AGREEMENT: f32 = 1e-4;

/// Measures both models.
pub fn run() -> anyhow::Result<Vec<Row>> {
    let scratch = tempfile::tempdir()?;
    let subjects = [Subject::digits(scratch.path())?, Subject::cnn(scratch.path())?];
    let fleet = Fleet::start(1);
    let mut rows = Vec::new();
    for subject in &subjects {
        progress(&format!("bringing {} to the device", subject.name));
        subject.bring(&fleet)?;
        progress(&format!("measuring {}", subject.name));
        rows.extend(measure(&fleet, subject)?);
    }
    Ok(rows)
}

fn measure(fleet: &Fleet, subject: &Subject) -> anyhow::Result<Vec<Row>> {
    let mut contestants = contestants(fleet, subject)?;
    let rounds = Rounds::play(&mut contestants, subject.rounds, subject.block)?;
    let row = |what: &str, peer: &str, found: Comparison| {
        Row::compared(format!("{}: {what}", subject.name), subject.unit, peer, found.times(subject.per_micro))
    };
    let pairs = OURS.into_iter().flat_map(|ours| PEERS.map(|peer| (ours, peer)));
    let mut rows: Vec<Row> = pairs.map(|(ours, peer)| row(ours, peer, rounds.compare(ours, peer))).collect();
    rows.push(row("plain tract", ONNXRUNTIME, rounds.compare(TRACT, ONNXRUNTIME)));
    // Of a long inference the difference is smaller than the noise of the inference itself.
    if subject.is_short() {
        for ours in [UNIX_BINARY, UNIX_JSON] {
            rows.push(row(&format!("agent's own overhead, {ours}"), TRACT, rounds.surplus(ours, TRACT)));
        }
    }
    Ok(rows)
}

fn contestants<'a>(fleet: &Fleet, subject: &Subject) -> anyhow::Result<Vec<Contestant<'a>>> {
    let (Target::Tcp(http), Target::Unix(socket)) = (fleet.devices[0].http(), fleet.devices[0].unix_socket())
    else {
        bail!("a device serves HTTP on TCP and on a Unix socket");
    };
    let expected = engines::plain_tract_answer(subject)?;
    let tcp = || -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(http)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(stream)
    };
    let unix = || -> anyhow::Result<UnixStream> {
        let stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(stream)
    };
    check_agreement(&mut Connection::new(unix()?), subject, &expected)?;
    let mut runtime = OnnxRuntime::start(subject)?;
    Ok(vec![
        Contestant::calling(TRACT, engines::plain_tract(subject)?),
        Contestant::calling(ENGINE, engines::our_engine(subject)?),
        over(UNIX_BINARY, unix()?, binary_request(subject)),
        over(UNIX_JSON, unix()?, json_request(subject)),
        over(HTTP_BINARY, tcp()?, binary_request(subject)),
        over(HTTP_JSON, tcp()?, json_request(subject)),
        Contestant { name: ONNXRUNTIME, block: Box::new(move |count| runtime.run(count)) },
    ])
}

/// A contestant that sends one request again and again over one connection.
fn over<'a, S: std::io::Read + std::io::Write + 'a>(
    name: &'static str,
    stream: S,
    request: Vec<u8>,
) -> Contestant<'a> {
    let mut connection = Connection::new(stream);
    Contestant::calling(name, move || connection.exchange(&request).map(|_| ()))
}

/// A fast wrong answer would be no figure: the agent must give what plain tract gives.
fn check_agreement(
    agent: &mut Connection<UnixStream>,
    subject: &Subject,
    expected: &[f32],
) -> anyhow::Result<()> {
    let body = agent.exchange(&json_request(subject))?;
    let answer: Value = serde_json::from_slice(body)?;
    let found =
        answer.pointer("/outputs/0/data").and_then(Value::as_array).context("an answer without data")?;
    let found: Vec<f64> = found.iter().filter_map(Value::as_f64).collect();
    let near = |(found, expected): (&f64, &f32)| {
        (found - f64::from(*expected)).abs() <= f64::from(AGREEMENT * expected.abs().max(1.0))
    };
    if found.len() == expected.len() && found.iter().zip(expected).all(near) {
        return Ok(());
    }
    bail!("the agent and plain tract disagree about {}", subject.name)
}

fn json_request(subject: &Subject) -> Vec<u8> {
    let body = json!({"inputs": [{
        "name": subject.input, "datatype": "FP32", "shape": subject.shape, "data": subject.values,
    }]});
    post(&path(subject), "content-type: application/json\r\n", body.to_string().as_bytes())
}

/// The tensor follows the JSON as bytes, and the answer is asked for in the same form.
fn binary_request(subject: &Subject) -> Vec<u8> {
    let tensor: Vec<u8> = subject.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = json!({
        "inputs": [{"name": subject.input, "datatype": "FP32", "shape": subject.shape,
                    "parameters": {"binary_data_size": tensor.len()}}],
        "outputs": [{"name": subject.output, "parameters": {"binary_data": true}}],
    })
    .to_string();
    let headers = format!(
        "content-type: application/octet-stream\r\ninference-header-content-length: {}\r\n",
        header.len()
    );
    post(&path(subject), &headers, &[header.as_bytes(), &tensor].concat())
}

fn path(subject: &Subject) -> String {
    format!("/v2/models/{}/infer", subject.name)
}
