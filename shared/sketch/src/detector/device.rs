//! One feature of one device against its own first samples.

use serde::{Deserialize, Serialize};

use super::{
    baseline::Baseline,
    evidence::{Alarm, Detector},
    payoff::Payoff,
    rule::Rule,
    scores::{BadCounts, MIN_ROWS, Scores, total},
};

/// What is known of one feature on one device. The baseline is kept until somebody says [`relearn`](Self::relearn):
/// one that followed by itself would take a slow drift for normal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceWatch {
    /// Its first samples become its baseline.
    Learning {
        /// So far.
        counts: Vec<u64>,
    },
    /// What comes is held against them.
    Watching {
        /// The first samples.
        baseline: Vec<u64>,
        /// Against them.
        detector: Detector,
    },
}

/// What one check of a device showed.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// The baseline is not complete.
    Learning {
        /// Samples so far.
        samples: u64,
    },
    /// An alarm is recent: nothing was counted.
    Suppressed,
    /// The samples were counted.
    Counted {
        /// What they paid, for the groups that the device is in.
        payoff: Payoff,
        /// What they led to.
        alarm: Option<Alarm>,
    },
}

impl DeviceWatch {
    /// The first [`MIN_ROWS`] samples, or the batch in which they are reached, will be the baseline.
    #[must_use]
    pub fn new(scores: &Scores) -> Self {
        Self::Learning { counts: vec![0; scores.bins()] }
    }

    /// Takes the counts of one check.
    ///
    /// # Errors
    /// When they, or what is known, are of another reference.
    pub fn observe(
        &mut self,
        scores: &Scores,
        rule: &Rule,
        counts: &[u64],
        at_secs: u64,
    ) -> Result<Watched, BadCounts> {
        scores.check_bins(counts)?;
        match self {
            Self::Learning { counts: known } => {
                scores.check_bins(known)?;
                for (known, &more) in known.iter_mut().zip(counts) {
                    *known = known.saturating_add(more);
                }
                let samples = total(known);
                if samples >= MIN_ROWS {
                    let baseline = std::mem::take(known);
                    *self = Self::Watching { baseline, detector: Detector::new(scores) };
                }
                Ok(Watched::Learning { samples })
            }
            Self::Watching { detector, .. } if detector.is_suppressed(at_secs) => Ok(Watched::Suppressed),
            Self::Watching { baseline, detector } => {
                let payoff = Payoff::of(scores, &Baseline::of(scores, baseline)?, counts)?;
                let alarm = detector.observe(scores, rule, &payoff, at_secs)?;
                Ok(Watched::Counted { payoff, alarm })
            }
        }
    }

    /// Forgets the baseline: what comes next is the new one. For a person or a policy to say, after the cause is known.
    pub fn relearn(&mut self, scores: &Scores) {
        *self = Self::new(scores);
    }

    /// Counts nothing for so long: an incident that this device is part of is known. A baseline is learnt on.
    pub fn suppress(&mut self, at_secs: u64, suppress_secs: u64) {
        if let Self::Watching { detector, .. } = self {
            detector.suppress(at_secs, suppress_secs);
        }
    }

    /// Whether it counts nothing as it is part of an incident that is known.
    #[must_use]
    pub fn is_suppressed(&self, at_secs: u64) -> bool {
        match self {
            Self::Learning { .. } => false,
            Self::Watching { detector, .. } => detector.is_suppressed(at_secs),
        }
    }

    /// The complete baseline.
    #[must_use]
    pub fn baseline(&self) -> Option<&[u64]> {
        match self {
            Self::Learning { .. } => None,
            Self::Watching { baseline, .. } => Some(baseline),
        }
    }
}
