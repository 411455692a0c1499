//! The sandbox from inside: what is left to a model that has taken over the process that runs it.
//!
//! Each attempt is a process of its own: this test program again, which enters the very sandbox of the product and then
//! tries. Nothing of this is in the product.

use crate::onnx;
use crate::rig;
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{net::UnixDatagram, process::CommandExt as _, process::ExitStatusExt as _},
    process::{Command, ExitStatus, Stdio},
};

use muster_agent::sandbox::{Role, enter};
use muster_engine::{Engine as _, Tensor, TractEngine};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit, setrlimit};
use shared::device::HardeningLevel;

/// What the child shall try; unset in the program that the test runner starts.
const ATTEMPT: &str = "MUSTER_TEST_ATTEMPT";

/// Something that the attempt needs to know.
const DETAIL: &str = "MUSTER_TEST_DETAIL";

/// Set where the kernel lacks a layer.
const LACKING: &str = "MUSTER_TEST_LACKING";

/// What a child may take in one of the attempts, and what it tries to take.
const LIMIT_BYTES: u64 = 256 * 1_024 * 1_024;
const GREEDY_BYTES: usize = 1_024 * 1_024 * 1_024;

/// The child's part. As a test of its own it has nothing to try, which is what it finds.
#[test]
fn attempts_are_made_by_children_only() {
    let Ok(attempt) = std::env::var(ATTEMPT) else {
        assert!(std::env::var(DETAIL).is_err());
        return;
    };
    let detail = std::env::var(DETAIL).unwrap_or_default();
    let expected =
        if std::env::var(LACKING).is_ok() { HardeningLevel::Partial } else { HardeningLevel::Full };
    for role in [Role::Runner, Role::Trial] {
        if attempt.starts_with(&format!("{role:?}")) {
            assert_eq!(enter(role).level, expected);
        }
    }
    println!("\nanswer: {}", answer(attempt.split_once(' ').unwrap().1, &detail));
    io::stdout().flush().unwrap();
}

fn answer(attempt: &str, detail: &str) -> String {
    let told = |done: io::Result<()>| match done {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    match attempt {
        "read" => told(File::open(detail).map(drop)),
        "write" => told(File::create(detail).map(drop)),
        "connect" => told(TcpStream::connect(detail).map(drop)),
        "listen" => told(TcpListener::bind("127.0.0.1:0").map(drop)),
        "datagram" => told(UdpSocket::bind("127.0.0.1:0").map(drop)),
        "local socket" => told(UnixDatagram::unbound().map(drop)),
        "execute" => told(Err(Command::new("/bin/true").exec())),
        "fork" => told(Command::new("/bin/true").status().map(drop)),
        "kill" => {
            let parent = Pid::from_raw(detail.parse().unwrap()).unwrap();
            told(kill_process(parent, Signal::TERM).map_err(Into::into))
        }
        "trace" => {
            let parent = nix::unistd::Pid::from_raw(detail.parse().unwrap());
            told(nix::sys::ptrace::attach(parent).map_err(Into::into))
        }
        "raise a limit" => {
            let limit = Rlimit { current: Some(64), maximum: Some(64) };
            told(setrlimit(Resource::Nofile, limit).map_err(Into::into))
        }
        "allocate" => allocate(),
        "infer" => format!("{:?}", infer()),
        "thread" => std::thread::spawn(|| "done".to_owned()).join().unwrap(),
        "abort" => std::process::abort(),
        other => panic!("no attempt is called {other}"),
    }
}

/// Waits until the parent has set the limit, then takes more.
fn allocate() -> String {
    println!("ready");
    io::stdout().flush().unwrap();
    io::stdin().read_exact(&mut [0]).unwrap();
    let mut block: Vec<u8> = Vec::new();
    match block.try_reserve_exact(GREEDY_BYTES) {
        Ok(()) => "done".into(),
        Err(_) => "no memory".into(),
    }
}

fn infer() -> Vec<f64> {
    let request = rig::load_request(1, &rig::scale(2.0));
    let model = onnx::bytes(rig::scale(2.0));
    let session = TractEngine.load(model, &request.inputs, &request.outputs).unwrap();
    let input = Tensor::from_f32(vec![2], &[1.5, -2.0]).unwrap();
    session.run(&[("x".into(), input)]).unwrap()[0].to_f64()
}

fn child(role: Option<Role>, attempt: &str, detail: &str) -> Command {
    child_of(Command::new(std::env::current_exe().unwrap()), role, attempt, detail)
}

/// A child on a kernel that does not know `call`, as `strace` makes it look.
fn child_without(call: &str, role: Role, attempt: &str, detail: &str) -> Command {
    let mut command = Command::new("strace");
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error=ENOSYS"));
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
    command.arg(std::env::current_exe().unwrap()).env(LACKING, "1");
    child_of(command, Some(role), attempt, detail)
}

fn child_of(mut command: Command, role: Option<Role>, attempt: &str, detail: &str) -> Command {
    let role = role.map_or("free".to_owned(), |role| format!("{role:?}"));
    command
        .args(["--exact", "sandbox::attempts_are_made_by_children_only", "--nocapture"])
        .env(ATTEMPT, format!("{role} {attempt}"))
        .env(DETAIL, detail)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How the child ended, and its answer if it gave one.
fn outcome(command: &mut Command) -> (ExitStatus, Option<String>) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status, text.lines().find_map(|line| line.strip_prefix("answer: ")).map(str::to_owned))
}

/// The attempt succeeds outside and is refused in both sandboxes.
fn is_refused(attempt: &str, detail: &str) {
    assert_eq!(outcome(&mut child(None, attempt, detail)).1.as_deref(), Some("done"), "{attempt} outside");
    for role in [Role::Runner, Role::Trial] {
        let (_, answer) = outcome(&mut child(Some(role), attempt, detail));
        assert_eq!(answer.as_deref(), Some("PermissionDenied"), "{attempt} by the {role:?}");
    }
}

/// The attempt ends the process.
fn is_fatal(attempt: &str, detail: &str) {
    for role in [Role::Runner, Role::Trial] {
        let (status, answer) = outcome(&mut child(Some(role), attempt, detail));
        assert_eq!((status.signal(), answer), (Some(31), None), "{attempt} by the {role:?}");
    }
}

#[test]
fn no_file_is_read_and_none_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (there, new) = (folder.path().join("there"), folder.path().join("new"));
    std::fs::write(&there, "secret").unwrap();
    is_refused("read", there.to_str().unwrap());
    is_refused("read", "/proc/self/maps");
    is_refused("write", there.to_str().unwrap());
    for role in [Role::Runner, Role::Trial] {
        let _ = outcome(&mut child(Some(role), "write", new.to_str().unwrap()));
        assert!(!new.exists());
    }
}

#[test]
fn no_socket_is_made_and_nobody_is_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    is_refused("connect", &listener.local_addr().unwrap().to_string());
    is_refused("listen", "");
    is_refused("datagram", "");
    is_refused("local socket", "");
}

#[test]
fn no_process_is_started_signalled_or_traced() {
    is_refused("fork", "");
    is_fatal("execute", "");
    let parent = std::process::id().to_string();
    is_fatal("trace", &parent);
    for role in [Role::Runner, Role::Trial] {
        let (_, answer) = outcome(&mut child(Some(role), "kill", &parent));
        assert_eq!(answer.as_deref(), Some("PermissionDenied"), "or this test would have ended");
    }
}

#[test]
fn either_of_two_layers_holds_where_the_other_is_missing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, parent) = (listener.local_addr().unwrap().to_string(), std::process::id().to_string());
    for call in ["seccomp", "landlock_create_ruleset"] {
        for role in [Role::Runner, Role::Trial] {
            for (attempt, detail) in [("read", "/etc/passwd"), ("connect", &address), ("kill", &parent)] {
                let (_, answer) = outcome(&mut child_without(call, role, attempt, detail));
                assert_eq!(answer.as_deref(), Some("PermissionDenied"), "{attempt} without {call}");
            }
        }
    }
}

#[test]
fn memory_beyond_the_limit_is_refused_and_the_limit_stays() {
    let role = Some(Role::Runner);
    let mut greedy = child(role, "allocate", "").spawn().unwrap();
    let mut output = io::BufReader::new(greedy.stdout.take().unwrap());
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert!(io::BufRead::read_line(&mut output, &mut line).unwrap() > 0, "the child ended");
    }
    let limit = Rlimit { current: Some(LIMIT_BYTES), maximum: None };
    prlimit(Some(Pid::from_child(&greedy)), Resource::Data, limit).unwrap();
    greedy.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    greedy.wait().unwrap();
    assert!(rest.contains("answer: no memory"), "{rest}");
    is_refused("raise a limit", "");
}

#[test]
fn inference_threads_and_a_plain_abort_work_inside() {
    for role in [Role::Runner, Role::Trial] {
        assert_eq!(outcome(&mut child(Some(role), "infer", "")).1.as_deref(), Some("[3.0, -4.0]"));
        assert_eq!(outcome(&mut child(Some(role), "thread", "")).1.as_deref(), Some("done"));
        assert_eq!(outcome(&mut child(Some(role), "abort", "")).0.signal(), Some(6));
    }
}
