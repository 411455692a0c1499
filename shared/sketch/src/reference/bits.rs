//! Floats in text to the last bit, infinities included: the base64 of their bytes, little end first.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// For `#[serde(with = "f32s_as_base64")]` on a `Vec<f32>`. JSON has no infinity, and a decimal number is exact only
/// as long as every reader on the way is.
pub(crate) mod f32s_as_base64 {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let (words, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("expected the base64 of 4 bytes for each number"));
        }
        Ok(words.iter().map(|&word| f32::from_le_bytes(word)).collect())
    }
}
