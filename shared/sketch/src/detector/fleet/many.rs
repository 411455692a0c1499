//! The evidence of several devices together, and how far they moved lately.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    super::{
        evidence::{Alarm, Detector},
        payoff::{Move, Payoff},
        rule::Rule,
        scores::{BadCounts, Scores},
    },
    MIN_GROUP_DEVICES,
};

/// Checks whose moves are kept: a day of hours. What grows for longer is told apart by its last day.
const RECENT_CHECKS: usize = 24;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Many {
    pub(super) detector: Detector,
    recent: VecDeque<Recent>,
}

/// Moves of one check, of each score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recent {
    at_secs: u64,
    moves: Vec<Move>,
}

impl Many {
    pub(super) fn new(scores: &Scores) -> Self {
        Self { detector: Detector::new(scores), recent: VecDeque::new() }
    }

    /// An alarm and how many devices it is of. Too few devices are no check.
    pub(super) fn check(
        &mut self,
        scores: &Scores,
        rule: &Rule,
        devices: &[&Payoff],
        at_secs: u64,
    ) -> Result<Option<(Alarm, usize)>, BadCounts> {
        if devices.len() < MIN_GROUP_DEVICES {
            return Ok(None);
        }
        let Some(product) = Payoff::product(devices) else { return Ok(None) };
        let alarm = self.detector.observe(scores, rule, &product, at_secs)?;
        while self.recent.len() >= RECENT_CHECKS {
            self.recent.pop_front();
        }
        let devices = product.devices();
        self.recent.push_back(Recent { at_secs, moves: product.moves });
        Ok(alarm.map(|alarm| (alarm, devices)))
    }

    /// How far a score moved at the checks after `since_secs`, as far as they are kept.
    pub(super) fn moved(&self, score: usize, since_secs: u64) -> Move {
        let mut moved = Move::default();
        let checks = self.recent.iter().filter(|check| check.at_secs > since_secs);
        checks.filter_map(|check| check.moves.get(score)).for_each(|check| moved.add_check(check));
        moved
    }

    pub(super) fn restart(&mut self, at_secs: u64) {
        self.detector.suppress(at_secs, 0);
        self.recent.clear();
    }
}
