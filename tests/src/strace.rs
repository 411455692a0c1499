//! System calls of a real program, written down or struck one at a time by `strace`.
//!
//! A call has a name, a file, and a number among those of its thread on that file, so it is the same call in every run,
//! however threads take turns. Calls of the network have no file and are counted in their thread.
//!
//! Children are let go as they become another program: a runner runs at its own speed, and no call of it is struck. The
//! tracer is nobody's parent, so the program behaves and ends as if it were not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{programs, random::Random};

/// Everything that looks into a file.
pub const READS: &[&str] = &["statx", "newfstatat", "read", "pread64", "getdents64"];

/// Everything that changes a file, a name or how long they last. `openat` reads as well: only its flags tell.
pub const CHANGES: &[&str] = &[
    "openat",
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "fallocate",
    "ftruncate",
    "chmod",
    "fchmodat",
    "fsetxattr",
    "bind",
];

/// Calls on files that the tracer cannot pick by the file: they are counted in their thread, with those that have none.
const NOT_PICKED_BY_FILE: &[&str] = &["bind", "connect"];

/// Everything that reaches another program.
pub const NETWORK: &[&str] =
    &["socket", "connect", "bind", "listen", "accept4", "sendto", "recvfrom", "sendmsg", "recvmsg", "writev"];

/// One call of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// The file it is about, below the folder that was watched; `None` for the network.
    pub file: Option<PathBuf>,
    /// Counted from 1.
    pub number: u32,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The program is killed in its place.
    Kill,
    /// It fails, with this error, and does nothing.
    Fail(&'static str),
}

impl Call {
    /// The file by which the tracer picks it.
    fn picked_by(&self) -> Option<&Path> {
        self.file.as_deref().filter(|_| !NOT_PICKED_BY_FILE.contains(&self.name.as_str()))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().map_or("the network".into(), Path::to_string_lossy);
        write!(f, "{} #{} of {file}", self.name, self.number)
    }
}

/// `program`, with its calls of these names written to `log`.
#[must_use]
pub fn watch(program: &Path, names: &[&str], log: &Path) -> Command {
    let mut command = traced(log, names);
    command.arg("-y").arg(program);
    command
}

/// `program`, with one call struck. `folder` is the one that was watched.
#[must_use]
pub fn strike(program: &Path, folder: &Path, call: &Call, blow: Blow, log: &Path) -> Command {
    let mut command = traced(log, &[&call.name]);
    let happens = match blow {
        Blow::Kill => "signal=KILL".to_owned(),
        Blow::Fail(error) => format!("error={error}"),
    };
    command.arg("-e").arg(format!("inject={}:{happens}:when={}", call.name, call.number));
    if let Some(file) = call.picked_by() {
        command.arg("-P").arg(folder.join(file));
    }
    command.arg(program);
    command
}

/// `program`, whose syncs do nothing and say that they did.
#[must_use]
pub fn without_syncs(program: &Path, log: &Path) -> Command {
    let mut command = traced(log, &["fsync", "fdatasync"]);
    command.args(["-e", "inject=fsync,fdatasync:retval=0"]).arg(program);
    command
}

/// True when `log` tells of a call that was struck.
#[must_use]
pub fn has_struck(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.contains("(INJECTED)"))
}

fn traced(log: &Path, names: &[&str]) -> Command {
    let mut command = Command::new(programs::from_debian("strace", "strace"));
    // A processor may lack a call that another one has.
    let names: Vec<String> = names.iter().map(|name| format!("?{name}")).collect();
    command.args(["-D", "-f", "-qq", "-b", "execve", "-e", "signal=none", "-o"]).arg(log);
    command.arg("-e").arg(format!("trace={}", names.join(",")));
    command
}

/// The calls that [`watch`] wrote to `log`: those on files below `folder`, and those of the network. In order, each
/// once.
#[must_use]
pub fn calls_in(log: &Path, folder: &Path) -> Vec<Call> {
    let text = fs::read_to_string(log).expect("strace has written its log");
    let folder = folder.to_str().expect("scratch folders have plain names");
    let mut counts: BTreeMap<(&str, String, Option<PathBuf>), u32> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let calls = text.lines().filter_map(|line| {
        let (thread, mut call) = read_line(line, folder)?;
        let counted = (thread, call.name.clone(), call.picked_by().map(Path::to_owned));
        let count = counts.entry(counted).or_default();
        *count += 1;
        call.number = *count;
        seen.insert(call.clone()).then_some(call)
    });
    calls.collect()
}

/// `count` of the calls, evenly over the run, from a random one on; all of them, again and again, where there are fewer.
#[must_use]
pub fn spread(calls: &[Call], count: usize, random: &mut Random) -> Vec<Call> {
    if calls.is_empty() {
        return Vec::new();
    }
    let first = random.below((calls.len() / count).max(1));
    let nth = |n: usize| calls[(first + n * calls.len() / count.min(calls.len())) % calls.len()].clone();
    (0..count).map(nth).collect()
}

/// `thread name(arguments…`, with every descriptor followed by its file in angle brackets.
fn read_line<'a>(line: &'a str, folder: &str) -> Option<(&'a str, Call)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, arguments) = rest.trim_start().split_once('(')?;
    if name.starts_with('<') {
        // The end of a call that another thread came between.
        return None;
    }
    let file = match arguments.find(folder) {
        Some(start) => {
            let rest = &arguments[start + folder.len()..];
            let end = rest.find(['"', '>'])?;
            Some(PathBuf::from(rest[..end].trim_start_matches('/')))
        }
        None if NETWORK.contains(&name) && arguments.contains("socket:") => None,
        None if matches!(name, "socket" | "connect" | "bind" | "listen") => None,
        None => return None,
    };
    Some((thread, Call { name: name.to_owned(), file, number: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"7 openat(AT_FDCWD</work>, "/t/data/ledger.a", O_RDWR|O_CREAT, 0600) = 3</t/data/ledger.a>
7 pwrite64(3</t/data/ledger.a>, "muster-ledger 2"..., 512, 0 <unfinished ...>
8 pwrite64(3</t/data/ledger.a>, "muster-ledger 2"..., 512, 0) = 512
7 <... pwrite64 resumed>) = 512
7 pwrite64(3</t/data/ledger.a>, "muster-ledger 2"..., 512, 0) = 512
7 sendto(9<socket:[5]>, "\27\3", 2, MSG_NOSIGNAL, NULL, 0) = 2
7 fsync(4</t/data>) = 0
7 bind(9<socket:[6]>, {sa_family=AF_INET, sin_port=htons(0)}, 16) = 0
7 bind(9<socket:[7]>, {sa_family=AF_UNIX, sun_path="/t/data/serving.sock"}, 110) = 0
7 write(1</t/agent.log>, "a line", 6) = 6
"#;

    #[test]
    fn a_call_is_named_by_its_file_and_its_number_there() {
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), LOG).unwrap();
        let found: Vec<String> =
            calls_in(log.path(), Path::new("/t/data")).iter().map(ToString::to_string).collect();
        let expected = [
            "openat #1 of ledger.a",
            "pwrite64 #1 of ledger.a",
            "pwrite64 #2 of ledger.a",
            "sendto #1 of the network",
            "fsync #1 of ",
            "bind #1 of the network",
            "bind #2 of serving.sock",
        ];
        assert_eq!(found, expected);
    }
}
