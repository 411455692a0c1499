//! What a bad network does: to everything that passes, and to single connections.
//!
//! TCP hides lost packets, so loss is modelled as what programs see of it: connections that die and connections that
//! hang.

use std::time::Duration;

use crate::random::Random;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From devices to the server.
    Up,
    /// From the server to devices.
    Down,
}

impl Way {
    /// The other direction.
    pub(super) fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Every byte comes at least this much later.
    pub latency: Duration,
    /// And up to this much later still. Order is kept, as TCP does.
    pub jitter: Duration,
    /// No more than this passes in either direction.
    pub bytes_per_sec: Option<u64>,
    /// Bytes that go this way vanish, and nobody is told.
    pub swallowed: Option<Way>,
}

/// What becomes of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fate {
    /// Nothing happens to it.
    #[default]
    Healthy,
    /// It is closed after this many bytes of both directions together; 0 is as good as a refusal.
    DiesAfter(u64),
    /// After this many bytes nothing passes any more, and it stays open.
    HangsAfter(u64),
}

impl Fate {
    /// Bytes that may pass in all.
    pub(super) fn limit(self) -> u64 {
        match self {
            Self::Healthy => u64::MAX,
            Self::DiesAfter(bytes) | Self::HangsAfter(bytes) => bytes,
        }
    }
}

/// Fates of `count` connections of which `bad_percent` die within `within` bytes; every fiftieth of those
/// hangs.
#[must_use]
pub fn losses(random: &mut Random, count: usize, bad_percent: usize, within: usize) -> Vec<Fate> {
    let mut deal = || {
        if random.below(100) >= bad_percent {
            return Fate::Healthy;
        }
        let bytes = random.below(within) as u64;
        if random.below(50) == 0 { Fate::HangsAfter(bytes) } else { Fate::DiesAfter(bytes) }
    };
    (0..count).map(|_| deal()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_deals_the_same_fates_again_and_about_as_many_bad_ones_as_asked_for() {
        let deal = || losses(&mut Random::new(7), 10_000, 99, 1_000);
        assert_eq!(deal(), deal());
        let healthy = deal().into_iter().filter(|fate| *fate == Fate::Healthy).count();
        assert!((50..200).contains(&healthy), "{healthy} of 10000");
    }
}
