//! KLL in C++, as PyPI has it, in a Python of its own that times itself.

use std::{
    cell::RefCell,
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Names a Python with the packages that `tests/setup/requirements.txt` pins.
const PYTHON: &str = "MUSTER_PYTHON";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/kll.py");

/// The process, which ends with its standard input.
pub struct Cpp {
    pipes: RefCell<Pipes>,
    _child: Child,
}

struct Pipes {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cpp {
    /// Starts it, where [`PYTHON`] is set.
    pub fn start() -> Option<Self> {
        let Some(python) = env::var_os(PYTHON) else {
            eprintln!("no KLL in C++: {PYTHON} is not set");
            return None;
        };
        let mut command = Command::new(python);
        let mut child =
            command.arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
        let questions = child.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut pipes = Pipes { questions, answers };
        pipes.answer();
        Some(Self { pipes: RefCell::new(pipes), _child: child })
    }

    /// A turn of so many units of work: nanoseconds, or bytes each.
    pub fn turn(&self, kind: &str, count: usize) -> f64 {
        let mut pipes = self.pipes.borrow_mut();
        writeln!(pipes.questions, "{kind} {count}").expect("Python listens");
        pipes.answer().trim().parse().expect("it answers with a number")
    }
}

impl Pipes {
    fn answer(&mut self) -> String {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line).expect("Python answers");
        assert!(length > 0, "Python ended; what it said is above");
        line
    }
}
