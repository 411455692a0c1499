//! What is still to be told of each match of a champion and a challenger.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use shared::{
    ReleaseId,
    challenger::{ChallengerFigures, MAX_MATCHES},
};

use crate::runner::figures::Wake;

/// Counts and sketches since they were last told.
pub(crate) struct Books {
    matches: Mutex<BTreeMap<(ReleaseId, ReleaseId), ChallengerFigures>>,
    wake: Arc<Wake>,
}

impl Books {
    pub(crate) fn new(wake: Arc<Wake>) -> Self {
        Self { matches: Mutex::default(), wake }
    }

    /// Writes into the book of one match. They are told each second, so more than [`MAX_MATCHES`] at once do not happen;
    /// if they do, those beyond are not counted.
    pub(crate) fn write(
        &self,
        champion: &ReleaseId,
        challenger: &ReleaseId,
        write: impl FnOnce(&mut ChallengerFigures),
    ) {
        let mut matches = self.matches.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (champion.clone(), challenger.clone());
        if matches.len() < MAX_MATCHES || matches.contains_key(&key) {
            let new = || ChallengerFigures::new(champion.clone(), challenger.clone());
            write(matches.entry(key).or_insert_with(new));
        }
        drop(matches);
        self.wake.activity.notify_one();
    }

    /// What was written since the last call.
    pub(crate) fn take(&self) -> Vec<ChallengerFigures> {
        let mut matches = self.matches.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *matches).into_values().collect()
    }
}
