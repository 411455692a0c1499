//! What is wrong with a configuration, and where.

use std::{io, ops::Range, path::PathBuf};

use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has a mistake.
    #[error("{file}:{line}:{column}: {message}\n{excerpt}")]
    File {
        /// Name of the file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong and what was expected.
        message: String,
        /// The line with a mark below the place.
        excerpt: String,
    },
    /// A variable has a mistake.
    #[error("environment variable {name}: {message}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A value lies outside its range.
    #[error("{key} is {found}; expected {expected}")]
    Value {
        /// Which key, with its section.
        key: &'static str,
        /// What was given.
        found: String,
        /// What may be given.
        expected: &'static str,
    },
}

impl ConfigError {
    pub(super) fn value(key: &'static str, found: &str, expected: &'static str) -> Self {
        Self::Value { key, found: found.to_owned(), expected }
    }

    /// Places an error of the TOML reader in the file `name` with the given text.
    #[must_use]
    pub fn toml(name: &str, text: &str, error: &toml::de::Error) -> Self {
        Self::at(name, text, error.span().unwrap_or(0..0), error.message().to_owned())
    }

    /// A mistake at a place of the file `name` with the given text.
    #[must_use]
    pub fn at(name: &str, text: &str, span: Range<usize>, message: String) -> Self {
        let Place { line, column, excerpt } = Place::find(text, span);
        Self::File { file: name.to_owned(), line, column, message, excerpt }
    }
}

struct Place {
    line: usize,
    column: usize,
    excerpt: String,
}

impl Place {
    fn find(text: &str, span: Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let source = text[line_start..].lines().next().unwrap_or_default();
        let indent = before[line_start..].chars().count();
        let rest = source.chars().count().saturating_sub(indent).max(1);
        let width = text.get(span).map_or(1, |marked| marked.chars().count()).clamp(1, rest);
        let excerpt = format!("    {source}\n    {}{}", " ".repeat(indent), "^".repeat(width));
        Self { line: before.matches('\n').count() + 1, column: indent + 1, excerpt }
    }
}
