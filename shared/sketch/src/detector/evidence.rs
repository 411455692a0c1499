//! The evidence of one scope, from check to check.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    elementary,
    payoff::{Move, Payoff},
    rule::{Rule, Zone},
    scores::{BadCounts, Direction, STAKES, Scores},
};
use crate::canary::E_VALUE_CAP;

/// Log-payoffs are cut at this: e to its power is what a float just holds.
const MAX_LOG: f64 = 690.0;

/// The stake that says when a change began: small, so it gains from whatever any other gains from.
const RISING_STAKE: usize = 1;

/// Evidence that one feature of one scope has drifted, valid at every check. Finite whatever comes; 3 kB for an ordered
/// feature, at most 15 kB for a categorical one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detector {
    /// `R` of each bet, the stakes of each direction side by side.
    #[serde(deserialize_with = "finite")]
    evidence: Vec<f64>,
    /// Of each direction.
    rises: Vec<Rise>,
    /// Nothing is counted before this time. In seconds.
    suppressed_until_secs: u64,
    /// Checks that brought samples, in all.
    checks: u64,
}

/// Since when a direction has been gaining: the last zero of a cumulative sum (Page 1954), the likeliest time of the change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rise {
    /// Log-payoffs of the stake [`RISING_STAKE`], never below 0.
    climbed: f64,
    /// The last check at which it was 0; 0 if there was none.
    since_secs: u64,
    checks: u64,
    samples: u64,
    /// Sum of the distances from the baseline's mean since then, upwards.
    moved: f64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// The direction with most evidence.
    pub direction: Direction,
    /// The mean evidence over all bets, and what it had to reach.
    pub evidence: f64,
    /// See [`Threshold`](super::Threshold).
    pub threshold: f64,
    /// When the alarm was raised.
    pub at_secs: u64,
    /// The last check at which nothing spoke for this direction: the change is probably right after it. 0 if something
    /// did from the first check on.
    pub since_secs: u64,
    /// Checks since then.
    pub checks: u64,
    /// Samples since then.
    pub samples: u64,
    /// How far the score's mean was from the baseline's since then, in its standard deviations under the reference.
    pub shift: f64,
}

impl Detector {
    /// No evidence yet.
    #[must_use]
    pub fn new(scores: &Scores) -> Self {
        Self {
            evidence: vec![0.0; scores.bets.len() * STAKES],
            rises: vec![Rise::default(); scores.bets.len()],
            suppressed_until_secs: 0,
            checks: 0,
        }
    }

    /// Takes what one check paid. At an alarm the evidence starts again at nothing, after the rule's time.
    ///
    /// A payoff without samples, or one that comes while alarms are suppressed, changes nothing.
    ///
    /// # Errors
    /// When the payoff or this evidence is of other scores.
    pub fn observe(
        &mut self,
        scores: &Scores,
        rule: &Rule,
        payoff: &Payoff,
        at_secs: u64,
    ) -> Result<Option<Alarm>, BadCounts> {
        self.check_scores(scores, payoff)?;
        if payoff.samples == 0 || self.is_suppressed(at_secs) {
            return Ok(None);
        }
        self.checks = self.checks.saturating_add(1);
        for direction in 0..scores.bets.len() {
            let logs = logs(direction, scores, rule.zone, payoff);
            for (evidence, log) in self.evidence[direction * STAKES..].iter_mut().zip(logs) {
                *evidence = ((*evidence + 1.0) * elementary::exp(log)).min(E_VALUE_CAP);
            }
            let moved = &payoff.moves[scores.bets[direction].score];
            self.rises[direction].follow(logs[RISING_STAKE], payoff.samples, moved, at_secs);
        }
        if self.evidence() < rule.threshold.value() {
            return Ok(None);
        }
        let alarm = self.alarm(scores, rule, at_secs);
        self.suppress(at_secs, rule.suppress_secs);
        Ok(Some(alarm))
    }

    /// The mean evidence over all bets, what the threshold is for. From 0 to about 1e300.
    #[must_use]
    pub fn evidence(&self) -> f64 {
        mean(&self.evidence)
    }

    /// The direction with most evidence, and how much.
    #[must_use]
    pub fn strongest(&self, scores: &Scores) -> Option<(Direction, f64)> {
        let index = self.strongest_index();
        let direction = scores.directions().nth(index)?;
        self.evidence.chunks_exact(STAKES).nth(index).map(|bets| (direction, mean(bets)))
    }

    /// Checks that brought samples.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.checks
    }

    /// Whether an alarm is recent enough that nothing is counted.
    #[must_use]
    pub fn is_suppressed(&self, at_secs: u64) -> bool {
        at_secs < self.suppressed_until_secs
    }

    /// Forgets the evidence, and counts nothing for `suppress_secs`: an incident is known.
    pub fn suppress(&mut self, at_secs: u64, suppress_secs: u64) {
        self.evidence.fill(0.0);
        self.rises.fill(Rise::default());
        self.suppressed_until_secs = at_secs.saturating_add(suppress_secs);
    }

    fn check_scores(&self, scores: &Scores, payoff: &Payoff) -> Result<(), BadCounts> {
        let expected = scores.bets.len() * STAKES;
        let rises = self.rises.len() * STAKES;
        match [payoff.gains.len(), self.evidence.len(), rises].into_iter().find(|&found| found != expected) {
            Some(found) => Err(BadCounts::OtherEvidence { found, expected }),
            None => Ok(()),
        }
    }

    fn strongest_index(&self) -> usize {
        let (mut strongest, mut most) = (0, f64::NEG_INFINITY);
        for (index, bets) in self.evidence.chunks_exact(STAKES).enumerate() {
            let evidence = mean(bets);
            if evidence > most {
                (strongest, most) = (index, evidence);
            }
        }
        strongest
    }

    fn alarm(&self, scores: &Scores, rule: &Rule, at_secs: u64) -> Alarm {
        let index = self.strongest_index();
        let (bets, rise) = (&scores.bets[index], self.rises[index]);
        let deviation = scores.scores[bets.score].deviation;
        Alarm {
            direction: bets.direction,
            evidence: self.evidence(),
            threshold: rule.threshold.value(),
            at_secs,
            since_secs: rise.since_secs,
            checks: rise.checks,
            samples: rise.samples,
            shift: rise.moved / rise.samples.max(1) as f64 / deviation,
        }
    }
}

impl Rise {
    fn follow(&mut self, log: f64, samples: u64, moved: &Move, at_secs: u64) {
        let climbed = self.climbed + log;
        if climbed <= 0.0 {
            *self = Self { since_secs: at_secs, ..Self::default() };
            return;
        }
        self.climbed = climbed.min(E_VALUE_CAP);
        self.checks = self.checks.saturating_add(1);
        self.samples = self.samples.saturating_add(samples);
        self.moved += moved.mean() * samples as f64;
    }
}

/// The log of what each stake on a direction makes of its evidence.
fn logs(direction: usize, scores: &Scores, zone: Zone, payoff: &Payoff) -> [f64; STAKES] {
    let bets = &scores.bets[direction];
    let tolerated = zone.tolerance() * scores.scores[bets.score].deviation * payoff.samples as f64;
    let zone = payoff.doubts[direction].at(zone.standard_errors()) + tolerated;
    let gains = &payoff.gains[direction * STAKES..];
    std::array::from_fn(|n| (gains[n] - bets.stakes[n] * zone).clamp(-MAX_LOG, MAX_LOG))
}

fn mean(evidence: &[f64]) -> f64 {
    evidence.iter().sum::<f64>() / evidence.len().max(1) as f64
}

/// Stored evidence that is no number, or below nothing, would never alarm again.
fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let evidence = Vec::<f64>::deserialize(deserializer)?;
    if evidence.iter().all(|value| (0.0..=E_VALUE_CAP).contains(value)) {
        Ok(evidence)
    } else {
        Err(D::Error::custom("evidence has to be numbers from 0 to 1e300"))
    }
}
