//! The first rows of a version: only looked at, to find out every how manieth is worth counting.
//!
//! They are looked at when there are a thousand, two thousand, five and ten thousand. An autocorrelation time that was estimated
//! from five hundred times as many rows is right to about a fifth, and that suffices; at ten thousand whatever was
//! found counts. So rows that do not depend on each other are counted after a thousand, and those of a
//! camera after some thousand frames.
//!
//! k is the largest that any signal asks for: where one feature is the same for ten frames, a row says nothing new of it for
//! ten frames. Features that never vary have nothing to say, and values that are missing are left out.

use muster_engine::features::Row;
use muster_sketch::detector::{NoThinning, Thinning};

use crate::runner::protocol::Pace;

/// Signals that are looked at: numbers first, then categories by their place. Thirty-two of ten thousand rows are 1.3 MB, for as
/// long as k is not known.
const MAX_SIGNALS: usize = 32;

/// When they are looked at, in rows.
const LOOKS: [usize; 4] = [1_000, 2_000, 5_000, 10_000];

/// Rows for each unit of autocorrelation time without which an estimate is not trusted, but for the last look.
const ROWS_PER_TIME: f64 = 500.0;

/// Rows in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Signals of a row; known with the first.
    width: usize,
    rows: usize,
    /// Row by row.
    values: Vec<f32>,
    /// How often they were looked at.
    looks: usize,
}

impl Observed {
    /// Takes a row, if there is still something to find out.
    pub(super) fn push(&mut self, row: &Row) {
        if self.rows >= LOOKS[LOOKS.len() - 1] {
            return;
        }
        #[allow(clippy::cast_precision_loss)] // places are below 2^24
        let places = row.places.iter().map(|place| place.map_or(f32::NAN, |place| place as f32));
        self.values.extend(row.numbers.iter().copied().chain(places).take(MAX_SIGNALS));
        self.rows += 1;
        self.width = self.values.len() / self.rows;
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn is_time_to_look(&self) -> bool {
        LOOKS.get(self.looks).is_some_and(|&rows| self.rows >= rows)
    }

    /// What the rows show; `None` when more are needed. Takes up to half a second of a slow processor at the last look.
    pub(super) fn look(&mut self) -> Option<Pace> {
        let is_last = self.looks + 1 >= LOOKS.len();
        self.looks += 1;
        // A signal with gaps, or one that has not varied yet, may say more later.
        let found = (0..self.width).map(|signal| Thinning::of(&self.signal(signal)));
        let found: Vec<_> = found.collect();
        let may_say_more = |found: &Result<Thinning, NoThinning>| match found {
            Err(NoThinning::TooFew { values }) => *values > 0,
            Ok(_) | Err(NoThinning::NotFinite { .. } | NoThinning::Constant) => false,
        };
        if !is_last && found.iter().any(may_say_more) {
            return None;
        }
        let signals = found.into_iter().filter_map(Result::ok);
        let slowest = signals.max_by(|a, b| a.autocorrelation_time.total_cmp(&b.autocorrelation_time));
        // Nothing varies: there is no correlation that could be in the way.
        let Some(Thinning { autocorrelation_time, every, beyond_limit }) = slowest else {
            return is_last.then_some(Pace { every: 1, beyond_limit: false, rows: self.rows as u64 });
        };
        #[allow(clippy::cast_precision_loss)] // at most 10,000
        let suffices = self.rows as f64 >= ROWS_PER_TIME * autocorrelation_time;
        (suffices || is_last).then_some(Pace { every, beyond_limit, rows: self.rows as u64 })
    }

    fn signal(&self, signal: usize) -> Vec<f64> {
        let column = self.values.iter().skip(signal).step_by(self.width.max(1));
        column.map(|&value| f64::from(value)).filter(|value| value.is_finite()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values between -0.5 and 0.5 (a linear congruential generator).
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
        }
    }

    /// Rows until k is found.
    fn find(mut row: impl FnMut() -> Row) -> Pace {
        let mut observed = Observed::default();
        loop {
            observed.push(&row());
            if observed.is_time_to_look()
                && let Some(pace) = observed.look()
            {
                assert!(observed.values.len() <= MAX_SIGNALS * LOOKS[3]);
                return pace;
            }
        }
    }

    fn numbers(numbers: Vec<f32>) -> Row {
        Row { numbers, places: vec![] }
    }

    #[test]
    fn independent_rows_are_counted_after_a_thousand_and_correlated_ones_apart() {
        let mut noise = Noise(1);
        let independent = find(|| numbers(vec![noise.next(), 7.0, f32::NAN]));
        assert!(independent.every <= 2 && independent.rows == 1_000, "{independent:?}");
        let mut level = 0.0;
        let correlated = find(|| {
            level = 0.8 * level + noise.next();
            numbers(vec![noise.next(), level])
        });
        // A time of 9.
        assert!((6..=12).contains(&correlated.every) && correlated.rows == 5_000, "{correlated:?}");
    }

    #[test]
    fn a_level_that_wanders_is_counted_at_the_limit_and_told() {
        let (mut level, mut noise) = (0.0, Noise(2));
        let pace = find(|| {
            level += noise.next();
            numbers(vec![level])
        });
        assert!(pace.every == 100 && pace.beyond_limit && pace.rows == 10_000, "{pace:?}");
    }

    #[test]
    fn where_nothing_varies_for_long_every_row_is_counted() {
        let pace = find(|| numbers(vec![1.0, 2.0]));
        assert_eq!(pace, Pace { every: 1, beyond_limit: false, rows: 10_000 });
        assert_eq!(find(|| numbers(vec![])).every, 1);
    }

    #[test]
    fn a_gap_or_a_night_at_the_beginning_hides_no_correlation() {
        let (mut noise, mut level, mut rows) = (Noise(5), 0.0, 0);
        let pace = find(|| {
            rows += 1;
            level = 0.8 * level + noise.next();
            numbers(vec![if rows == 7 { f32::NAN } else { level }])
        });
        assert!((6..=12).contains(&pace.every), "{pace:?}");
        let (mut level, mut rows) = (0.0, 0);
        let pace = find(|| {
            rows += 1;
            level = 0.8 * level + noise.next();
            numbers(vec![if rows <= 1_000 { 3.0 } else { level }])
        });
        assert!(pace.every > 1, "{pace:?}");
    }

    #[test]
    fn a_class_that_stays_for_many_frames_is_seen_like_a_number() {
        let (mut noise, mut class, mut frames) = (Noise(3), 0, 0);
        let pace = find(|| {
            frames += 1;
            if frames % 20 == 0 {
                class = ((noise.next() + 0.5) * 10.0) as usize;
            }
            Row { numbers: vec![], places: vec![Some(class)] }
        });
        assert!((10..=30).contains(&pace.every), "{pace:?}");
    }

    #[test]
    fn more_signals_than_are_looked_at_take_no_more_memory() {
        let mut noise = Noise(4);
        let pace = find(|| numbers((0..100).map(|_| noise.next()).collect()));
        assert!(pace.every <= 3, "{pace:?}");
    }
}
