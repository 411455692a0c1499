//! A bounded choice out of a row of unknown length.

/// Every n-th thing that was pushed, and the last one. n doubles whenever there is no more room, so the choice is always spread
/// evenly.
#[derive(Debug)]
pub(super) struct Thinned<T> {
    chosen: Vec<T>,
    /// The newest, where its turn did not come.
    last: Option<T>,
    most: usize,
    every: u64,
    pushed: u64,
}

impl<T> Thinned<T> {
    /// Of at most `most` things, an even number, and the last one.
    pub(super) fn to(most: usize) -> Self {
        // Of an odd number of places the even ones are kept, so the newest stays.
        debug_assert!(most.is_multiple_of(2));
        Self { chosen: Vec::new(), last: None, most, every: 1, pushed: 0 }
    }

    /// The next one.
    pub(super) fn push(&mut self, thing: T) {
        let is_chosen = self.pushed.is_multiple_of(self.every);
        self.pushed += 1;
        if !is_chosen {
            self.last = Some(thing);
            return;
        }
        self.last = None;
        self.chosen.push(thing);
        if self.chosen.len() > self.most {
            let mut keeps = false;
            self.chosen.retain(|_| {
                keeps = !keeps;
                keeps
            });
            self.every *= 2;
        }
    }

    /// How many were pushed.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// The choice, in order.
    pub(super) fn into_vec(mut self) -> Vec<T> {
        self.chosen.extend(self.last);
        self.chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_even_bounded_and_ends_with_the_last() {
        for (most, pushed) in [(8, 5), (8, 8), (8, 9), (8, 10), (8, 100), (6, 1_000), (2, 50), (2, 1)] {
            let mut thinned = Thinned::to(most);
            (0..pushed).for_each(|n| thinned.push(n));
            assert_eq!(thinned.pushed(), pushed);
            let chosen = thinned.into_vec();
            assert!(chosen.len() <= most + 1, "{most} of {pushed}: {chosen:?}");
            assert!(chosen.len() as u64 >= pushed.min(most as u64 / 2), "{most} of {pushed}: {chosen:?}");
            assert_eq!((chosen.first(), chosen.last()), (Some(&0), Some(&(pushed - 1))));
            let steps: Vec<u64> = chosen.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (even, last) = steps.split_at(steps.len().saturating_sub(1));
            assert!(even.windows(2).all(|pair| pair[0] == pair[1]), "{most} of {pushed}: {chosen:?}");
            assert!(last.iter().all(|last| even.first().is_none_or(|step| last <= step)));
        }
    }
}
