//! Numbers of any length in a stream of bits, the first bit on top.
//!
//! What reads usual ones is a part of its caller (`inline(always)`), so that the reader is in registers there; what reads
//! the others is not, and takes and returns the reader, because one that is lent would have to be in memory.

use std::num::NonZeroU64;

/// Why bits are no number. Small, because it is asked for each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BitError {
    /// They end before it does.
    Truncated,
    /// It is above [`MAX_NUMBER`], or nearly so.
    TooLarge,
    /// Something is after the end.
    Trailing,
}

/// Numbers above this are neither written nor read, so that a number and its code fit into a word.
pub(super) const MAX_NUMBER: u64 = (1 << 61) - 1;

/// Bits that a word holds whatever the place in its first byte.
const WORD_BITS: u32 = 56;

/// Writes bits after bytes that are there.
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that wait for a whole byte, at the low end.
    waiting: u64,
    count: u32,
}

impl BitWriter {
    pub(super) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, waiting: 0, count: 0 }
    }

    /// Writes the low `bits` bits of `value`; it has no others.
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        if bits > WORD_BITS / 2 {
            let low = bits - WORD_BITS / 2;
            self.put(value >> low, bits - low);
            return self.put(value & ((1 << low) - 1), low);
        }
        self.waiting = (self.waiting << bits) | value;
        self.count += bits;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.waiting >> self.count) as u8);
        }
        self.waiting &= (1 << self.count) - 1;
    }

    /// Writes a number of at most [`MAX_NUMBER`] in the exponential Golomb code of order `low_bits`: with a one at
    /// place `low_bits` added to it, as many zeros as it then has bits above that place, and it.
    pub(super) fn number(&mut self, number: u64, low_bits: u32) {
        let coded = number + (1 << low_bits);
        let bits = u64::BITS - coded.leading_zeros();
        self.put(0, bits - low_bits - 1);
        self.put(coded, bits);
    }

    /// Writes a difference, small ones of either sign as small numbers.
    pub(super) fn difference(&mut self, difference: i64, low_bits: u32) {
        self.number(((difference << 1) ^ (difference >> 63)) as u64, low_bits);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.bytes
    }
}

/// Reads what [`BitWriter`] wrote. A copy in a local variable can stay in registers.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The first byte that is not wholly in the word.
    next: usize,
    /// The next bits, on top. After the ready ones are zeros, or those that follow in the bytes.
    word: u64,
    /// How many are known to be in the word, fewer than it holds, so that all can be shifted out.
    ready: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, word: 0, ready: 0 }
    }

    /// Reads `bits` bits, at most 64.
    #[inline(always)]
    pub(super) fn take(&mut self, bits: u32) -> Result<u64, BitError> {
        if bits > WORD_BITS {
            let low = bits - WORD_BITS;
            let high = self.take_few(WORD_BITS)?;
            return Ok((high << low) | self.take_few(low)?);
        }
        self.take_few(bits)
    }

    /// Reads at most [`WORD_BITS`] bits.
    #[inline(always)]
    fn take_few(&mut self, bits: u32) -> Result<u64, BitError> {
        self.fill();
        if bits > self.ready {
            return Err(BitError::Truncated);
        }
        // A shift by the whole width is none.
        let value = if bits == 0 { 0 } else { self.word >> (u64::BITS - bits) };
        self.pass(bits);
        Ok(value)
    }

    #[inline(always)]
    pub(super) fn number(&mut self, low_bits: u32) -> Result<u64, BitError> {
        self.fill();
        // What is never zero needs no care in the instruction that old processors have for this, and a word that has its
        // only one at the end has no number.
        let bits = 2 * (self.word | 1).leading_zeros() + 1 + low_bits;
        if bits > self.ready {
            let (number, after) = self.long_number(low_bits)?;
            *self = after;
            return Ok(number);
        }
        let coded = self.word >> (u64::BITS - bits);
        self.pass(bits);
        Ok(coded - (1 << low_bits))
    }

    /// Reads several numbers. Where they fit into a word together, as usual ones do, that is one question for all of them,
    /// and nothing else to guess.
    #[inline(always)]
    pub(super) fn numbers<const COUNT: usize>(
        &mut self,
        low_bits: [u32; COUNT],
    ) -> Result<[u64; COUNT], BitError> {
        self.fill();
        if let Some((numbers, used)) = together(self.word, low_bits)
            && used <= self.ready
        {
            self.pass(used);
            return Ok(numbers);
        }
        let (numbers, after) = self.long_numbers(low_bits)?;
        *self = after;
        Ok(numbers)
    }

    #[cold]
    #[inline(never)]
    fn long_numbers<const COUNT: usize>(
        mut self,
        low_bits: [u32; COUNT],
    ) -> Result<([u64; COUNT], Self), BitError> {
        let mut numbers = [0; COUNT];
        for (number, low_bits) in numbers.iter_mut().zip(low_bits) {
            *number = self.number(low_bits)?;
        }
        Ok((numbers, self))
    }

    /// Leaves bits of the word behind.
    #[inline(always)]
    fn pass(&mut self, bits: u32) {
        self.word <<= bits;
        self.ready -= bits;
    }

    /// Fills the word: with at least [`WORD_BITS`] bits, or all that are left. It asks not whether that is needed: numbers
    /// have any length, so a processor would often guess wrong. And it reads where the last one ended, which is known
    /// before the length of the number between, so that nothing waits for memory.
    #[inline(always)]
    fn fill(&mut self) {
        match self.bytes.get(self.next..).and_then(<[u8]>::first_chunk) {
            Some(more) => {
                self.word |= u64::from_be_bytes(*more) >> self.ready;
                self.next += ((u64::BITS - 1 - self.ready) / 8) as usize;
                self.ready |= WORD_BITS;
            }
            None => *self = self.filled_at_the_end(),
        }
    }

    #[cold]
    #[inline(never)]
    fn filled_at_the_end(mut self) -> Self {
        while self.ready < WORD_BITS
            && let Some(byte) = self.bytes.get(self.next)
        {
            self.word |= u64::from(*byte) << (WORD_BITS - self.ready);
            self.next += 1;
            self.ready += 8;
        }
        self
    }

    #[cold]
    #[inline(never)]
    fn long_number(mut self, low_bits: u32) -> Result<(u64, Self), BitError> {
        let mut zeros = 0;
        loop {
            self.fill();
            if self.ready == 0 {
                return Err(BitError::Truncated);
            }
            let more = self.word.leading_zeros().min(self.ready);
            let has_one = more < self.ready;
            self.pass(more);
            zeros += more;
            if has_one {
                break;
            }
        }
        let bits = zeros + 1 + low_bits;
        if bits >= u64::BITS - 1 {
            return Err(BitError::TooLarge);
        }
        let number = self.take(bits)? - (1 << low_bits);
        Ok((number, self))
    }

    /// Whether only the zeros that fill the last byte are left.
    pub(super) fn finish(mut self) -> Result<(), BitError> {
        let left = (self.bytes.len() - self.next) * 8 + self.ready as usize;
        if left >= 8 || self.take(left as u32)? != 0 {
            return Err(BitError::Trailing);
        }
        Ok(())
    }
}

/// The numbers that a word begins with, and their bits: nonsense when those are more than the word has.
#[inline(always)]
fn together<const COUNT: usize>(word: u64, low_bits: [u32; COUNT]) -> Option<([u64; COUNT], u32)> {
    // The last bit, which is not one of theirs, makes it a word with a one as long as all fit.
    let (mut word, mut used, mut numbers) = (word | 1, 0, [0; COUNT]);
    for (number, low_bits) in numbers.iter_mut().zip(low_bits) {
        let bits = 2 * NonZeroU64::new(word)?.leading_zeros() + (1 + low_bits);
        *number = word.wrapping_shr(bits.wrapping_neg()).wrapping_sub(1 << low_bits);
        word = word.wrapping_shl(bits);
        used += bits;
    }
    Some((numbers, used))
}

/// The difference that was written as this number.
#[inline(always)]
pub(super) fn difference_of(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in prop::collection::vec((0_u64..=MAX_NUMBER, 0_u32..62, 0_u32..=40), 0..50)) {
            let mut writer = BitWriter::after(Vec::new());
            for &(number, shift, low_bits) in &numbers {
                writer.number(number >> shift, low_bits);
                writer.difference(-((number >> shift >> 1) as i64), low_bits);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::of(&bytes);
            for &(number, shift, low_bits) in &numbers {
                prop_assert_eq!(reader.number(low_bits), Ok(number >> shift));
                prop_assert_eq!(reader.number(low_bits).map(difference_of), Ok(-((number >> shift >> 1) as i64)));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn numbers_are_the_same_together_as_one_by_one(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 0..40),
            low_bits in prop::collection::vec(prop::array::uniform4(0_u32..20), 1..12),
        ) {
            let (mut together, mut one_by_one) = (BitReader::of(&bytes), BitReader::of(&bytes));
            for low_bits in low_bits {
                let numbers = together.numbers(low_bits);
                let each: Result<Vec<u64>, BitError> =
                    low_bits.iter().map(|&low_bits| one_by_one.number(low_bits)).collect();
                prop_assert_eq!(numbers.map(|numbers| numbers.to_vec()), each.clone());
                if each.is_err() {
                    return Ok(());
                }
            }
            prop_assert_eq!(together.finish(), one_by_one.finish());
        }
    }

    #[test]
    fn a_number_beyond_a_word_is_refused() {
        let zeros = [0_u8; 64];
        assert!(BitReader::of(&zeros).number(0) == Err(BitError::Truncated));
        let mut long = vec![0_u8; 12];
        long.extend([0xff; 20]);
        assert!(BitReader::of(&long).number(0) == Err(BitError::TooLarge));
    }

    #[test]
    fn the_end_is_where_it_was_written() {
        let mut writer = BitWriter::after(Vec::new());
        writer.put(0b101, 3);
        let bytes = writer.finish();
        assert_eq!(bytes, [0b1010_0000]);
        let after = |bytes: &[u8]| {
            let mut reader = BitReader::of(bytes);
            reader.take(3).unwrap();
            reader.finish()
        };
        assert_eq!(after(&bytes), Ok(()));
        assert_eq!(after(&[0b1010_0001]), Err(BitError::Trailing));
        assert_eq!(after(&[0b1010_0000, 0]), Err(BitError::Trailing));
    }
}
