//! Runs of identical values: a sensor that is stuck, or a camera that is frozen.

use super::kernel::{BLOCK, Block};

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

    /// Follows a block; NaN fills it up when it is the last.
    #[inline(always)]
    pub(super) fn follow(&mut self, block: &Block) {
        let (first, newest) = (block[0], block[BLOCK - 1]);
        // Most features never repeat; finding that out is a vector instruction or two for several values at once.
        // Whole vectors: the last of them overlaps those before, because there is a neighbour less than there are values.
        let repeats = any_repeats::<{ BLOCK - 8 }>(block, 0) | any_repeats::<8>(block, BLOCK - 9);
        if repeats == 0 && first != self.last {
            (self.last, self.length) = (newest, 1);
            return;
        }
        self.follow_each(block);
    }

    /// Out of line, so that the usual case is compiled for vectors alone.
    #[inline(never)]
    fn follow_each(&mut self, block: &Block) {
        for &value in block {
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

/// Not zero when a value equals the next, among `COUNT` of them.
#[inline(always)]
fn any_repeats<const COUNT: usize>(block: &Block, from: usize) -> u32 {
    let neighbours = block[from..from + COUNT].iter().zip(&block[from + 1..]);
    neighbours.fold(0, |any, (value, next)| any | u32::from(value == next))
}
