//! Carries what a runner writes to its standard error into the daemon's own, within bounds.
//!
//! The runner has a pipe and no file, so that it needs no right to write files; and a model that makes it talk without
//! end must not fill the disk on which the log ends up. What is too much is dropped and counted.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::ChildStderr,
};

/// A line is cut after this many bytes; the longest that is written here is a panic with its place.
const MAX_LINE_BYTES: u64 = 4_096;

/// What may be written at once, and what each second adds: a start with debug lines, then a page a second.
const BURST_BYTES: u64 = 256 * 1_024;
const BYTES_PER_SECOND: u64 = 4_096;

/// Runs until the runner closes its end.
pub(super) async fn carry(stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr);
    let mut allowance = Allowance::new(Instant::now());
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => write(&line, &mut allowance),
        }
    }
}

/// A line that cannot be written is lost, as the daemon's own would be.
fn write(line: &[u8], allowance: &mut Allowance) {
    let Some(dropped) = allowance.take(line.len() as u64, Instant::now()) else { return };
    if dropped > 0 {
        tracing::warn!(dropped_bytes = dropped, "the runner writes too much; some of it was dropped");
    }
    let mut text = printable(line);
    text.push('\n');
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A line that cannot change a terminal or look like two.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect()
}

/// A bucket of bytes that fills with time.
struct Allowance {
    left: u64,
    dropped: u64,
    filled_at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: BURST_BYTES, dropped: 0, filled_at: now }
    }

    /// Takes `bytes`, and tells how many were dropped since the last time; `None` when there are not enough.
    fn take(&mut self, bytes: u64, now: Instant) -> Option<u64> {
        let seconds = now.duration_since(self.filled_at).as_secs();
        self.left = self.left.saturating_add(seconds.saturating_mul(BYTES_PER_SECOND)).min(BURST_BYTES);
        self.filled_at += Duration::from_secs(seconds);
        let Some(left) = self.left.checked_sub(bytes) else {
            self.dropped = self.dropped.saturating_add(bytes);
            return None;
        };
        self.left = left;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_dropped_and_counted_when_there_is_room_again() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!(allowance.take(BURST_BYTES, start), Some(0));
        assert_eq!(allowance.take(10, start), None);
        assert_eq!(allowance.take(5, start + Duration::from_millis(999)), None);
        assert_eq!(allowance.take(10, start + Duration::from_secs(1)), Some(15));
        assert_eq!(
            allowance.take(BURST_BYTES, start + Duration::from_secs(3_600)),
            Some(0),
            "never more than that"
        );
    }

    #[test]
    fn a_line_cannot_move_the_cursor() {
        assert_eq!(printable(b"\x1b[2Jgone\r\n"), "?[2Jgone");
    }
}
