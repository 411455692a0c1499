//! A child process whose output goes to a file, and which does not outlive its test.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::try_until;

/// What is shown of a log when a test fails.
const TAIL_BYTES: u64 = 6 * 1_024;

/// A program that was asked to stop has this long.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command`; what it says is appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let output =
            File::options().create(true).append(true).open(log).expect("the scratch folder is writable");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file can be shared")).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), log: log.to_owned(), child }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child can be waited for")
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop and waits until it has.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        let asked = kill_process(own(&self.child), Signal::TERM);
        asked.unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
        let status = try_until(STOP_WITHIN, || self.ended());
        status.unwrap_or_else(|| panic!("{} did not stop within {STOP_WITHIN:?}", self.name))
    }

    /// The last lines it wrote.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Its children that were started with `argument` first, for example the runner of an agent.
    #[must_use]
    pub fn children(&self, argument: &str) -> Vec<u32> {
        let folders = fs::read_dir("/proc").expect("Linux has /proc").filter_map(Result::ok);
        let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| parent_of(*pid) == Some(self.pid()) && has_argument(*pid, argument)).collect()
    }

    /// Memory that it holds, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> Option<u64> {
        resident_kib(self.pid())
    }

    fn end(&mut self) {
        // Killing fails only where it ended already, and waiting only where it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            show(&self.name, &self.log);
        }
    }
}

/// Memory that any process holds, in KiB.
#[must_use]
pub fn resident_kib(pid: u32) -> Option<u64> {
    status_field(pid, "VmRSS:")?.trim_end_matches(" kB").parse().ok()
}

/// The most memory that any process ever held, in KiB.
#[must_use]
pub fn peak_kib(pid: u32) -> Option<u64> {
    status_field(pid, "VmHWM:")?.trim_end_matches(" kB").parse().ok()
}

/// Children of this process that were started with `argument`.
#[must_use]
pub fn children_of_this(argument: &str) -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has /proc").filter_map(Result::ok);
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.into_iter().filter(|pid| has_argument(*pid, argument)).collect()
}

/// Ends any process by a fault of its own, as far as its parent can tell.
pub fn fault_pid(pid: u32) {
    signal(pid, Signal::SEGV);
}

/// Ends any process as a power cut would.
pub fn kill_pid(pid: u32) {
    signal(pid, Signal::KILL);
}

fn signal(pid: u32, signal: Signal) {
    let pid =
        Pid::from_raw(i32::try_from(pid).expect("process ids are small")).expect("a process id is not 0");
    kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {pid:?}: {error}"));
}

/// True while there is such a process.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    status_field(pid, "State:").is_some_and(|state| !state.starts_with('Z'))
}

/// The end of a log, for a failure report.
#[must_use]
pub fn tail(log: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        file.read_to_end(&mut text)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("(no log: {error})"),
    }
}

/// Where a test's failure report goes.
#[allow(clippy::print_stderr)] // the test's own output is where its reader looks
fn show(name: &str, log: &Path) {
    eprintln!("---- end of the log of {name}\n{}\n----", tail(log).trim_end());
}

fn own(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn parent_of(pid: u32) -> Option<u32> {
    status_field(pid, "PPid:")?.parse().ok()
}

fn status_field(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
}

fn has_argument(pid: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes())
}
