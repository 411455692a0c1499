//! The steps of a rollout.

use serde::{Deserialize, Serialize};

use super::{InvalidStrategy, check_percent, check_secs};
use crate::selector::Selector;

/// One step of a rollout, as the operator describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveSpec {
    /// How many devices, or which.
    pub share: WaveShare,
    /// How long the wave is watched after its last device has settled.
    #[serde(default)]
    pub bake_time_secs: u64,
    /// Somebody other than the author has to agree before its devices are asked.
    #[serde(default)]
    pub approve: bool,
}

/// The size of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveShare {
    /// A percentage of all devices of the rollout, at least one device.
    Percent(u32),
    /// A number of devices.
    Count(u32),
    /// Every device that matches and that no earlier wave holds.
    Selector(Selector),
    /// Every device that no earlier wave holds.
    All,
}

impl WaveShare {
    /// Most devices that a wave of this share holds, of `total` in the rollout.
    #[must_use]
    pub fn size(&self, total: usize) -> usize {
        match self {
            Self::Percent(percent) => total.saturating_mul(*percent as usize).div_ceil(100),
            Self::Count(count) => *count as usize,
            Self::Selector(_) | Self::All => total,
        }
    }
}

impl WaveSpec {
    /// A wave that is not watched and needs nobody's consent.
    #[must_use]
    pub fn of(share: WaveShare) -> Self {
        Self { share, bake_time_secs: 0, approve: false }
    }

    pub(super) fn check(&self, number: usize) -> Result<(), InvalidStrategy> {
        match self.share {
            WaveShare::Percent(0) | WaveShare::Count(0) => return Err(InvalidStrategy::EmptyWave(number)),
            WaveShare::Percent(percent) => check_percent("share.percent", percent, 1, 100)?,
            WaveShare::Count(_) | WaveShare::Selector(_) | WaveShare::All => {}
        }
        check_secs("bake_time_secs", self.bake_time_secs, 0)
    }
}
