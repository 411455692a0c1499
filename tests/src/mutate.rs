//! Models that were damaged, or changed by somebody who does not know what they do.

use crate::random::Random;

/// Most bytes that one splice moves, removes or repeats.
const MAX_SPLICE: usize = 64;

/// Values that readers of formats stumble over.
const SHARP_BYTES: [u8; 8] = [0x00, 0x01, 0x7F, 0x80, 0xFF, 0x0A, 0x12, 0x3A];

/// One of `models` with one to four random changes; the same bytes for the same `seed`.
#[must_use]
pub fn mutant(seed: u64, models: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = random.pick(models).clone();
    for _ in 0..=random.below(4) {
        change(&mut random, &mut bytes, models);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, models: &[Vec<u8>]) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    let length = 1 + random.below(MAX_SPLICE.min(bytes.len() - at));
    match random.below(10) {
        0..=2 => bytes[at] ^= 1 << random.below(8),
        3 => bytes[at] = *random.pick(&SHARP_BYTES),
        4 => bytes[at] = bytes[at].wrapping_add(1),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..at + length)),
        7 => {
            let again = bytes[at..at + length].to_vec();
            bytes.splice(at..at, again);
        }
        8 => {
            let other = random.pick(models);
            let from = random.below(other.len());
            let piece = &other[from..other.len().min(from + length)];
            bytes.splice(at..at, piece.iter().copied());
        }
        _ => bytes[at..at + length].fill(*random.pick(&SHARP_BYTES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_mutant_and_another_seed_another() {
        let models = [vec![1; 200], vec![2; 100]];
        assert_eq!(mutant(5, &models), mutant(5, &models));
        let kinds: std::collections::BTreeSet<_> = (0..100).map(|seed| mutant(seed, &models)).collect();
        assert!(kinds.len() > 90);
    }
}
