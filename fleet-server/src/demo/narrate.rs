//! Tells the story: one line for each thing that happened, with the time since the start.
//!
//! The story is what the command answers, so it goes to the standard output. Colour only supports the words, and
//! only on a terminal whose user did not set `NO_COLOR`.

use std::{
    io::{IsTerminal, Write},
    time::Instant,
};

use comfy_table::{CellAlignment, Table, presets};

/// Width of the column that says who did something.
const WHO_WIDTH: usize = 9;

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something happened.
    Plain,
    /// Something came to a good end.
    Good,
    /// Something was stopped.
    Warning,
    /// Something failed.
    Bad,
}

impl Tone {
    /// The colour, as a terminal understands it.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";

/// Tells the story.
#[derive(Debug, Clone, Copy)]
pub struct Narrator {
    started: Instant,
    colour: bool,
}

impl Narrator {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { started: Instant::now(), colour: !plain && std::io::stdout().is_terminal() }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn elapsed_secs(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// A chapter begins.
    pub fn chapter(&self, title: &str) {
        write(&format!("\n{}\n", self.paint(BOLD, title)));
    }

    /// Somebody did something.
    pub fn line(&self, who: &str, text: &str, tone: Tone) {
        let time = self.paint(DIM, &format!("{:>6.2} s", self.elapsed_secs()));
        let text = if tone == Tone::Plain { text.to_owned() } else { self.paint(tone.code(), text) };
        write(&format!("{time}  {who:<WHO_WIDTH$} {text}\n"));
    }

    /// Text that belongs to no moment.
    pub fn text(&self, text: &str) {
        write(&format!("{text}\n"));
    }

    /// A table of figures; the first column is text.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.to_vec());
        table.add_rows(rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write(&format!("{table}\n\n"));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Who no longer reads ends no demo: the fleet must still be stopped in order.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Bytes for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        0.0..1e3 => format!("{count:.0} B"),
        1e3..1e6 => format!("{:.1} kB", count / 1e3),
        _ => format!("{:.1} MB", count / 1e6),
    }
}

/// A share for people.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_enough_to_read() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1_540), bytes(37_400_000)],
            ["0 B", "999 B", "1.5 kB", "37.4 MB"]
        );
        assert_eq!([percent(580, 597), percent(0, 0)], ["97.2 %", "–"]);
    }
}
