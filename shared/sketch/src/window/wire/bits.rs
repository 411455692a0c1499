//! Numbers of any length in a stream of bits, the first bit on top.

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
    /// Bits that were read.
    place: usize,
    /// The next ones, on top. Usual numbers are a few bits, so several come from one load.
    word: u64,
    /// How many of them are in the word, fewer than it holds, so that all can be shifted out.
    ready: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, place: 0, word: 0, ready: 0 }
    }

    /// Reads `bits` bits, at most 64.
    pub(super) fn take(&mut self, bits: u32) -> Result<u64, BitError> {
        if bits > WORD_BITS {
            let low = bits - WORD_BITS;
            let high = self.take(WORD_BITS)?;
            return Ok((high << low) | self.take(low)?);
        }
        if bits > self.ready {
            self.load();
            if bits > self.ready {
                return Err(BitError::Truncated);
            }
        }
        // A shift by the whole width is none.
        let value = if bits == 0 { 0 } else { self.word >> (u64::BITS - bits) };
        self.pass(bits);
        Ok(value)
    }

    #[inline]
    pub(super) fn number(&mut self, low_bits: u32) -> Result<u64, BitError> {
        let mut bits = self.length(low_bits);
        if bits > self.ready {
            self.load();
            bits = self.length(low_bits);
            if bits > self.ready {
                let (number, after) = self.long_number(low_bits)?;
                *self = after;
                return Ok(number);
            }
        }
        let coded = self.word >> (u64::BITS - bits);
        self.pass(bits);
        Ok(coded - (1 << low_bits))
    }

    /// Bits of the number that comes next, if it is in the word.
    #[inline]
    fn length(&self, low_bits: u32) -> u32 {
        // What is never zero needs no care in the instruction that old processors have for this, and a word that has its
        // only one at the end has no number.
        2 * (self.word | 1).leading_zeros() + 1 + low_bits
    }

    /// Leaves bits of the word behind.
    #[inline]
    fn pass(&mut self, bits: u32) {
        self.word <<= bits;
        self.ready -= bits;
        self.place += bits as usize;
    }

    /// Fills the word: with at least [`WORD_BITS`] bits, or all that are left.
    #[inline]
    fn load(&mut self) {
        let (byte, bit) = (self.place / 8, (self.place % 8) as u32);
        let (word, bits) = match self.bytes.get(byte..byte + 8).and_then(<[u8]>::first_chunk) {
            Some(word) => (u64::from_be_bytes(*word), u64::BITS),
            None => last_word(self.bytes, byte),
        };
        (self.word, self.ready) = (word << bit, bits.saturating_sub(bit).min(u64::BITS - 1));
    }

    /// Takes and returns the reader, because one that is lent would have to be in memory.
    #[cold]
    fn long_number(mut self, low_bits: u32) -> Result<(u64, Self), BitError> {
        let mut zeros = 0;
        loop {
            self.load();
            let more = self.word.leading_zeros().min(WORD_BITS);
            self.take(more)?;
            zeros += more;
            if more < WORD_BITS {
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

    #[inline]
    pub(super) fn difference(&mut self, low_bits: u32) -> Result<i64, BitError> {
        let number = self.number(low_bits)?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Whether only the zeros that fill the last byte are left.
    pub(super) fn finish(mut self) -> Result<(), BitError> {
        let left = self.bytes.len() * 8 - self.place;
        if left >= 8 || self.take(left as u32)? != 0 {
            return Err(BitError::Trailing);
        }
        Ok(())
    }
}

/// The bytes from `byte` on, fewer than a word, and how many bits they have.
#[cold]
fn last_word(bytes: &[u8], byte: usize) -> (u64, u32) {
    let rest = bytes.get(byte..).unwrap_or_default();
    let mut padded = [0; 8];
    padded[..rest.len()].copy_from_slice(rest);
    (u64::from_be_bytes(padded), rest.len() as u32 * 8)
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
                prop_assert_eq!(reader.difference(low_bits), Ok(-((number >> shift >> 1) as i64)));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
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
