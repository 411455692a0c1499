//! The passage of one packed artifact: which blocks to ask for, how many at once, and when to ask again.
//!
//! The device pulls, and the server keeps no state, so a lost request or block costs one time-out. Blocks are asked
//! for in rounds of `credit` blocks. A round that came completely earns one block of credit, a time-out halves
//! it. The time-out runs from the last progress: it follows the smoothed time to the first block of a round and
//! doubles with every attempt in vain, so a slow link is not flooded with repeated requests.

use std::{collections::BTreeSet, time::Duration};

use shared::{
    Timestamp,
    artifact::Packed,
    block::{BlockMap, Run},
    report::FailReason,
};

/// Blocks of the first round, and never fewer: a quarter of a megabyte in flight keeps slow links busy.
pub const MIN_CREDIT: u32 = 4;

/// Blocks in flight at most: one megabyte, which fills a link of 10 Mbit/s with a round trip of 800 ms.
pub const MAX_CREDIT: u32 = 16;

/// Attempts without any progress while connected; with doubling time-outs about seven minutes.
pub const MAX_ATTEMPTS: u32 = 10;

const MIN_TIMEOUT_MS: u64 = 2_000;
const MAX_TIMEOUT_MS: u64 = 60_000;
/// The time-out before it is doubled: one slow answer, of a server that was busy for a while, must not make every lost
/// block of the transfer cost a minute.
const MAX_PATIENCE_MS: u64 = 10_000;

/// A wait that the server asks for lies in these bounds: it can neither spin nor park a device.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

/// The passage of one artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// Waits for its turn.
    Planned,
    /// The partial file is being opened.
    Opening,
    /// Blocks are asked for.
    Fetching(Fetching),
    /// Nothing is asked for: until a moment, or until the device is connected again.
    Stalled(Fetching, Stall),
    /// Every block is here; it is being unpacked.
    Complete,
    /// It failed and is planned again after a wait, in which another transfer may go on.
    Paused { until: Timestamp, reason: FailReason },
}

/// Why nothing is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stall {
    Offline,
    Busy { until: Timestamp },
}

/// What to do after news of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    Ask(Vec<Run>),
    Complete,
    GiveUp,
}

/// Blocks on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetching {
    here: BlockMap,
    awaited: BTreeSet<u32>,
    credit: u32,
    /// When the round was asked for, until its first block is here.
    asked_at: Option<Timestamp>,
    smoothed_ms: Option<u64>,
    attempts: u32,
    deadline: Timestamp,
}

impl Transfer {
    pub(crate) fn timer(&self) -> Option<Timestamp> {
        match self {
            Self::Fetching(fetching) => Some(fetching.deadline),
            Self::Stalled(_, Stall::Busy { until }) | Self::Paused { until, .. } => Some(*until),
            Self::Stalled(_, Stall::Offline) | Self::Planned | Self::Opening | Self::Complete => None,
        }
    }

    /// True while it holds the one place that there is.
    pub(crate) fn is_under_way(&self) -> bool {
        match self {
            Self::Opening | Self::Fetching(_) | Self::Stalled(..) | Self::Complete => true,
            Self::Planned | Self::Paused { .. } => false,
        }
    }
}

impl Fetching {
    pub(crate) fn new(here: BlockMap, now: Timestamp) -> Self {
        let (awaited, credit) = (BTreeSet::new(), MIN_CREDIT);
        Self { here, awaited, credit, asked_at: None, smoothed_ms: None, attempts: 0, deadline: now }
    }

    pub(crate) fn here(&self) -> &BlockMap {
        &self.here
    }

    /// Begins a round.
    pub(crate) fn ask(&mut self, now: Timestamp) -> Step {
        if self.here.is_complete() {
            return Step::Complete;
        }
        let runs = self.here.missing(&BlockMap::empty(self.here.len()), self.credit);
        self.awaited = runs.iter().flat_map(|run| run.first..run.first.saturating_add(run.count)).collect();
        // A round asked for again keeps its first moment, so on a link slower than the time-out a sample still tells
        // how slow it is.
        self.asked_at.get_or_insert(now);
        self.deadline = now + self.timeout();
        Step::Ask(runs)
    }

    /// A block is here. One that is here already says nothing.
    pub(crate) fn stored(&mut self, index: u32, now: Timestamp) -> Step {
        if self.here.has(index) {
            return Step::Wait;
        }
        self.here.insert(index);
        self.attempts = 0;
        if let Some(asked_at) = self.asked_at.take() {
            self.smooth(now.since(asked_at));
        }
        self.deadline = now + self.timeout();
        if self.awaited.remove(&index) && self.awaited.is_empty() {
            self.credit = (self.credit + 1).min(MAX_CREDIT);
            return self.ask(now);
        }
        if self.here.is_complete() { Step::Complete } else { Step::Wait }
    }

    /// A block came although nothing is asked for now; true when it was the last one.
    pub(crate) fn keep(&mut self, index: u32) -> bool {
        self.here.insert(index);
        self.here.is_complete()
    }

    /// A block was wrong: it counts as an attempt and is asked for in the next round.
    pub(crate) fn refused(&mut self, index: u32, now: Timestamp) -> Step {
        if !self.awaited.remove(&index) {
            return Step::Wait;
        }
        self.attempts += 1;
        match () {
            () if self.attempts > MAX_ATTEMPTS => Step::GiveUp,
            () if self.awaited.is_empty() => self.ask(now),
            () => Step::Wait,
        }
    }

    /// The time-out passed.
    pub(crate) fn time_out(&mut self, now: Timestamp) -> Step {
        self.attempts += 1;
        self.credit = (self.credit / 2).max(MIN_CREDIT);
        if self.attempts > MAX_ATTEMPTS { Step::GiveUp } else { self.ask(now) }
    }

    /// Begins anew after a stall, whose time says nothing about the link.
    pub(crate) fn resume(&mut self, now: Timestamp) -> Step {
        self.asked_at = None;
        self.ask(now)
    }

    fn smooth(&mut self, sample: Duration) {
        let sample = u64::try_from(sample.as_millis()).unwrap_or(u64::MAX).min(MAX_TIMEOUT_MS);
        self.smoothed_ms = Some(self.smoothed_ms.map_or(sample, |old| (7 * old + sample) / 8));
    }

    fn timeout(&self) -> Duration {
        let patience = (4 * self.smoothed_ms.unwrap_or(0)).clamp(MIN_TIMEOUT_MS, MAX_PATIENCE_MS);
        Duration::from_millis((patience << self.attempts.min(MAX_ATTEMPTS)).min(MAX_TIMEOUT_MS))
    }
}

impl Stall {
    pub(crate) fn busy(delay: Duration, now: Timestamp) -> Self {
        Self::Busy { until: now + delay.clamp(RETRY_AFTER.0, RETRY_AFTER.1) }
    }
}

/// Bytes of the blocks in `here`.
pub(crate) fn bytes_here(packed: &Packed, here: &BlockMap) -> u64 {
    let ranges = (0..here.len()).filter(|&index| here.has(index)).filter_map(|i| packed.block_range(i));
    ranges.map(|(_, len)| u64::from(len)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000);

    fn asked(step: Step) -> u32 {
        let Step::Ask(runs) = step else { panic!("{step:?}") };
        runs.iter().map(|run| run.count).sum()
    }

    fn fetching(blocks: u32) -> Fetching {
        Fetching::new(BlockMap::empty(blocks), START)
    }

    /// Answers rounds without loss until the end and tells their sizes.
    fn rounds(fetching: &mut Fetching, mut now: Timestamp) -> Vec<u32> {
        let mut sizes = Vec::new();
        let mut step = fetching.ask(now);
        while let Step::Ask(runs) = step {
            sizes.push(runs.iter().map(|run| run.count).sum());
            now = now + Duration::from_millis(50);
            step = Step::Wait;
            for index in runs.into_iter().flat_map(|run| run.first..run.first + run.count) {
                step = fetching.stored(index, now);
            }
        }
        assert_eq!(step, Step::Complete);
        sizes
    }

    #[test]
    fn every_good_round_earns_a_block_of_credit_up_to_the_bound() {
        let sizes = rounds(&mut fetching(300), START);
        assert_eq!(sizes[..4], [4, 5, 6, 7]);
        assert_eq!(sizes.iter().max(), Some(&MAX_CREDIT));
        assert_eq!(sizes.iter().sum::<u32>(), 300);
    }

    #[test]
    fn a_time_out_halves_the_credit_but_leaves_a_floor() {
        let mut fetching = fetching(10_000);
        fetching.credit = 10;
        assert_eq!(asked(fetching.time_out(START)), 5);
        assert_eq!(asked(fetching.time_out(START)), MIN_CREDIT);
    }

    #[test]
    fn attempts_in_vain_take_longer_each_time_and_end() {
        let mut fetching = fetching(8);
        let mut now = START;
        let mut waits = vec![];
        let mut step = fetching.ask(now);
        while step != Step::GiveUp {
            waits.push(fetching.deadline.since(now).as_millis());
            now = fetching.deadline;
            step = fetching.time_out(now);
        }
        assert_eq!(waits[..5], [2_000, 4_000, 8_000, 16_000, 32_000]);
        assert_eq!(waits.len(), MAX_ATTEMPTS as usize + 1);
        assert!(waits.iter().all(|&wait| wait <= 60_000));
    }

    #[test]
    fn any_progress_forgives_the_attempts_in_vain() {
        let mut fetching = fetching(8);
        fetching.ask(START);
        for _ in 0..MAX_ATTEMPTS {
            fetching.time_out(START);
        }
        fetching.stored(0, START);
        assert!(matches!(fetching.time_out(START), Step::Ask(_)));
    }

    #[test]
    fn patience_follows_a_slow_link() {
        let mut fetching = fetching(8);
        fetching.ask(START);
        let now = START + Duration::from_secs(1);
        fetching.stored(0, now);
        assert_eq!(fetching.deadline.since(now), Duration::from_secs(4));
    }

    #[test]
    fn one_answer_after_a_minute_does_not_make_a_lost_block_cost_minutes() {
        let mut fetching = fetching(8);
        fetching.ask(START);
        let now = START + Duration::from_secs(60);
        fetching.stored(0, now);
        assert_eq!(fetching.deadline.since(now), Duration::from_secs(10));
    }

    #[test]
    fn only_missing_blocks_are_asked_for_after_a_resume() {
        let mut here = BlockMap::empty(6);
        [0, 1, 2, 4].into_iter().for_each(|i| here.insert(i));
        let mut fetching = Fetching::new(here, START);
        assert_eq!(
            fetching.resume(START),
            Step::Ask(vec![Run { first: 3, count: 1 }, Run { first: 5, count: 1 }])
        );
    }

    #[test]
    fn a_block_that_is_always_wrong_ends_the_transfer() {
        let mut fetching = fetching(1);
        fetching.ask(START);
        let steps: Vec<_> = (0..=MAX_ATTEMPTS).map(|_| fetching.refused(0, START)).collect();
        assert_eq!(steps.last(), Some(&Step::GiveUp));
        assert!(steps[..MAX_ATTEMPTS as usize].iter().all(|step| matches!(step, Step::Ask(_))));
    }

    #[test]
    fn a_block_that_came_twice_changes_nothing() {
        let mut fetching = fetching(4);
        fetching.ask(START);
        fetching.stored(1, START);
        let before = fetching.clone();
        assert_eq!(fetching.stored(1, START + Duration::from_secs(1)), Step::Wait);
        assert_eq!(fetching, before);
    }

    #[test]
    fn the_server_can_neither_spin_nor_park_a_device() {
        assert_eq!(Stall::busy(Duration::ZERO, START), Stall::Busy { until: START + RETRY_AFTER.0 });
        assert_eq!(Stall::busy(Duration::MAX, START), Stall::Busy { until: START + RETRY_AFTER.1 });
    }
}
