//! What the agent tells people: a message in words and values as fields, ready for a structured log.

use std::fmt;

/// How much attention a line deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Part of normal work.
    Info,
    /// Worth waking someone for.
    Warn,
}

/// One line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// How much attention it deserves.
    pub level: Level,
    /// What happened, in words and without values.
    pub message: &'static str,
    /// The values, in the order in which they are read best.
    pub fields: Vec<(&'static str, String)>,
}

impl Event {
    pub(crate) fn info(message: &'static str) -> Self {
        Self { level: Level::Info, message, fields: Vec::new() }
    }

    pub(crate) fn warn(message: &'static str) -> Self {
        Self { level: Level::Warn, message, fields: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}
