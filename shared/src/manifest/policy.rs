//! Numbers that decide: what a model may cost, and when a device keeps it.
//!
//! They travel in the signed manifest, so a device decides alone and offline by the rules of the publisher.

use serde::{Deserialize, Serialize};

/// How far an output may lie from its golden value: `|found − golden| ≤ absolute + relative · |golden|`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Absolute part.
    pub absolute: f64,
    /// Part relative to the golden value.
    pub relative: f64,
}

impl Default for Tolerance {
    /// Room for another order of summation in FP32, far below any change of a model.
    fn default() -> Self {
        Self { absolute: 1e-4, relative: 1e-3 }
    }
}

impl Tolerance {
    pub(super) fn check(&self) -> Result<(), String> {
        let fits = |value: f64| value.is_finite() && value >= 0.0;
        if fits(self.absolute) && fits(self.relative) {
            return Ok(());
        }
        Err(format!("tolerance {self:?}: both parts must be finite and not negative"))
    }
}

/// What a model may cost on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// An inference slower than this counts against the model.
    pub latency_ms: u32,
    /// Loading and warming may take this long.
    pub load_ms: u32,
    /// The trial process may use this much address space beyond its own.
    pub memory_mib: u32,
}

impl Default for Budgets {
    /// Wide enough for any model that a small device runs at all.
    fn default() -> Self {
        Self { latency_ms: 1_000, load_ms: 30_000, memory_mib: 1_024 }
    }
}

impl Budgets {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.latency_ms == 0 || self.load_ms == 0 || self.memory_mib == 0 {
            return Err("budgets must be greater than zero".into());
        }
        if self.load_ms > 600_000 || self.latency_ms > 600_000 {
            return Err("no time budget may exceed ten minutes (600000 ms)".into());
        }
        Ok(())
    }
}

/// A sequential probability ratio test (Wald, 1945) between two rates of bad inferences, in parts per million.
///
/// It decides "bad" when the observed errors are `1 / wrong_rollback` times likelier under `bad_ppm` than under
/// `good_ppm`. By Ville's inequality a model whose true rate is at most `good_ppm` is condemned with a
/// probability of at most `wrong_rollback`, however long one looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorTest {
    /// A rate that is fine.
    pub good_ppm: u32,
    /// A rate that is not.
    pub bad_ppm: u32,
    /// One wrong rollback in this many runs of a good model, at most.
    pub one_wrong_in: u32,
}

impl Default for ErrorTest {
    /// 1 % against 20 %, wrong once in a million: five errors in a row decide.
    fn default() -> Self {
        Self { good_ppm: 10_000, bad_ppm: 200_000, one_wrong_in: 1_000_000 }
    }
}

impl ErrorTest {
    fn check(&self) -> Result<(), String> {
        let ordered = 0 < self.good_ppm && self.good_ppm < self.bad_ppm && self.bad_ppm < 1_000_000;
        if ordered && self.one_wrong_in >= 10 {
            return Ok(());
        }
        Err(format!("{self:?}: needs 0 < good_ppm < bad_ppm < 1000000 and one_wrong_in of at least 10"))
    }
}

/// How long a device watches a new version, and what sends it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbationPolicy {
    /// Watch at least this long.
    pub duration_secs: u32,
    /// Commit only after this many inferences; fewer is not enough evidence, and the device goes on watching.
    pub min_inferences: u32,
    /// Starts without reaching the end of probation after which the version is given up.
    pub max_starts: u32,
    /// Failed inferences: errors, non-finite outputs, wrong shapes, missed deadlines.
    pub failures: ErrorTest,
    /// Inferences slower than the latency budget.
    pub slow: ErrorTest,
}

impl Default for ProbationPolicy {
    fn default() -> Self {
        let slow = ErrorTest { good_ppm: 50_000, bad_ppm: 500_000, one_wrong_in: 1_000_000 };
        Self { duration_secs: 600, min_inferences: 50, max_starts: 3, failures: ErrorTest::default(), slow }
    }
}

impl ProbationPolicy {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.max_starts == 0 || self.max_starts > 100 {
            return Err(format!("max_starts is {}; allowed are 1 to 100", self.max_starts));
        }
        if self.duration_secs > 30 * 86_400 {
            return Err("probation may last at most 30 days".into());
        }
        self.failures.check()?;
        self.slow.check()
    }
}
