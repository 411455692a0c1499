//! The stock Triton client that asks without a pause (`tests/python/hammer.py`).

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde::Deserialize;

use crate::programs::{python, repository};

/// A client at work.
#[derive(Debug)]
pub struct Hammer(Option<Child>);

/// What happened in one phase.
#[derive(Debug, Clone, Deserialize)]
pub struct Phase {
    /// Requests, answered or not.
    pub requests: u64,
    /// What was not answered, or not as before, in words.
    pub failed: Vec<String>,
    /// Median latency as the client sees it.
    pub p50_ms: f64,
    /// One request in a hundred took longer.
    pub p99_ms: f64,
    /// One request in a thousand took longer.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Hammer {
    /// Starts to ask `model` at `address`; what comes before the first phase is not counted.
    #[must_use]
    pub fn start(address: SocketAddr, model: &str) -> Self {
        let mut command = Command::new(python());
        command
            .arg(repository().join("tests/python/hammer.py"))
            .args([&address.to_string(), model])
            .arg(repository().join("fleet-server/demo/digits-test.bin"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self(Some(command.spawn().expect("python starts")))
    }

    /// What happens from now on belongs to `phase`.
    pub fn begin(&mut self, phase: &str) {
        let stdin = self.0.as_mut().and_then(|child| child.stdin.as_mut()).expect("its input is a pipe");
        writeln!(stdin, "{phase}").expect("the client listens");
    }

    /// Ends it and gives what happened in each phase.
    #[must_use]
    pub fn end(mut self) -> BTreeMap<String, Phase> {
        let mut child = self.0.take().expect("it is ended once");
        drop(child.stdin.take());
        let output = child.wait_with_output().expect("our own child can be waited for");
        assert!(output.status.success(), "the client ended with {}", output.status);
        serde_json::from_slice(&output.stdout).expect("the client tells what happened")
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
