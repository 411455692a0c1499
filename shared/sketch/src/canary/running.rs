//! A mean that grows by one figure at a time (Welford 1962).

use serde::{Deserialize, Serialize};

/// Running mean and squared deviations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) count: u64,
    pub(super) mean: f64,
    squares: f64,
}

impl Running {
    pub(super) fn record(&mut self, value: f64) {
        self.count += 1;
        let off = value - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (value - self.mean);
    }

    /// Of two figures or more.
    pub(super) fn variance(&self) -> f64 {
        self.squares / (self.count as f64 - 1.0)
    }
}
