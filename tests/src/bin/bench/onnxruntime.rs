//! onnxruntime from PyPI in a Python of its own, driven over its standard input and output.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, bail};
use system_tests::programs::{python, repository};

use crate::subject::Subject;

/// A Python that holds one model in onnxruntime, on one thread.
pub struct OnnxRuntime {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl OnnxRuntime {
    /// Starts Python and waits until the model has run once.
    pub fn start(subject: &Subject) -> anyhow::Result<Self> {
        let mut command = script();
        command.arg("serve").arg(&subject.onnx).arg(&subject.input_file);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start Python")?;
        let questions = child.stdin.take().context("its input is a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let mut runtime = Self { child, questions, answers };
        runtime.answer()?;
        Ok(runtime)
    }

    /// Runs the model `count` times; how long each took inside Python, in microseconds.
    pub fn run(&mut self, count: usize) -> anyhow::Result<Vec<f64>> {
        writeln!(self.questions, "{count}")?;
        Ok(serde_json::from_str(&self.answer()?)?)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("Python ended; what it said is above");
        }
        Ok(line)
    }
}

impl Drop for OnnxRuntime {
    fn drop(&mut self) {
        // Killing fails only where it ended already, and waiting only where it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes what onnxruntime answers to `input_file` as golden vectors.
pub fn write_golden(onnx: &Path, input_file: &Path, golden: &Path) -> anyhow::Result<()> {
    let mut command = script();
    command.arg("golden").arg(onnx).arg(input_file).arg(golden);
    finish(command)
}

/// Writes the 224×224 network of the tests.
pub fn write_cnn(onnx: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/data/make_cnn.py")).arg(onnx).stdout(Stdio::null());
    finish(command)
}

/// The file that holds the engine in its Python package.
pub fn library() -> anyhow::Result<PathBuf> {
    let output = script().arg("library").output().context("cannot start Python")?;
    if !output.status.success() {
        bail!("onnxruntime was not found: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn script() -> Command {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/python/bench_onnxruntime.py"));
    command
}

fn finish(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().context("cannot start Python")?;
    if status.success() { Ok(()) } else { bail!("{command:?} ended with {status}") }
}
