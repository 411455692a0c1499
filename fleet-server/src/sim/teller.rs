//! Tells what happens, with the time since the story began: milestones to a person, everything into a file.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;
use muster_sim::Moment;
use shared::Timestamp;

use crate::clock::Clock;

/// Tells.
pub(super) struct Teller {
    clock: Clock,
    begin: Timestamp,
    file: Option<BufWriter<File>>,
    /// The first line that could not be written.
    failed: Option<std::io::Error>,
}

impl Teller {
    /// Tells a person, and writes into `file` if there is one.
    pub(super) fn new(title: &str, file: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write the transcript {}", path.display()))
        };
        let file = file.map(open).transpose()?.map(BufWriter::new);
        let clock = Clock::start();
        let mut teller = Self { clock, begin: clock.now(), file, failed: None };
        teller.write(&format!("{title}\n"));
        Ok(teller)
    }

    /// The story begins: moments count from now on.
    pub(super) fn begin(&mut self) {
        self.begin = self.clock.now();
    }

    /// When the story began.
    pub(super) fn begun(&self) -> Timestamp {
        self.begin
    }

    /// Something happened that a person wants to know.
    #[allow(clippy::print_stderr)] // talk, beside the data on standard output
    pub(super) fn milestone(&mut self, text: &str) {
        let line = self.line(self.clock.now(), text);
        eprintln!("{line}");
        self.write(&line);
    }

    /// Something happened at a moment that only the file tells.
    pub(super) fn detail(&mut self, at: Timestamp, text: &str) {
        let line = self.line(at, text);
        self.write(&line);
    }

    /// Everything is in the file.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        self.failed.take().map_or(flushed, Err).context("cannot write the transcript")
    }

    fn line(&self, at: Timestamp, text: &str) -> String {
        format!("{:>8}  {text}", Moment::between(self.begin, at).to_string())
    }

    /// A full disk is told at the end.
    fn write(&mut self, line: &str) {
        if let Some(file) = &mut self.file
            && let Err(error) = writeln!(file, "{line}")
        {
            self.failed.get_or_insert(error);
        }
    }
}
