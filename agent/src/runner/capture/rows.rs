//! The rows of one inference on their way into a window.

use std::{ops::Range, sync::Arc};

use muster_engine::{
    Tensor,
    features::{Extractor, Row},
};
use tokio::{sync::OwnedSemaphorePermit, task};

use super::{COMPUTING, Capture, MAX_COUNTING, OBSERVING, observed::Observed};

/// Rows that are read before they are counted, and before others get their turn.
const ROWS_A_TURN: usize = 16;

/// Values after which others get their turn, although there are fewer rows: a table never has so many, two images of 224 × 224 × 3
/// have. About a tenth of a millisecond. A row that has more by itself, as one of some megapixels, is never read before its model runs.
const VALUES_A_TURN: usize = 60_000;

/// What one of [`MAX_COUNTING`] places is for: together they hold 16 MiB, or one answer that is larger.
const PLACE_BYTES: usize = 256 * 1_024;

/// Which rows of an inference are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// All, to be looked at.
    Look { rows: usize },
    /// Some, to be counted.
    Some { first: usize, rows: usize, every: usize },
}

/// What is kept of an inference that is under way.
pub(crate) struct Kept {
    pub(super) capture: Arc<Capture>,
    /// Rows that it has.
    pub(super) rows: usize,
    pub(super) seen: Seen,
    pub(super) counting: Counting,
}

/// What is kept of its inputs.
pub(super) enum Seen {
    /// The features of its one row of interest, which has this number.
    Features(usize, Row),
    /// All, to be read later. A tensor that is cloned shares its bytes.
    Inputs(Vec<(String, Tensor)>),
}

/// The same with its answer, and the permission to count it.
pub(crate) struct Answered {
    kept: Kept,
    outputs: Vec<Tensor>,
    _place: OwnedSemaphorePermit,
}

impl Counting {
    /// Of an inference with rows that have the numbers from `first` on; `None` when there is none of interest.
    pub(super) fn of(every: u32, first: u64, rows: usize) -> Option<Self> {
        match every {
            COMPUTING => None,
            OBSERVING => (rows > 0).then_some(Self::Look { rows }),
            every => {
                let next = first.next_multiple_of(every.into());
                let first = usize::try_from(next - first).ok().filter(|first| *first < rows)?;
                Some(Self::Some { first, rows, every: every as usize })
            }
        }
    }

    fn places(self) -> (Range<usize>, usize) {
        match self {
            Self::Look { rows } => (0..rows, 1),
            Self::Some { first, rows, every } => (first..rows, every),
        }
    }
}

impl Seen {
    /// Of an inference with rows of interest.
    pub(super) fn of(extractor: &Extractor, inputs: &[(String, Tensor)], counting: Counting) -> Self {
        let (range, step) = counting.places();
        let (first, count) = (range.start, range.step_by(step).len());
        if count > 1 || extractor.input_cost(inputs) > VALUES_A_TURN {
            return Self::Inputs(inputs.to_vec());
        }
        let mut features = Row::default();
        extractor.read_inputs(inputs, first, &mut features);
        Self::Features(first, features)
    }

    /// Bytes of tensors that are held.
    fn bytes(&self) -> usize {
        match self {
            Self::Features(..) => 0,
            Self::Inputs(inputs) => inputs.iter().map(|(_, tensor)| tensor.data().len()).sum(),
        }
    }
}

impl Kept {
    /// The answer is good. `None` when too many wait already.
    pub(crate) fn answered(self, outputs: &[Tensor]) -> Option<Answered> {
        let bytes = self.seen.bytes() + outputs.iter().map(|tensor| tensor.data().len()).sum::<usize>();
        let places = (bytes / PLACE_BYTES + 1).min(MAX_COUNTING);
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.capture.common.counting).try_acquire_many_owned(places);
        let Ok(place) = place else {
            let (rows, every) = self.counting.places();
            self.capture.left_out(rows.step_by(every).len() as u64);
            return None;
        };
        Some(Answered { kept: self, outputs: outputs.to_vec(), _place: place })
    }
}

impl Answered {
    /// Reads what is still to be read of the rows, and counts them.
    pub(crate) async fn count(self) {
        let Self { kept: Kept { capture, rows, seen, counting }, outputs, _place: place } = self;
        let observed = match seen {
            Seen::Features(number, mut row) => {
                capture.extractor.read_outputs(&outputs, number, rows, &mut row);
                capture.take(&[row], counting)
            }
            Seen::Inputs(inputs) => count_many(&capture, &inputs, &outputs, counting).await,
        };
        drop(place);
        if let Some(observed) = observed {
            look(capture, observed).await;
        }
    }
}

/// Reads and counts one part of the rows after the other. The lock is not held while they are read, and other tasks get their
/// turn after some rows, or after some values where rows have many.
async fn count_many(
    capture: &Capture,
    inputs: &[(String, Tensor)],
    outputs: &[Tensor],
    counting: Counting,
) -> Option<Observed> {
    let (range, step) = counting.places();
    let mut places = range.step_by(step);
    let mut rows = vec![Row::default(); ROWS_A_TURN.min(places.len())];
    loop {
        let (mut read, mut values) = (0, 0);
        while values < VALUES_A_TURN
            && let Some(row) = rows.get_mut(read)
            && let Some(place) = places.next()
        {
            values += capture.extractor.read(inputs, outputs, place, row);
            read += 1;
        }
        let observed = capture.take(&rows[..read], counting);
        if observed.is_some() || places.len() == 0 {
            return observed;
        }
        task::yield_now().await;
    }
}

/// On a thread where it may take its time.
async fn look(capture: Arc<Capture>, mut observed: Observed) {
    let looked = task::spawn_blocking(move || {
        let found = observed.look();
        capture.looked(observed, found);
    });
    if let Err(error) = looked.await {
        tracing::error!(%error, "every how manieth row is to be counted cannot be computed; none is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kth_row_is_counted_whatever_inferences_they_come_in() {
        for (every, batches) in [(1, vec![3, 1]), (3, vec![1; 10]), (4, vec![2, 9, 1, 1, 5]), (7, vec![50])] {
            let (mut first, mut counted) = (0, vec![]);
            for rows in batches {
                let counting = Counting::of(every, first, rows);
                let (range, step) = counting.map_or((0..0, 1), Counting::places);
                counted.extend(range.step_by(step).map(|place| first + place as u64));
                first += rows as u64;
            }
            let expected: Vec<u64> = (0..first).step_by(every as usize).collect();
            assert_eq!(counted, expected, "every {every}");
        }
    }

    #[test]
    fn an_inference_without_rows_is_of_no_interest() {
        assert_eq!(Counting::of(OBSERVING, 5, 0), None);
        assert_eq!(Counting::of(1, 5, 0), None);
        assert_eq!(Counting::of(COMPUTING, 5, 9), None);
    }
}
