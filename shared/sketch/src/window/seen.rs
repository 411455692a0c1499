//! Which windows of a run of an agent were counted.
//!
//! Windows are numbered from 1 within a boot and most arrive, so what was counted is a few ranges, not a list. A window
//! that never comes leaves a gap; the oldest gap closes when there are too many, and what comes for it later is not counted.
//! So memory has a bound, nothing is ever counted twice, and only a window that is [`MAX_RANGES`] gaps late is lost.

/// Ranges that are kept of one boot: a device that loses every second window may still deliver one that is two hours late
/// at a window a minute.
pub(super) const MAX_RANGES: usize = 64;

/// Ascending ranges of numbers, both ends included, with a gap between any two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen(Vec<(u64, u64)>);

impl Seen {
    pub(super) fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|&(_, last)| last < number);
        self.0.get(after).is_some_and(|&(first, _)| first <= number)
    }

    /// Notes a number; false when it was noted before.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let place = self.0.partition_point(|&(_, last)| last < number);
        if self.0.get(place).is_some_and(|&(first, _)| first <= number) {
            return false;
        }
        self.0.insert(place, (number, number));
        self.join(place);
        if place > 0 {
            self.join(place - 1);
        }
        self.close_oldest_gaps();
        true
    }

    /// Whether every number of `other` is in here too.
    pub(super) fn includes(&self, other: &Self) -> bool {
        other.0.iter().all(|&(first, last)| {
            let place = self.0.partition_point(|&(_, end)| end < first);
            self.0.get(place).is_some_and(|&(begin, end)| begin <= first && last <= end)
        })
    }

    /// The smallest number that is in both.
    pub(super) fn first_shared(&self, other: &Self) -> Option<u64> {
        let shared = self.0.iter().flat_map(|&(first, last)| {
            other.0.iter().map(move |&(begin, end)| (first.max(begin), last.min(end)))
        });
        shared.filter(|(first, last)| first <= last).map(|(first, _)| first).min()
    }

    /// Notes everything that `other` noted.
    pub(super) fn unite(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        let mut united: Vec<(u64, u64)> = Vec::with_capacity(self.0.len());
        for &(first, last) in &self.0 {
            match united.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => united.push((first, last)),
            }
        }
        self.0 = united;
        self.close_oldest_gaps();
    }

    /// Joins the range at `place` with the next one, if they touch.
    fn join(&mut self, place: usize) {
        if let [(_, last), (first, end), ..] = self.0[place..]
            && last.saturating_add(1) >= first
        {
            self.0[place].1 = end;
            self.0.remove(place + 1);
        }
    }

    fn close_oldest_gaps(&mut self) {
        while self.0.len() > MAX_RANGES {
            let (first, _) = self.0.remove(0);
            self.0[0].0 = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(numbers: &[u64]) -> Seen {
        let mut seen = Seen::default();
        numbers.iter().for_each(|&number| {
            seen.insert(number);
        });
        seen
    }

    proptest! {
        #[test]
        fn it_is_a_set_as_long_as_gaps_are_few(a in prop::collection::vec(0_u64..100, 0..80), b in prop::collection::vec(0_u64..100, 0..80)) {
            let (set_a, set_b): (BTreeSet<_>, BTreeSet<_>) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (seen_a, seen_b) = (of(&a), of(&b));
            for number in 0..100 {
                prop_assert_eq!(seen_a.contains(number), set_a.contains(&number));
            }
            prop_assert_eq!(seen_a.includes(&seen_b), set_a.is_superset(&set_b));
            prop_assert_eq!(seen_a.first_shared(&seen_b), set_a.intersection(&set_b).next().copied());
            let mut united = seen_a.clone();
            united.unite(&seen_b);
            let all: Vec<u64> = set_a.union(&set_b).copied().collect();
            prop_assert_eq!(united, of(&all));
        }
    }

    #[test]
    fn numbers_without_gaps_are_one_range_in_any_order() {
        assert_eq!(of(&[3, 1, 2, 5, 4]).0, [(1, 5)]);
        assert_eq!(of(&[u64::MAX, u64::MAX - 1, 0]).0, [(0, 0), (u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn too_many_gaps_close_from_the_oldest_and_nothing_counts_twice() {
        let mut seen = Seen::default();
        for number in 0..1_000 {
            assert!(seen.insert(2 * number));
            assert!(!seen.insert(2 * number));
        }
        assert_eq!(seen.0.len(), MAX_RANGES);
        assert!(seen.contains(1), "the oldest gap is closed");
        assert!(seen.insert(1_997), "a recent one is open");
    }
}
