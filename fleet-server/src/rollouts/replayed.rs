//! Whether evidence that is judged once more says what it said the first time.

use shared::Timestamp;

use super::verdicts::{HISTORY, KEPT};

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

    /// True where every record came out bit by bit. Nothing where records differ because the looks from which the judge
    /// learned, of the day before `opened_at`, or the first ones since, were removed for their age.
    #[must_use]
    pub fn as_told(&self, opened_at: Timestamp, now: Timestamp) -> Option<bool> {
        let is_whole = now.since(opened_at) + HISTORY < KEPT;
        match (self.differs, is_whole) {
            (false, _) => Some(true),
            (true, true) => Some(false),
            (true, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_difference_is_told_unless_its_looks_were_removed_for_their_age() {
        let (opened, day) = (Timestamp::default() + KEPT, Duration::from_secs(86_400));
        let mut replayed = Replayed::default();
        replayed.compare(Some(&1), &1);
        assert_eq!(replayed.as_told(opened, opened + 2 * KEPT), Some(true), "what is left gives the same");
        replayed.compare(None, &2);
        replayed.compare(Some(&3), &3);
        assert_eq!(replayed.as_told(opened, opened + day), Some(false));
        assert_eq!(replayed.as_told(opened, opened + KEPT), None);
    }
}
