//! A runner with its listeners, and an HTTP client for them.
#![allow(dead_code)] // each test file uses its part

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use hyper::HeaderMap;
use muster_agent::runner::{Command, Event, LoadRequest, RunnerProcess};
use muster_engine::onnx::GraphProto;
use serde_json::{Value, json};
use shared::{Digest, ReleaseId, manifest::Budgets};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use crate::onnx::{bytes, fixed, floats, graph, ints, node, symbol, value};

/// Longest wait for anything: far above what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_muster-agent"))
}

pub fn scale(factor: f32) -> GraphProto {
    crate::onnx::scale(factor, vec![fixed(2)])
}

pub fn divide_by_itself() -> GraphProto {
    let two = || vec![fixed(2)];
    // Warm on zeros, which gives NaN: that is an answer like any other until somebody checks it.
    graph(vec![node("Div", &["x", "x"], &["y"])], vec![], vec![value("x", two())], vec![value("y", two())])
}

/// Columns that are multiplied with, and columns that come out: 16 MiB of weights.
const NARROW: i64 = 16;
const WIDE: i64 = 262_144;

/// `y = max(x · w)` for any number of rows.
pub fn wide() -> GraphProto {
    let weights = vec![0.5; usize::try_from(NARROW * WIDE).unwrap()];
    let mut max = node("ReduceMax", &["xw"], &["y"]);
    max.attribute = vec![ints("axes", &[1])];
    graph(
        vec![node("MatMul", &["x", "w"], &["xw"]), max],
        vec![floats("w", &[NARROW, WIDE], &weights)],
        vec![value("x", vec![symbol("rows"), fixed(NARROW)])],
        vec![value("y", vec![symbol("rows"), fixed(1)])],
    )
}

/// Asks a model with a variable number of rows.
pub async fn infer_rows(tcp: &SocketAddr, rows: usize) -> Answer {
    let bytes = rows * usize::try_from(NARROW).unwrap() * 4;
    let parameters = json!({ "binary_data_size": bytes });
    let header = json!({ "inputs": [
        { "name": "x", "shape": [rows, NARROW], "datatype": "FP32", "parameters": parameters } ] });
    let mut body = header.to_string().into_bytes();
    let headers = [("inference-header-content-length", body.len().to_string())];
    body.extend(std::iter::repeat_n(0.5_f32.to_le_bytes(), bytes / 4).flatten());
    post(tcp, "/v2/models/m/infer", &headers, body).await
}

pub fn release(version: u32) -> ReleaseId {
    format!("m@{version}").parse().unwrap()
}

pub fn load_request(version: u32, model: &GraphProto) -> LoadRequest {
    let model = bytes(model.clone());
    let inspected = muster_engine::inspect(&model).unwrap();
    LoadRequest {
        release: release(version),
        model_digest: Digest::of(&model),
        inputs: inspected.inputs,
        outputs: inspected.outputs,
        budgets: Budgets::default(),
        drift: None,
        known_every: None,
    }
}

pub fn file_of(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

pub fn model_file(model: &GraphProto) -> File {
    file_of(&bytes(model.clone()))
}

pub async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    timeout(PATIENCE, events.recv()).await.expect("no event in time").expect("events ended")
}

pub struct Rig {
    pub runner: RunnerProcess,
    pub events: mpsc::Receiver<Event>,
    pub tcp: SocketAddr,
    pub unix: PathBuf,
    /// Of what is loaded from now on.
    pub budgets: Budgets,
    /// What the last load took.
    pub loaded_kib: u64,
    tcp_listener: std::net::TcpListener,
    unix_listener: std::os::unix::net::UnixListener,
    _directory: tempfile::TempDir,
}

impl Rig {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let unix = directory.path().join("socket");
        let tcp_listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let unix_listener = std::os::unix::net::UnixListener::bind(&unix).unwrap();
        let tcp = tcp_listener.local_addr().unwrap();
        let (runner, events) = RunnerProcess::spawn(exe()).unwrap();
        let mut rig = Self {
            runner,
            events,
            tcp,
            unix,
            budgets: Budgets::default(),
            loaded_kib: 0,
            tcp_listener,
            unix_listener,
            _directory: directory,
        };
        rig.hand_over().await;
        rig
    }

    pub async fn restart(&mut self) {
        (self.runner, self.events) = RunnerProcess::spawn(exe()).unwrap();
        self.hand_over().await;
    }

    /// A runner of another program.
    pub async fn restart_as(&mut self, exe: &Path) -> Event {
        (self.runner, self.events) = RunnerProcess::spawn(exe).unwrap();
        let told = next(&mut self.events).await;
        self.listen().await;
        told
    }

    async fn hand_over(&mut self) {
        let told = next(&mut self.events).await;
        assert!(matches!(told, Event::LockedIn(_)), "{told:?}");
        self.listen().await;
    }

    async fn listen(&mut self) {
        let files: Vec<OwnedFd> = vec![
            self.tcp_listener.try_clone().unwrap().into(),
            self.unix_listener.try_clone().unwrap().into(),
        ];
        self.runner.send(Command::Listeners { tcp: true, unix: true }, files).await.unwrap();
        assert_eq!(next(&mut self.events).await, Event::Ready);
    }

    /// The next event that is not about figures.
    pub async fn step(&mut self) -> Event {
        loop {
            match next(&mut self.events).await {
                Event::Observed(_) => {}
                event => return event,
            }
        }
    }

    pub async fn load(&mut self, version: u32, model: GraphProto) {
        let request = Box::new(LoadRequest { budgets: self.budgets, ..load_request(version, &model) });
        self.runner.send(Command::Load(request), vec![model_file(&model).into()]).await.unwrap();
        let event = self.step().await;
        let Event::Loaded { release: loaded, memory_kib, .. } = event else { panic!("{event:?}") };
        assert_eq!(loaded, release(version));
        self.loaded_kib = memory_kib;
    }

    pub async fn switch(&mut self, version: u32) {
        self.runner.send(Command::Switch { release: release(version) }, vec![]).await.unwrap();
        assert_eq!(self.step().await, Event::Switched { release: release(version) });
    }

    pub async fn unload(&mut self, version: u32) {
        self.runner.send(Command::Unload { release: release(version) }, vec![]).await.unwrap();
        assert_eq!(self.step().await, Event::Unloaded { release: release(version) });
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

pub fn int(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// A request for `x` with JSON data, nested or flat.
pub fn request(data: Value) -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [2], "datatype": "FP32", "data": data }] })
}

pub async fn infer(tcp: &SocketAddr, data: Value) -> Answer {
    post(tcp, "/v2/models/m/infer", &[], request(data).to_string().into()).await
}

pub async fn get(tcp: &SocketAddr, path: &str) -> Answer {
    exchange(tokio::net::TcpStream::connect(tcp).await.unwrap(), "GET", path, &[], vec![]).await
}

pub async fn post(tcp: &SocketAddr, path: &str, headers: &[(&str, String)], body: Vec<u8>) -> Answer {
    exchange(tokio::net::TcpStream::connect(tcp).await.unwrap(), "POST", path, headers, body).await
}

pub async fn call_unix(socket: &Path, method: &str, path: &str, body: Vec<u8>) -> Answer {
    exchange(tokio::net::UnixStream::connect(socket).await.unwrap(), method, path, &[], body).await
}

/// One HTTP exchange on a connection of its own.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Answer {
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{extra}\r\n"
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no answer in time").unwrap();
    parse(&Bytes::from(answer))
}

fn parse(answer: &Bytes) -> Answer {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("no end of the headers");
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap())
    };
    Answer { status, headers: lines.map(header).collect(), body: answer[end + 4..].to_vec() }
}

/// The agent on a kernel that does not know these calls, as `strace` makes it look.
pub fn without_calls(calls: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let injections: String = calls.iter().map(|call| format!(" -e inject={call}:error=ENOSYS")).collect();
    let traced = calls.join(",");
    program(&format!(
        "exec strace -f -qq -o /dev/null -e trace={traced}{injections} {} \"$@\"",
        exe().display()
    ))
}

/// A shell script as a program of its own.
pub fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (directory, path)
}
