//! Answers in the form that was asked for.

use std::{
    io::{ErrorKind, Write as _, stdout},
    process,
};

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use shared::Timestamp;

use super::{Exit, args::Format};
use crate::clock;

/// Writes answers.
pub struct Output {
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// The form that was asked for.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A list: as a table, as JSON, or the first column.
    pub(super) fn list<T: Serialize, const N: usize>(
        &self,
        header: [&str; N],
        items: &[T],
        row: impl Fn(&T) -> [String; N],
    ) {
        match self.format {
            Format::Json => self.json(&items),
            Format::Name => items.iter().for_each(|item| put(&row(item)[0])),
            Format::Table => {
                let rows = items.iter().map(row).collect::<Vec<_>>();
                put(&table(header, &rows).trim_fmt());
            }
        }
    }

    /// One thing: as lines for people, as JSON, or its name.
    pub(super) fn one<T: Serialize>(&self, item: &T, name: &str, lines: impl FnOnce() -> Vec<String>) {
        match self.format {
            Format::Json => self.json(item),
            Format::Name => put(name),
            Format::Table => lines().iter().for_each(|line| put(line)),
        }
    }

    /// One of a stream of things: a line for people, or a line of JSON.
    pub(super) fn event<T: Serialize>(&self, item: &T, line: impl FnOnce() -> String) {
        match self.format {
            Format::Json => put(&serde_json::to_string(item).expect("events are JSON already")),
            Format::Name | Format::Table => put(&line()),
        }
    }

    /// A line of data.
    pub(super) fn line(&self, text: &str) {
        put(text);
    }

    fn json<T: Serialize>(&self, value: &T) {
        let text = serde_json::to_string_pretty(value);
        put(&text.expect("answers are texts, numbers and collections"));
    }
}

/// Writes a line of data. A reader that has gone away, as `head` does, wants no more of it, and that is no failure.
fn put(line: &str) {
    let Err(error) = writeln!(stdout(), "{line}") else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(0);
    }
    say(&format!("error: cannot write the answer: {error}"));
    process::exit(Exit::Failed as i32);
}

/// Rows under a header, aligned.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.map(str::to_uppercase));
    table.add_rows(rows);
    table
}

/// Talk, for people; never data.
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

/// A moment for people, `2026-01-31 08:45:00Z`; `never` when there is none.
pub(super) fn moment(millis: Option<u64>) -> String {
    millis.map_or_else(|| "never".to_owned(), |millis| clock::moment(Timestamp(millis)))
}

/// `name=value,name=value`
pub(super) fn labels(labels: &shared::device::Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}
