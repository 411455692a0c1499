//! Which events a webhook is told of.

use serde_json::Value;
use thiserror::Error;

use crate::store::EventRow;

/// Kinds of events that there are.
pub const KINDS: [&str; 4] = ["drift", "experiment", "rollout", super::KIND];

/// Most words of one webhook: more than there are names of events.
const MAX_WORDS: usize = 64;

/// Longest word.
const MAX_WORD_LEN: usize = 64;

/// Why words name no events.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadFilter {
    /// Too many.
    #[error("{0} names of events, and at most {MAX_WORDS} are allowed")]
    TooMany(usize),
    /// A kind that there is not.
    #[error("'{word}' names no events; write {kinds}, or one of their events as in rollout.halted", kinds = KINDS.join(", "))]
    Unknown {
        /// What was written.
        word: String,
    },
}

/// The events that are wanted: all, or those of kinds such as `drift`, or single ones such as `rollout.halted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter(Vec<String>);

impl EventFilter {
    /// Reads words; none means all events.
    ///
    /// # Errors
    /// When a word begins with no kind, or there are too many.
    pub fn new(words: Vec<String>) -> Result<Self, BadFilter> {
        if words.len() > MAX_WORDS {
            return Err(BadFilter::TooMany(words.len()));
        }
        match words.iter().find(|word| !is_known(word)) {
            Some(word) => Err(BadFilter::Unknown { word: word.chars().take(MAX_WORD_LEN).collect() }),
            None => Ok(Self(words)),
        }
    }

    /// As it is stored. What a newer program wrote and this one does not know wants nothing.
    #[must_use]
    pub fn stored(words: Vec<String>) -> Self {
        Self(words)
    }

    /// As people wrote it.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Whether an event is told.
    #[must_use]
    pub fn wants(&self, row: &EventRow) -> bool {
        let name = full_name(row);
        self.0.is_empty() || self.0.iter().any(|word| *word == row.kind || *word == name)
    }
}

/// `rollout.halted`: kind and name, of which the document of some kinds writes both.
#[must_use]
pub(super) fn full_name(row: &EventRow) -> String {
    match row.document.get("event").and_then(Value::as_str) {
        Some(name) if name.split('.').next() == Some(row.kind.as_str()) && name.contains('.') => {
            name.to_owned()
        }
        Some(name) => format!("{}.{name}", row.kind),
        None => row.kind.clone(),
    }
}

/// Which events a kind has is known where they are made; a misspelt kind is worth telling.
fn is_known(word: &str) -> bool {
    let (kind, event) = word.split_once('.').map_or((word, None), |(kind, event)| (kind, Some(event)));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'))
    };
    word.len() <= MAX_WORD_LEN && KINDS.contains(&kind) && event.is_none_or(is_name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::Timestamp;

    use super::*;

    fn event(kind: &str, document: Value) -> EventRow {
        EventRow { sequence: 1, at: Timestamp(0), kind: kind.into(), subject: "r1".into(), document }
    }

    fn filter(words: &[&str]) -> EventFilter {
        EventFilter::new(words.iter().map(|word| (*word).to_owned()).collect()).unwrap()
    }

    #[test]
    fn kinds_and_single_events_can_be_asked_for() {
        let halted = event("rollout", json!({"event": "halted"}));
        let detected = event("drift", json!({"event": "drift.detected"}));
        let bare = event("rollout", json!("moved"));
        let of = |words: &[&str]| [&halted, &detected, &bare].map(|row| filter(words).wants(row));
        assert_eq!(of(&[]), [true, true, true]);
        assert_eq!(of(&["rollout"]), [true, false, true]);
        assert_eq!(of(&["drift.detected", "rollout.paused"]), [false, true, false]);
        assert_eq!(full_name(&detected), "drift.detected");
    }

    #[test]
    fn a_misspelt_kind_is_refused_with_those_that_there_are() {
        let says = |word: &str| EventFilter::new(vec![word.to_owned()]).unwrap_err().to_string();
        assert!(says("drifft").contains("write drift, experiment, rollout, webhook"));
        for wrong in ["", "rollout.", "rollout.Halted", "rollout halted", &"drift.".repeat(20)] {
            assert!(says(wrong).contains("names no events"), "{wrong}");
        }
        assert!(EventFilter::new(vec!["drift".into(); 65]).is_err());
    }
}
