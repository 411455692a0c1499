//! The order in which devices are asked: shuffled by a seed and spread over strata.
//!
//! Never the order of enrolment, because devices that came together share a site, an uplink and a batch of
//! hardware. Every stretch of the order holds each stratum about in proportion, so that a canary wave is a small
//! picture of the fleet.

use std::collections::BTreeMap;

use crate::device::DeviceFacts;

/// The devices, spread. The same devices and seed give the same order, however the input is ordered.
pub(crate) fn spread(mut devices: Vec<&DeviceFacts>, seed: u64) -> Vec<&DeviceFacts> {
    devices.sort_by(|a, b| a.id.cmp(&b.id));
    let mut strata = BTreeMap::<_, Vec<_>>::new();
    for device in devices {
        strata.entry(device.stratum()).or_default().push(device);
    }
    let mut random = SplitMix64(seed);
    let mut placed = Vec::new();
    for mut stratum in strata.into_values() {
        shuffle(&mut stratum, &mut random);
        let size = stratum.len() as u64;
        // Each device gets its own equal slice of the line from 0 to 2³², and a random point in it.
        placed.extend((0..).zip(stratum).map(|(index, device)| {
            let place = ((index << 32) + (random.next() >> 32)) / size;
            (place, device)
        }));
    }
    placed.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    placed.into_iter().map(|(_, device)| device).collect()
}

pub(crate) fn shuffle<T>(items: &mut [T], random: &mut SplitMix64) {
    for last in (1..items.len()).rev() {
        let other = random.next() % (last as u64 + 1);
        // The remainder is at most `last`, so it fits.
        items.swap(last, usize::try_from(other).unwrap_or(last));
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, good enough to shuffle, and the same on every platform.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        let mut random = SplitMix64(1_234_567);
        let found: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
