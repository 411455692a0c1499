//! Whether evidence that is judged once more says what it said the first time.

use shared::Timestamp;

use super::verdicts::KEPT;

/// Stored looks that are judged once more beside their stored records.
#[derive(Debug, Default)]
pub struct Replayed {
    differs: bool,
}

impl Replayed {
    /// Takes what came of the next look: now, and the first time.
    pub fn compare<R: PartialEq>(&mut self, again: Option<&R>, stored: &R) {
        self.differs |= again != Some(stored);
    }

    /// Whether every record came out bit by bit. Nothing where looks may be gone for their age, those of the day before `opened_at` first:
    /// they were stored then, and what the judge learned from them cannot be learned again.
    #[must_use]
    pub fn as_told(&self, opened_at: Timestamp, now: Timestamp) -> Option<bool> {
        let is_whole = now.since(opened_at) < KEPT;
        is_whole.then_some(!self.differs)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_is_said_of_evidence_that_may_be_gone_for_its_age() {
        let (opened, day) = (Timestamp::default() + KEPT, Duration::from_secs(86_400));
        let mut replayed = Replayed::default();
        replayed.compare(Some(&1), &1);
        assert_eq!(replayed.as_told(opened, opened + day), Some(true));
        assert_eq!(replayed.as_told(opened, opened + KEPT), None);
        replayed.compare(None, &2);
        replayed.compare(Some(&3), &3);
        assert_eq!(replayed.as_told(opened, opened + (KEPT - day)), Some(false));
        assert_eq!(replayed.as_told(opened, opened + KEPT), None);
    }
}
