//! How a made-up release behaves on a device.

use serde::{Deserialize, Serialize};

/// What a release does when it is tried and used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nature {
    /// It works.
    #[default]
    Good,
    /// Its blocks do not unpack to what was signed.
    UnpacksWrong,
    /// An output of its trial differs from the golden value.
    FailsTrial,
    /// Its trial does not come back before its limit.
    HangsTrial,
    /// It passes its trial, and the runner cannot load it.
    FailsToLoad,
    /// It takes the runner down when it is loaded.
    KillsRunner,
    /// This many of a hundred inferences fail.
    FailsInferences(u32),
    /// Every inference takes this many percent longer, which no device minds and a fleet does.
    Slower(u32),
    /// Its inputs are this many hundredths further from their reference, as a population stability index: no device minds,
    /// and a fleet whose devices tell of drift does.
    Drifts(u32),
    /// Most inferences are slower than the budget.
    Slow,
    /// It takes more memory than its manifest allows as soon as it answers.
    EatsMemory,
    /// The device has no room for it.
    FillsDisk,
}

impl Nature {
    /// True for what a device must never keep by itself.
    #[must_use]
    pub fn is_bad(self) -> bool {
        !matches!(self, Self::Good | Self::Slower(_) | Self::Drifts(_))
    }
}
