//! The gate: hands the files to a worker process and waits for its word, within a limit.

use std::{
    fmt, io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use shared::manifest::DriftSpec;
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::timeout,
};

use super::{
    Upload, reference,
    worker::{Passed, Refusal, Report, SUBCOMMAND, SampleTask, Task},
};
use crate::app::App;

/// A model that needs longer to pass its golden vectors than this is not for small devices.
const WALL: Duration = Duration::from_secs(180);

/// For a sample, besides: to read it, and to run the model on it.
const SAMPLE_WALL: Duration = Duration::from_secs(60 + reference::RUN_LIMIT.as_secs());

/// A model that passed.
#[derive(Debug)]
pub struct Gated {
    /// What was brought.
    pub upload: Upload,
    /// What the gate found.
    pub report: Report,
    /// What devices watch for drift.
    pub drift: Option<DriftSpec>,
    /// The golden vectors as safetensors.
    pub golden: Bytes,
}

/// Why a model did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// The gate itself did not work.
#[derive(Debug, Error)]
#[error("the gate does not work: cannot {act}")]
pub struct GateError {
    act: &'static str,
    source: io::Error,
}

fn failed(act: &'static str) -> impl Fn(io::Error) -> GateError {
    move |source| GateError { act, source }
}

/// Judges an upload.
///
/// # Errors
/// When no worker can be run. A refused model is not an error but the answer.
pub async fn gate(app: &App, upload: Upload) -> Result<Result<Gated, Refused>, GateError> {
    let folder = app.scratch.join(uuid::Uuid::new_v4().to_string());
    tokio::fs::create_dir_all(&folder).await.map_err(failed("make a scratch folder"))?;
    let judged = judge(app, &folder, upload).await;
    tokio::fs::remove_dir_all(&folder).await.map_err(failed("remove a scratch folder"))?;
    judged
}

async fn judge(app: &App, folder: &Path, upload: Upload) -> Result<Result<Gated, Refused>, GateError> {
    let task = Task {
        model: folder.join("model.onnx"),
        golden: folder.join("golden"),
        sample: upload.reference.as_ref().map(|_| SampleTask {
            file: folder.join("reference"),
            features: upload.features.as_ref().map(|_| folder.join("features.toml")),
            mark: folder.join("reading-the-sample"),
        }),
        golden_out: folder.join("golden.safetensors"),
        budgets: upload.policy.budgets,
        tolerance: upload.policy.tolerance,
    };
    tokio::fs::write(&task.model, &upload.onnx).await.map_err(failed("write the model"))?;
    tokio::fs::write(&task.golden, &upload.golden).await.map_err(failed("write the golden vectors"))?;
    if let Some(sample) = &task.sample {
        let files = [(Some(&sample.file), &upload.reference), (sample.features.as_ref(), &upload.features)];
        for (path, bytes) in files {
            if let (Some(path), Some(bytes)) = (path, bytes) {
                tokio::fs::write(path, bytes).await.map_err(failed("write the reference"))?;
            }
        }
    }
    let worker = spawn(&app.program).map_err(failed("start the worker"))?;
    let Passed { report, drift } = match talk(worker, &task).await? {
        Ok(passed) => passed,
        Err(refusal) => return Ok(Err(Refused { code: refusal.code, detail: refusal.detail })),
    };
    let golden = tokio::fs::read(&task.golden_out).await.map_err(failed("read the golden vectors"))?;
    Ok(Ok(Gated { upload, report, drift, golden: golden.into() }))
}

/// A worker without our environment, that dies when nobody waits for it any more.
fn spawn(program: &Path) -> io::Result<Child> {
    Command::new(program)
        .arg(SUBCOMMAND)
        .env_clear()
        // Every arena reserves address space, which is what the worker is limited in.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

async fn talk(mut worker: Child, task: &Task) -> Result<Result<Passed, Refusal>, GateError> {
    let text = serde_json::to_vec(task).expect("a task is paths and numbers");
    if let Some(mut stdin) = worker.stdin.take() {
        stdin.write_all(&text).await.map_err(failed("talk to the worker"))?;
    }
    let wall = if task.sample.is_some() { WALL + SAMPLE_WALL } else { WALL };
    let Ok(ended) = timeout(wall, worker.wait_with_output()).await else {
        let detail = format!("the gate gave up after {} s", wall.as_secs());
        return Ok(Err(Refusal { code: "gate_timeout".into(), detail }));
    };
    let ended = ended.map_err(failed("wait for the worker"))?;
    let said = serde_json::from_slice(&ended.stdout);
    Ok(said.unwrap_or_else(|_| Err(killed(task, ended.status))))
}

/// Of a worker that ended without a word.
fn killed(task: &Task, status: ExitStatus) -> Refusal {
    let is_reading = task.sample.as_ref().is_some_and(|sample| sample.mark.exists());
    let (code, detail) = if is_reading {
        let detail = format!(
            "the process that reads the reference sample was killed ({status}): the sample needs more memory or time than              there is; bring fewer cases, or smaller numbers (bytes for pixels)"
        );
        ("bad_reference", detail)
    } else {
        ("gate_crashed", format!("the model killed the process that tried it ({status})"))
    };
    Refusal { code: code.into(), detail }
}
