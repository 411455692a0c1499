//! Waits that double, with a bound and a spread.

use std::time::Duration;

/// `first · 2^attempt`, at most `longest`.
pub(crate) fn doubled(first: Duration, attempt: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(attempt)).min(longest)
}

/// Between half of `wait` and all of it, by `seed`, so that many devices do not come back in step.
pub(crate) fn spread(wait: Duration, seed: u64) -> Duration {
    let half_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) / 2;
    Duration::from_millis(half_ms + mix(seed) % half_ms.saturating_add(1))
}

/// The finaliser of SplitMix64: neighbouring seeds give unrelated numbers.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_leaves_its_bounds() {
        let longest = Duration::from_secs(300);
        for attempt in 0..100 {
            let wait = doubled(Duration::from_secs(1), attempt, longest);
            assert!(wait >= Duration::from_secs(1) && wait <= longest);
            let spread = spread(wait, u64::from(attempt));
            assert!(spread >= wait / 2 && spread <= wait);
        }
    }
}
