//! Answers in the form that was asked for.

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use super::Format;

/// Writes answers.
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// As lines for people or as JSON.
    pub(super) fn one<T: Serialize>(&self, item: &T, lines: impl FnOnce() -> Vec<String>) {
        match self.format {
            Format::Json => {
                let text = serde_json::to_string_pretty(item);
                println!("{}", text.expect("answers are texts, numbers and collections"));
            }
            Format::Table => lines().iter().for_each(|line| println!("{line}")),
        }
    }
}

/// Rows under a header, aligned.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.map(str::to_uppercase));
    table.add_rows(rows);
    table.trim_fmt().lines().map(str::to_owned).collect()
}
