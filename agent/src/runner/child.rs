//! Starting a child of the same binary with a socket pair as its standard input.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{ExitStatus, Stdio},
};

use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::channel::{self, Receiver, Sender};

/// The only variable that a child inherits: how much to log. Not whether to trace errors back: finding the names of a
/// trace takes more memory than a trial may use, and then it never ends.
const INHERITED: [&str; 1] = ["RUST_LOG"];

/// Starts `exe subcommand`. It has no environment, no output, a pipe as its standard error, and dies when the [`Child`]
/// is dropped. It is in a process group of its own, so that a Ctrl-C at a terminal reaches
/// the daemon only, which then stops its children in order.
pub(crate) fn start(exe: &Path, subcommand: &str) -> io::Result<(Child, Sender, Receiver)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(exe)
        .arg(subcommand)
        .env_clear()
        .envs(INHERITED.iter().filter_map(|name| Some((OsStr::new(name), std::env::var_os(name)?))))
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let (sender, receiver) = channel::split(ours)?;
    Ok((child, sender, receiver))
}

/// How a process ended, for people: `signal 6`, `exit status 101`.
pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(signal), _) if signal == Signal::SYS.as_raw() => {
            format!("signal {signal}: it asked the kernel for something that no model needs")
        }
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit status {code}"),
        (None, None) => "an unknown end".into(),
    }
}
