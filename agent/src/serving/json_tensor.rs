//! Tensor data as JSON: flat or nested going in, flat going out.

use std::fmt;

use muster_engine::Tensor;
use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor},
};
use shared::manifest::DataType;

/// Reads numbers or truth values in row-major order, however they are nested. The caller compares their number
/// with the shape.
pub(super) fn read(json: &str, datatype: DataType) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Elements { datatype, bytes: &mut bytes }
        .deserialize(&mut deserializer)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Appends one element, or the elements of one array.
struct Elements<'a> {
    datatype: DataType,
    bytes: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {} elements", self.datatype)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { datatype, bytes } = self;
        while seq.next_element_seed(Elements { datatype, bytes: &mut *bytes })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.datatype != DataType::Bool {
            return Err(E::custom(format!("{value} is not a {} element", self.datatype)));
        }
        self.bytes.push(value.into());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.float(value)
    }
}

impl Elements<'_> {
    #[allow(clippy::cast_precision_loss)] // what a caller sends as an integer for a float is rounded to a float
    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let outside = |_| E::custom(format!("{value} does not fit {}", self.datatype));
        match self.datatype {
            DataType::Bool => match value {
                0 | 1 => self.bytes.push(u8::from(value == 1)),
                _ => return Err(E::custom(format!("{value} is not a BOOL"))),
            },
            DataType::Uint8 => self.bytes.extend(u8::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Uint16 => self.bytes.extend(u16::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Uint32 => self.bytes.extend(u32::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Uint64 => self.bytes.extend(u64::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Int8 => self.bytes.extend(i8::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Int16 => self.bytes.extend(i16::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Int32 => self.bytes.extend(i32::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Int64 => self.bytes.extend(i64::try_from(value).map_err(outside)?.to_le_bytes()),
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
                return self.float(value as f64);
            }
        }
        Ok(())
    }

    #[allow(clippy::cast_possible_truncation)] // rounding to FP32 is meant; what overflows is refused
    fn float<E: Error>(self, value: f64) -> Result<(), E> {
        match self.datatype {
            DataType::Fp32 if (value as f32).is_finite() => self.bytes.extend((value as f32).to_le_bytes()),
            DataType::Fp64 => self.bytes.extend(value.to_le_bytes()),
            _ => return Err(E::custom(format!("{value} does not fit {}", self.datatype))),
        }
        Ok(())
    }
}

/// A tensor's elements as a flat array. FP16, BF16 and values that are not finite have no form in JSON; the
/// first two are refused before, the last by the checks of every output.
pub(super) struct Data<'a>(pub(super) &'a Tensor);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tensor = self.0;
        match tensor.datatype() {
            DataType::Bool => serializer.collect_seq(tensor.map(|[byte]| byte == 1)),
            DataType::Uint8 => serializer.collect_seq(tensor.map(u8::from_le_bytes)),
            DataType::Uint16 => serializer.collect_seq(tensor.map(u16::from_le_bytes)),
            DataType::Uint32 => serializer.collect_seq(tensor.map(u32::from_le_bytes)),
            DataType::Uint64 => serializer.collect_seq(tensor.map(u64::from_le_bytes)),
            DataType::Int8 => serializer.collect_seq(tensor.map(i8::from_le_bytes)),
            DataType::Int16 => serializer.collect_seq(tensor.map(i16::from_le_bytes)),
            DataType::Int32 => serializer.collect_seq(tensor.map(i32::from_le_bytes)),
            DataType::Int64 => serializer.collect_seq(tensor.map(i64::from_le_bytes)),
            DataType::Fp32 => serializer.collect_seq(tensor.map(f32::from_le_bytes)),
            DataType::Fp64 => serializer.collect_seq(tensor.map(f64::from_le_bytes)),
            DataType::Fp16 | DataType::Bf16 => serializer.collect_seq(tensor.to_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_flat_arrays_are_the_same() {
        let flat = read("[1, 2.5, 3, -4]", DataType::Fp32).unwrap();
        assert_eq!(read("[[1, 2.5], [3, -4]]", DataType::Fp32).unwrap(), flat);
        assert_eq!(flat.len(), 16);
    }

    #[test]
    fn a_number_outside_its_type_is_refused() {
        for (json, datatype) in [
            ("[256]", DataType::Uint8),
            ("[-1]", DataType::Uint64),
            ("[1.5]", DataType::Int32),
            ("[1e39]", DataType::Fp32),
            ("[true]", DataType::Fp32),
            ("[\"NaN\"]", DataType::Fp32),
            ("[null]", DataType::Fp64),
        ] {
            assert!(read(json, datatype).is_err(), "{json} as {datatype}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_full_stack() {
        assert!(read(&"[".repeat(100_000), DataType::Fp32).is_err());
    }

    #[test]
    fn numbers_survive_their_json() {
        let tensor = Tensor::from_f32(vec![2], &[0.1, 16_777_216.0]).unwrap();
        let json = serde_json::to_string(&Data(&tensor)).unwrap();
        assert_eq!(read(&json, DataType::Fp32).unwrap(), *tensor.data());
    }
}
