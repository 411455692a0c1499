//! A challenger: a release that runs on a device beside the champion, on a sampled share of the champion's inputs, and
//! never answers anyone.
//!
//! What a device shall challenge stands in a document of its own, beside the director's: it has a number of its own, so
//! it moves no generation and disturbs no rollout, and an agent that does not know it goes on as before. What comes back
//! is [`ChallengerFigures`]: counts and sketches that add up, and no input and no output.

use muster_sketch::FloatHistogram;
use serde::{Deserialize, Serialize};

use crate::{
    id::{DeviceId, Digest, ReleaseId},
    time::Timestamp,
};

/// Challengers of one device at most. Each has a process of its own, which costs memory also while it rests.
pub const MAX_CHALLENGERS: usize = 4;

/// Pairs of champion and challenger in one telemetry report: each challenger may meet two champions in a window.
pub const MAX_MATCHES: usize = 2 * MAX_CHALLENGERS;

/// Most inputs of one window: more than a window of ten minutes could hold at a million a second, so sums of windows stay in
/// the range of every database for thousands of years.
pub const MOST_SAMPLES: u64 = 1 << 30;

/// Classes that are told apart where champion and challenger disagree: those below this number. It keeps the pairs of one
/// report below two hundred and fifty, and which pairs are told depends on nothing but the classes, so sums are exact.
pub const TOLD_CLASSES: u8 = 16;

/// Differences of scores below this count as none: single precision has no more to say of a score near 1.
pub const LEAST_DELTA: f32 = 1e-6;

/// Share of the champion's inputs unless somebody says otherwise, in millionths.
pub const DEFAULT_SAMPLE_PPM: u32 = 50_000;

/// Share of one core that a challenger may take unless somebody says otherwise.
pub const DEFAULT_CPU_PERCENT: u8 = 10;

/// Everything, in millionths.
const MILLION: u32 = 1_000_000;

/// On which terms a challenger runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Share of the champion's inputs, in millionths, from 1 to 1,000,000.
    pub sample_ppm: u32,
    /// Share of one core over time, in percent, from 1 to 100.
    pub cpu_percent: u8,
    /// When it ends by itself; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A release that shall run beside the champion of its model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenger {
    /// Which release.
    pub release: ReleaseId,
    /// Digest of its manifest file.
    pub manifest_digest: Digest,
    /// Length of its manifest file.
    pub manifest_size_bytes: u64,
    /// The revision that asked for it. Under the same number it is the same challenge, which is not begun anew; under a
    /// higher one somebody asks once more.
    pub order: u64,
    /// On which terms.
    pub terms: Terms,
}

/// The director's word for one device: which challengers it shall run. As with the desired state, the device follows only
/// where the image repository lists the same releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChallengersDocument {
    /// Always `challengers`, so that no other signed document passes for one.
    #[serde(rename = "_type")]
    pub kind: ChallengersKind,
    /// For whom.
    pub device: DeviceId,
    /// Grows with every change; a device never goes back to a lower one.
    pub revision: u64,
    /// When it stops being fresh: after this it starts nothing that is not there yet.
    pub expires_at: Timestamp,
    /// One entry for each model that has a challenger.
    pub challengers: Vec<Challenger>,
}

/// The type tag of a challengers document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChallengersKind {
    /// The only value.
    #[default]
    Challengers,
}

/// How far a challenger came on a device, as it last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengerState {
    /// Which release.
    pub release: ReleaseId,
    /// Which order it follows.
    pub order: u64,
    /// Its step, for people and counts: `waiting`, `transferring`, `self_testing`, `starting`, `running`, `over`.
    pub step: String,
    /// What it waits for or why it is over, in words; else empty.
    pub detail: String,
}

/// What the challengers of a device did in a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChallengerWindow {
    /// Of each, beside each champion that it met; at most [`MAX_MATCHES`].
    pub matches: Vec<ChallengerFigures>,
    /// How far each is at the end of the window; at most [`MAX_CHALLENGERS`].
    pub states: Vec<ChallengerState>,
}

/// What a challenger did beside one champion. Every part adds up, so windows and devices may be merged in any order.
///
/// `sampled` is the sum of all that follows it, less what was under way and what was lost with a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChallengerFigures {
    /// Who answered.
    pub champion: ReleaseId,
    /// Who was tried.
    pub challenger: ReleaseId,
    /// Inputs that the sample fell on.
    pub sampled: u64,
    /// Of them, not tried: the queue was full, or the input too large.
    pub dropped: u64,
    /// Of them, tried, and the challenger failed where the champion had answered.
    pub failed: u64,
    /// Of them, answered by both.
    pub compared: u64,
    /// Of those compared, slower than the challenger's latency budget.
    pub slow: u64,
    /// Of those compared, both decided for a class, and for the same.
    pub agreed: u64,
    /// Of those compared, both decided for a class, and each for another.
    pub disagreed: u64,
    /// Of these, which classes, as far as both are below [`TOLD_CLASSES`]; ordered, each pair once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disagreements: Vec<Disagreement>,
    /// The largest difference between their scores, for each comparison whose first output is of numbers and has one shape.
    pub score_delta: FloatHistogram,
    /// Time of the challenger in the engine, in milliseconds.
    pub latency_ms: FloatHistogram,
}

/// How often champion and challenger decided for these two classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The champion's class.
    pub champion: u8,
    /// The challenger's.
    pub challenger: u8,
    /// How often.
    pub count: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { sample_ppm: DEFAULT_SAMPLE_PPM, cpu_percent: DEFAULT_CPU_PERCENT, until: None }
    }
}

impl Terms {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the first number that lies outside of its own.
    pub fn check(&self) -> Result<(), String> {
        if self.sample_ppm == 0 || self.sample_ppm > MILLION {
            return Err(format!("a sample of {} millionths; allowed are 1 to {MILLION}", self.sample_ppm));
        }
        if self.cpu_percent == 0 || self.cpu_percent > 100 {
            return Err(format!("{} % of a core; allowed are 1 to 100", self.cpu_percent));
        }
        Ok(())
    }

    /// Whether the sample falls on the inference with this id. The same id gives the same answer on every device and for
    /// every challenger with this share or a larger one, so a repeated request is sampled each time or never.
    #[must_use]
    pub fn samples(&self, inference: &str) -> bool {
        let hash = u64::from_le_bytes(Digest::of(inference.as_bytes()).short());
        // The remainder is biased by less than a millionth of a millionth.
        hash % u64::from(MILLION) < u64::from(self.sample_ppm)
    }
}

impl ChallengerWindow {
    /// True when there are no challengers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.matches.is_empty() && self.states.is_empty()
    }
}

impl ChallengerFigures {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(champion: ReleaseId, challenger: ReleaseId) -> Self {
        Self {
            champion,
            challenger,
            sampled: 0,
            dropped: 0,
            failed: 0,
            compared: 0,
            slow: 0,
            agreed: 0,
            disagreed: 0,
            disagreements: Vec::new(),
            score_delta: FloatHistogram::new(),
            latency_ms: FloatHistogram::new(),
        }
    }

    /// Counts what two answers to one input decided for; `None` where an answer names no class.
    pub fn decided(&mut self, champion: Option<i64>, challenger: Option<i64>) {
        let (Some(champion), Some(challenger)) = (champion, challenger) else { return };
        if champion == challenger {
            self.agreed = self.agreed.saturating_add(1);
            return;
        }
        self.disagreed = self.disagreed.saturating_add(1);
        let told = |class: i64| u8::try_from(class).ok().filter(|class| *class < TOLD_CLASSES);
        if let (Some(champion), Some(challenger)) = (told(champion), told(challenger)) {
            self.add_disagreement(Disagreement { champion, challenger, count: 1 });
        }
    }

    /// Counts the largest difference between two lists of scores.
    pub fn differed(&mut self, delta: f32) {
        self.score_delta.record(if delta < LEAST_DELTA { 0.0 } else { delta });
    }

    /// Adds what was seen in another window or on another device.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.sampled, other.sampled),
            (&mut self.dropped, other.dropped),
            (&mut self.failed, other.failed),
            (&mut self.compared, other.compared),
            (&mut self.slow, other.slow),
            (&mut self.agreed, other.agreed),
            (&mut self.disagreed, other.disagreed),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
        other.disagreements.iter().for_each(|more| self.add_disagreement(*more));
        self.score_delta.merge(&other.score_delta);
        self.latency_ms.merge(&other.latency_ms);
    }

    /// True when counting can have made it in one window. Ask this of bytes from outside.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let told = |pair: &Disagreement| {
            pair.champion < TOLD_CLASSES && pair.challenger < TOLD_CLASSES && pair.champion != pair.challenger
        };
        let told_sum = self.disagreements.iter().map(|pair| pair.count).fold(0, u64::saturating_add);
        let tried = [self.dropped, self.failed, self.compared].into_iter().fold(0, u64::saturating_add);
        self.champion.model == self.challenger.model
            && self.champion != self.challenger
            && self.sampled <= MOST_SAMPLES
            && tried <= MOST_SAMPLES
            && self.slow <= self.compared
            && self.agreed.saturating_add(self.disagreed) <= self.compared
            && told_sum <= self.disagreed
            && self.disagreements.iter().all(told)
            && self.disagreements.is_sorted_by(|a, b| key(a) < key(b))
            && self.score_delta.is_plausible()
            && self.latency_ms.is_plausible()
    }

    fn add_disagreement(&mut self, more: Disagreement) {
        match self.disagreements.binary_search_by_key(&key(&more), key) {
            Ok(found) => {
                let count = &mut self.disagreements[found].count;
                *count = count.saturating_add(more.count);
            }
            Err(place) => self.disagreements.insert(place, more),
        }
    }
}

fn key(pair: &Disagreement) -> (u8, u8) {
    (pair.champion, pair.challenger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> ChallengerFigures {
        ChallengerFigures::new("digits@1".parse().unwrap(), "digits@2".parse().unwrap())
    }

    fn of(pairs: &[(i64, i64)]) -> ChallengerFigures {
        let mut figures = figures();
        for (champion, challenger) in pairs {
            figures.compared += 1;
            figures.decided(Some(*champion), Some(*challenger));
            figures.differed(0.25);
        }
        figures
    }

    #[test]
    fn windows_add_up_in_any_order_also_beyond_the_classes_that_are_told() {
        let parts = [of(&[(3, 8), (3, 3)]), of(&[(900, 8), (8, 3)]), of(&[(3, 8), (0, 1)])];
        let sum = |order: [usize; 3]| {
            let mut sum = figures();
            order.iter().for_each(|&part| sum.merge(&parts[part]));
            sum
        };
        assert_eq!(sum([0, 1, 2]), sum([2, 0, 1]));
        let sum = sum([1, 2, 0]);
        assert_eq!((sum.compared, sum.agreed, sum.disagreed), (6, 1, 5));
        let told: Vec<_> = sum.disagreements.iter().map(|d| (d.champion, d.challenger, d.count)).collect();
        assert_eq!(told, [(0, 1, 1), (3, 8, 2), (8, 3, 1)]);
        assert!(sum.is_plausible());
    }

    #[test]
    fn the_most_that_one_pair_of_releases_can_say_is_bounded_in_bytes() {
        let mut figures = figures();
        for champion in 0..300 {
            (0..300).for_each(|challenger| figures.decided(Some(champion), Some(challenger)));
        }
        for exponent in -40..40 {
            (0..8).for_each(|eighth| {
                let value = (1.0 + eighth as f32 / 8.0) * 2_f32.powi(exponent);
                figures.differed(value);
                figures.latency_ms.record(value);
            });
        }
        let bytes = serde_json::to_vec(&figures).unwrap().len();
        assert!(bytes < 26_000, "{bytes} bytes, and {MAX_MATCHES} of them must fit into one packet");
    }

    #[test]
    fn forged_figures_are_implausible() {
        let mut twice = of(&[(3, 8)]);
        twice.disagreements.push(twice.disagreements[0]);
        let mut beyond = of(&[(3, 8)]);
        beyond.disagreements[0].champion = TOLD_CLASSES;
        let mut mixed = of(&[]);
        mixed.champion = "faces@1".parse().unwrap();
        let mut itself = of(&[]);
        itself.champion = itself.challenger.clone();
        // The largest numbers would end the range of a database at the next sum.
        let mut endless = of(&[]);
        (endless.compared, endless.agreed) = (u64::MAX, u64::MAX);
        let mut more_than_compared = of(&[(3, 3)]);
        more_than_compared.agreed = 2;
        let mut more_than_disagreed = of(&[(3, 8)]);
        more_than_disagreed.disagreements[0].count = 2;
        let forged = [twice, beyond, mixed, itself, endless, more_than_compared, more_than_disagreed];
        assert!(forged.iter().all(|forged| !forged.is_plausible()), "{forged:?}");
    }

    #[test]
    fn the_sample_is_the_share_that_was_asked_for_and_a_larger_one_holds_it() {
        let few = Terms { sample_ppm: 50_000, ..Terms::default() };
        let more = Terms { sample_ppm: 200_000, ..Terms::default() };
        let all = Terms { sample_ppm: 1_000_000, ..Terms::default() };
        let ids: Vec<String> = (0..20_000).map(|i| format!("inference {i}")).collect();
        let sampled = ids.iter().filter(|id| few.samples(id)).count();
        // Five standard deviations around 1,000.
        assert!((846..=1_154).contains(&sampled), "{sampled} of 20,000");
        assert!(ids.iter().all(|id| all.samples(id) && (!few.samples(id) || more.samples(id))));
    }

    #[test]
    fn terms_outside_of_their_ranges_are_refused_with_the_number() {
        let refused = |terms: Terms| terms.check().unwrap_err();
        assert!(refused(Terms { sample_ppm: 0, ..Terms::default() }).contains("0 millionths"));
        assert!(refused(Terms { sample_ppm: 1_000_001, ..Terms::default() }).contains("1000001"));
        assert!(refused(Terms { cpu_percent: 101, ..Terms::default() }).contains("101 %"));
        assert!(Terms::default().check().is_ok());
    }
}
