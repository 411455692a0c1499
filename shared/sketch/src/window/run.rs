//! Runs of identical values: a sensor that is stuck, or a camera that is frozen.

/// The runs of one feature's values, in their order. NaN equals nothing, so it ends a run and begins none.
#[derive(Debug, Clone)]
pub(super) struct Run {
    last: f32,
    length: u64,
    longest: u64,
}

impl Run {
    pub(super) fn new() -> Self {
        Self { last: f32::NAN, length: 1, longest: 1 }
    }

    pub(super) fn follow(&mut self, values: &[f32]) {
        let Some((&first, &newest)) = values.first().zip(values.last()) else { return };
        // Most features never repeat; finding that out is a vector instruction for several values at once.
        let repeats_inside =
            values.iter().zip(&values[1..]).fold(false, |any, (value, next)| any | (value == next));
        if !repeats_inside && first != self.last {
            (self.last, self.length) = (newest, 1);
            return;
        }
        for &value in values {
            self.length = if value == self.last { self.length + 1 } else { 1 };
            self.longest = self.longest.max(self.length);
            self.last = value;
        }
    }

    /// The longest run, if there was a finite value.
    pub(super) fn longest(&self) -> u64 {
        self.longest
    }
}
