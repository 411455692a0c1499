//! The id of a reference, and the hash that makes it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::ReferenceError;

/// What tells one reference from any other: FNV-1a of 128 bits over its content, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReferenceId(u128);

impl ReferenceId {
    /// The id as a number.
    #[must_use]
    pub fn get(self) -> u128 {
        self.0
    }
}

impl From<u128> for ReferenceId {
    fn from(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ReferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReferenceId({self})")
    }
}

impl FromStr for ReferenceId {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // One form only: `from_str_radix` would take a sign, capitals and short numbers too.
        let is_canonical =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u128::from_str_radix(text, 16) {
            Ok(number) if is_canonical => Ok(Self(number)),
            _ => Err(ReferenceError::BadId { text: text.chars().take(40).collect() }),
        }
    }
}

impl TryFrom<String> for ReferenceId {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ReferenceId> for String {
    fn from(id: ReferenceId) -> Self {
        id.to_string()
    }
}

/// FNV-1a with 128 bits. Numbers go in as eight bytes, little end first; texts with their length in front.
pub(super) struct Fnv1a(u128);

impl Fnv1a {
    pub(super) fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    pub(super) fn numbers(&mut self, numbers: &[u64]) {
        self.number(numbers.len() as u64);
        numbers.iter().for_each(|&number| self.number(number));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    pub(super) fn finish(self) -> ReferenceId {
        ReferenceId(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> String {
        let mut hash = Fnv1a::new();
        hash.bytes(text.as_bytes());
        hash.finish().to_string()
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hash("a"), "d228cb696f1a8caf78912b704e4a8964");
        assert_eq!(hash("foobar"), "343e1662793c64bf6f0d3597ba446f18");
    }

    #[test]
    fn an_id_has_one_written_form() {
        let id = ReferenceId(7);
        assert_eq!(id.to_string().parse::<ReferenceId>().unwrap(), id);
        for text in ["7", "+0000000000000000000000000000007", "0000000000000000000000000000000G", "é"] {
            assert!(text.parse::<ReferenceId>().is_err(), "{text}");
        }
        assert!("0000000000000000000000000000000A".parse::<ReferenceId>().is_err());
    }
}
