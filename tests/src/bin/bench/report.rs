//! The table for people and the JSON for machines.
// A table on standard output is what this program is for.
#![allow(clippy::print_stdout)]

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use crate::{machine::Machine, measure::Comparison};

/// Titles of the columns.
const TITLES: [&str; 6] = ["what", "ours", "unit", "peer", "peer's", "ratio"];

/// Columns that hold words and not numbers.
const LEFT: [bool; 6] = [true, false, true, true, false, false];

/// One figure of ours with a peer's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Our figure.
    pub ours: f64,
    /// Unit of both figures.
    pub unit: &'static str,
    /// Whose figure stands beside ours; a bound of the design is called `bound`.
    pub peer: String,
    /// The peer's figure.
    pub peers: Option<f64>,
    /// Ours through the peer's, round by round where there were rounds.
    pub ratio: Option<f64>,
}

/// What a suite found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub suite: &'static str,
    /// Where.
    pub machine: Machine,
    /// The table.
    pub rows: Vec<Row>,
}

impl Row {
    /// A row of two contestants that took turns.
    pub fn compared(what: impl Into<String>, unit: &'static str, peer: &str, found: Comparison) -> Self {
        let Comparison { ours, peers, ratio } = found;
        Self { what: what.into(), ours, unit, peer: peer.to_owned(), peers: Some(peers), ratio: Some(ratio) }
    }

    /// A row of two single figures.
    pub fn beside(what: impl Into<String>, ours: f64, unit: &'static str, peer: &str, peers: f64) -> Self {
        Self::compared(what, unit, peer, Comparison { ours, peers, ratio: ours / peers })
    }

    /// A figure that nothing else has.
    pub fn alone(what: impl Into<String>, ours: f64, unit: &'static str) -> Self {
        Self { what: what.into(), ours, unit, peer: "-".to_owned(), peers: None, ratio: None }
    }

    fn cells(&self) -> [String; 6] {
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        [
            self.what.clone(),
            figure(Some(self.ours)),
            self.unit.to_owned(),
            self.peer.clone(),
            figure(self.peers),
            ratio,
        ]
    }
}

impl Report {
    /// Prints the table, in the form that documentation can hold as it is.
    pub fn print(&self) {
        println!("{}: {}\n", self.suite, self.machine);
        let cells: Vec<_> = self.rows.iter().map(Row::cells).collect();
        let titles = TITLES.map(str::to_owned);
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let lengths = cells.iter().chain([&titles]).map(|row| row[column].chars().count());
            lengths.max().unwrap_or_default()
        });
        println!("{}", line(&titles, &widths));
        println!("{}", rule(&widths));
        cells.iter().for_each(|row| println!("{}", line(row, &widths)));
    }

    /// Writes everything into `file`.
    pub fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Says where a long suite stands; on standard error, where it disturbs no table.
#[allow(clippy::print_stderr)] // see above
pub fn progress(text: &str) {
    eprintln!("{text}");
}

fn line(row: &[String; 6], widths: &[usize; 6]) -> String {
    let cells = (0..6).map(|column| {
        let (text, width) = (&row[column], widths[column]);
        if LEFT[column] { format!("{text:<width$}") } else { format!("{text:>width$}") }
    });
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

fn rule(widths: &[usize; 6]) -> String {
    let dashes = (0..6).map(|column| {
        let dashes = "-".repeat(widths[column] + 1);
        if LEFT[column] { format!("{dashes}-") } else { format!("{dashes}:") }
    });
    format!("|{}|", dashes.collect::<Vec<_>>().join("|"))
}

/// Three significant digits, or all before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_peer_has_dashes() {
        let cells = Row::alone("size", 123.4, "MiB").cells();
        assert_eq!(cells, ["size", "123", "MiB", "-", "-", "-"]);
    }

    #[test]
    fn a_table_lines_up() {
        let row = Row::beside("a", 1.0, "µs", "tract", 2.0);
        let widths = [6; 6];
        assert_eq!(line(&row.cells(), &widths).chars().count(), rule(&widths).chars().count());
    }
}
