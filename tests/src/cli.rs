//! The command line as a person or a script meets it: what it prints, where, and how it exits.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::programs;

/// Exit codes that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the meaning
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    RolloutFailed = 3,
    TimedOut = 4,
    NotAuthorised = 5,
    Conflict = 6,
    NotFound = 7,
    Unreachable = 8,
}

/// `muster` with the context of one server.
#[derive(Debug, Clone)]
pub struct Cli {
    context: PathBuf,
}

/// What a command answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The command, for failure reports.
    pub command: String,
    /// Its exit code.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Cli {
    /// Commands to the server that `context` describes.
    #[must_use]
    pub fn new(context: &Path) -> Self {
        Self { context: context.to_owned() }
    }

    /// Runs a command and waits for its end.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Answer {
        answer(self.command(arguments))
    }

    fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = Command::new(programs::muster());
        command.args(arguments).env("MUSTER_CONTEXT", &self.context).env("NO_COLOR", "1");
        command
    }

    /// The same, with its data also in a file as it comes.
    pub fn tee<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I, into: File) -> Answer {
        let mut command = self.command(arguments);
        let text = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {text}: {error}"));
        let stdout = copied(child.stdout.take().expect("it is piped"), into);
        let output = child.wait_with_output().expect("it was started");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Answer { command: text, code: output.status.code(), stdout, stderr }
    }

    /// Runs a command that must succeed, and reads its JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.run(arguments.iter().copied().chain(["-o", "json"])).ok().json()
    }
}

/// Everything that comes, also written into a file line by line.
fn copied(from: ChildStdout, mut into: File) -> String {
    let mut all = String::new();
    for line in BufReader::new(from).lines() {
        let line = line.expect("data is text") + "\n";
        into.write_all(line.as_bytes()).expect("the file takes a line");
        all.push_str(&line);
    }
    all
}

/// Runs any command to its end.
#[must_use]
pub fn answer(mut command: Command) -> Answer {
    let text = format!("{command:?}");
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {text}: {error}"));
    Answer {
        command: text,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Answer {
    /// Panics unless the command succeeded.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        self.exits(Exit::Ok)
    }

    /// Panics unless the command ended with `exit`.
    #[track_caller]
    #[must_use]
    pub fn exits(self, exit: Exit) -> Self {
        assert_eq!(self.code, Some(exit as i32), "expected {exit:?} of {self}");
        self
    }

    /// Panics unless the command failed, in whatever way, without a panic (101) or a hang (124).
    #[track_caller]
    #[must_use]
    pub fn fails(self) -> Self {
        assert!(self.code.is_some_and(|code| ![0, 101, 124].contains(&code)), "expected a failure of {self}");
        self
    }

    /// Panics unless what was said contains each of `words`, in any letter case.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let text = format!("{}{}", self.stdout, self.stderr).to_lowercase();
        for word in words {
            assert!(text.contains(&word.to_lowercase()), "expected '{word}' from {self}");
        }
        self
    }

    /// Panics when a clear answer would not look like this: a stack of causes, a debug print, a panic.
    #[track_caller]
    pub fn is_clear(self) -> Self {
        for sign in ["panicked at", "RUST_BACKTRACE", "Caused by:", "Some(", "Err("] {
            assert!(!self.stderr.contains(sign), "'{sign}' is not for people: {self}");
        }
        assert!(!self.stderr.trim().is_empty(), "expected an explanation from {self}");
        self
    }

    /// The data as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}) from {self}"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\nexit {code:?}\nstdout: {stdout}\nstderr: {stderr}")
    }
}
