//! A child process with a log of its own, which never outlives the demo.
//!
//! Each child leads a process group, because an agent has children too: when the value is dropped, the group is
//! killed, whatever path led there. Only a demo that is itself killed with SIGKILL leaves its children behind.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// A program that was asked to stop has this long.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Lines of a log that are shown when something went wrong.
const TAIL_LINES: usize = 15;

/// Longest part of a log that is read for its last lines.
const TAIL_BYTES: usize = 16 * 1_024;

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    group: Option<Pid>,
}

impl Process {
    /// Starts `command`; what it says goes into `log`.
    ///
    /// # Errors
    /// When the log cannot be made or the program not be started.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        prepare(&mut command, &log)?;
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { name: name.to_owned(), log, child, group })
    }

    /// What it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where it writes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Asks it to stop and gives it time; then drops it.
    pub async fn stop(mut self) {
        if let Some(leader) = self.group.filter(|_| self.child.id().is_some()) {
            // It may have ended in between; then nothing is left to be asked.
            let _ = kill_process(leader, Signal::TERM);
        }
        let _ = timeout(STOP_WITHIN, self.child.wait()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            // Fails only when nobody of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.try_wait();
    }
}

fn prepare(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let make = || File::options().create(true).append(true).open(log);
    let output = make().with_context(|| format!("cannot make {}", log.display()))?;
    let errors = output.try_clone().context("cannot share a log")?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0).kill_on_drop(true);
    // What the shell's environment says of another fleet must not reach this one.
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("MUSTER_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    Ok(())
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let lines: Vec<&str> = end.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
