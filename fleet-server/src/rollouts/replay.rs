//! Evidence that is judged once more, to see that it says what it said the first time.

use fleet_core::verdict::{Look, LookRefused};
use shared::Timestamp;

use super::verdicts::KEPT;
use crate::store::StoreError;

/// Stored looks that are judged once more, one after the other, beside their stored records. Looks are large where many devices are
/// compared: those from before are held once, as when the judge began, and each since is forgotten as soon as it is judged.
#[derive(Debug)]
pub struct Replay<Judge> {
    newest: Option<u64>,
    /// Looks from before, until the judge has learned from them.
    history: Vec<Look>,
    judge: Option<Judge>,
    looks_before: usize,
    differs: bool,
}

impl<Judge> Default for Replay<Judge> {
    fn default() -> Self {
        Self { newest: None, history: Vec::new(), judge: None, looks_before: 0, differs: false }
    }
}

impl<Judge> Replay<Judge> {
    /// Takes the next look with its record, which one from before has not. Gives the record back.
    ///
    /// # Errors
    /// When the judge cannot begin.
    pub fn take<Record: PartialEq>(
        &mut self,
        (look, stored): (Look, Option<Record>),
        start: impl FnOnce(&[Look]) -> Result<Judge, StoreError>,
        observe: impl FnOnce(&mut Judge, &Look) -> Result<Record, LookRefused>,
    ) -> Result<Option<Record>, StoreError> {
        self.newest = Some(look.number);
        let Some(stored) = stored else {
            self.looks_before += 1;
            self.history.push(look);
            return Ok(None);
        };
        let judge = match &mut self.judge {
            Some(judge) => judge,
            none => none.insert(start(&std::mem::take(&mut self.history))?),
        };
        self.differs |= observe(judge, &look).ok().as_ref() != Some(&stored);
        Ok(Some(stored))
    }

    /// The number of the newest look that was taken.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Looks from before.
    #[must_use]
    pub fn looks_before(&self) -> usize {
        self.looks_before
    }

    /// Whether every record came out bit by bit. Nothing where looks may be gone for their age, those of the day before `opened_at` first:
    /// they were stored then, and what the judge learned from them cannot be learned again.
    #[must_use]
    pub fn is_exact(&self, opened_at: Timestamp, now: Timestamp) -> Option<bool> {
        let is_whole = now.since(opened_at) < KEPT;
        is_whole.then_some(!self.differs)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A judge that says of each look how many it has learned from and seen.
    type Counter = usize;

    fn take(replay: &mut Replay<Counter>, number: u64, stored: Option<usize>) {
        let look = Look { number, ..Look::default() };
        let observe = |seen: &mut Counter, _: &Look| {
            *seen += 1;
            Ok(*seen)
        };
        let record = replay.take((look, stored), |history| Ok(history.len()), observe).unwrap();
        assert_eq!((record, replay.newest()), (stored, Some(number)));
    }

    #[test]
    fn what_the_judge_learned_from_counts_and_a_record_that_differs_is_found() {
        let mut replay = Replay::default();
        let (opened, now) = (Timestamp::default(), Timestamp::default());
        [1, 2].into_iter().for_each(|number| take(&mut replay, number, None));
        take(&mut replay, 3, Some(3));
        take(&mut replay, 4, Some(4));
        assert_eq!((replay.is_exact(opened, now), replay.looks_before()), (Some(true), 2));
        take(&mut replay, 5, Some(6));
        take(&mut replay, 6, Some(6));
        assert_eq!(replay.is_exact(opened, now), Some(false));
    }

    #[test]
    fn nothing_is_said_of_evidence_that_may_be_gone_for_its_age() {
        let (opened, day) = (Timestamp::default() + KEPT, Duration::from_secs(86_400));
        let mut replay = Replay::default();
        take(&mut replay, 1, Some(1));
        assert_eq!(replay.is_exact(opened, opened + (KEPT - day)), Some(true));
        assert_eq!(replay.is_exact(opened, opened + KEPT), None);
        take(&mut replay, 2, Some(7));
        assert_eq!(replay.is_exact(opened, opened + (KEPT - day)), Some(false));
        assert_eq!(replay.is_exact(opened, opened + KEPT), None);
    }
}
