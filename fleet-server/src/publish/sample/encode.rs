//! Numbers of a sample in the element type of the model's input.

use half::{bf16, f16};
use shared::manifest::DataType;

/// Whole numbers up to here are exact in an FP64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Puts the bytes of a number of this type into `into`. False, and nothing is put there, when the type does not hold it:
/// fractions, NaN and what is out of range in whole numbers. Floating point numbers are rounded, as in any program that
/// feeds the model.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked, or rounding is meant
pub(super) fn encode(number: f64, datatype: DataType, into: &mut Vec<u8>) -> bool {
    let whole = |least: f64, most: f64| number.fract() == 0.0 && (least..=most).contains(&number);
    match datatype {
        DataType::Fp64 => into.extend(number.to_le_bytes()),
        DataType::Fp32 => into.extend((number as f32).to_le_bytes()),
        DataType::Fp16 => into.extend(f16::from_f64(number).to_le_bytes()),
        DataType::Bf16 => into.extend(bf16::from_f64(number).to_le_bytes()),
        DataType::Bool if whole(0.0, 1.0) => into.push(number as u8),
        DataType::Uint8 if whole(0.0, u8::MAX.into()) => into.push(number as u8),
        DataType::Uint16 if whole(0.0, u16::MAX.into()) => into.extend((number as u16).to_le_bytes()),
        DataType::Uint32 if whole(0.0, u32::MAX.into()) => into.extend((number as u32).to_le_bytes()),
        DataType::Uint64 if whole(0.0, EXACT) => into.extend((number as u64).to_le_bytes()),
        DataType::Int8 if whole(i8::MIN.into(), i8::MAX.into()) => into.extend((number as i8).to_le_bytes()),
        DataType::Int16 if whole(i16::MIN.into(), i16::MAX.into()) => {
            into.extend((number as i16).to_le_bytes());
        }
        DataType::Int32 if whole(i32::MIN.into(), i32::MAX.into()) => {
            into.extend((number as i32).to_le_bytes());
        }
        DataType::Int64 if whole(-EXACT, EXACT) => into.extend((number as i64).to_le_bytes()),
        DataType::Bool
        | DataType::Uint8
        | DataType::Uint16
        | DataType::Uint32
        | DataType::Uint64
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64 => return false,
    }
    true
}

/// Whether the type has NaN, which is how a missing value is told to a model.
pub(super) fn has_nan(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(number: f64, datatype: DataType) -> Option<Vec<u8>> {
        let mut bytes = vec![];
        encode(number, datatype, &mut bytes).then_some(bytes)
    }

    #[test]
    fn numbers_become_the_bytes_of_their_type() {
        assert_eq!(encoded(-2.0, DataType::Int16), Some(vec![0xfe, 0xff]));
        assert_eq!(encoded(255.0, DataType::Uint8), Some(vec![255]));
        assert_eq!(encoded(0.1, DataType::Fp32), Some(0.1_f32.to_le_bytes().to_vec()));
        assert_eq!(encoded(1.5, DataType::Fp16), Some(f16::from_f32(1.5).to_le_bytes().to_vec()));
        assert_eq!(encoded(-0.0, DataType::Bool), Some(vec![0]));
    }

    #[test]
    fn a_type_that_cannot_hold_a_number_refuses_it() {
        let wrong = [
            (256.0, DataType::Uint8),
            (-1.0, DataType::Uint64),
            (0.5, DataType::Int64),
            (f64::NAN, DataType::Int32),
            (f64::INFINITY, DataType::Int64),
            (2.0, DataType::Bool),
            (1e18, DataType::Int64),
        ];
        for (number, datatype) in wrong {
            assert_eq!(encoded(number, datatype), None, "{number} {datatype}");
        }
    }
}
