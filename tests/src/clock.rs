//! A wrong clock for one program, by libfaketime.

use std::{path::PathBuf, process::Command};

/// A shift of the wall clock; timers go on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockShift(pub &'static str);

impl ClockShift {
    /// Makes `command` live in the shifted time.
    pub fn apply(self, command: &mut Command) {
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME", self.0)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_RESET", "1");
    }
}

/// Debian puts it into a folder named after the architecture.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("a Linux system has /usr/lib").filter_map(Result::ok);
    let candidates = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.expect("libfaketime is here: install the Debian package faketime, or run tests/run, which does")
}
