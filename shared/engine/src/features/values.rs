//! The elements of one row of a tensor as numbers.

use std::collections::BTreeMap;

use half::{bf16, f16};
use shared::manifest::DataType;

use crate::tensor::Tensor;

/// One row: its bytes and what they are.
pub(super) struct Values<'a> {
    datatype: DataType,
    bytes: &'a [u8],
}

/// A value that names a category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// There is no value, or it is NaN.
    Missing,
    /// A value that is no whole number of 64 bits.
    None,
    /// This category.
    Whole(i64),
}

impl<'a> Values<'a> {
    /// Row number `row` of `rows`. `None` where this tensor has no such row.
    pub(super) fn of_row(tensor: &'a Tensor, batched: bool, row: usize, rows: usize) -> Option<Self> {
        let (datatype, bytes) = (tensor.datatype(), tensor.data().as_ref());
        let entries = tensor.shape().first().and_then(|&first| usize::try_from(first).ok());
        if batched && entries == Some(rows) {
            let length = bytes.len().checked_div(rows)?;
            return Some(Self { datatype, bytes: bytes.get(row * length..(row + 1) * length)? });
        }
        (rows == 1 && row == 0).then_some(Self { datatype, bytes })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.datatype.size_bytes()
    }

    /// An element, rounded to the nearest FP32.
    pub(super) fn at(&self, index: usize) -> Option<f32> {
        match self.datatype {
            DataType::Fp32 => self.get(index).map(f32::from_le_bytes),
            #[allow(clippy::cast_possible_truncation)] // rounding is meant
            _ => self.number(index).map(|number| number as f32),
        }
    }

    /// All elements.
    pub(super) fn all(&self) -> Vec<f32> {
        let mut values = Vec::new();
        self.part(0, self.len(), &mut values);
        values
    }

    /// Puts `length` elements from `start` on into `into`, or as many as there are.
    pub(super) fn part(&self, start: usize, length: usize, into: &mut Vec<f32>) {
        into.clear();
        // One loop for each type, so that the compiler makes vector instructions of those that images come in.
        match self.datatype {
            DataType::Fp32 => {
                into.extend(self.some::<4>(start, length).iter().map(|b| f32::from_le_bytes(*b)))
            }
            DataType::Bool | DataType::Uint8 => {
                into.extend(self.some::<1>(start, length).iter().map(|[byte]| f32::from(*byte)));
            }
            DataType::Int8 => {
                into.extend(self.some::<1>(start, length).iter().map(|b| f32::from(i8::from_le_bytes(*b))));
            }
            DataType::Uint16 => {
                into.extend(self.some::<2>(start, length).iter().map(|b| f32::from(u16::from_le_bytes(*b))));
            }
            DataType::Fp16 => {
                into.extend(self.some::<2>(start, length).iter().map(|b| f16::from_le_bytes(*b).to_f32()));
            }
            DataType::Bf16 => {
                into.extend(self.some::<2>(start, length).iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
            }
            DataType::Int16
            | DataType::Int32
            | DataType::Uint32
            | DataType::Int64
            | DataType::Uint64
            | DataType::Fp64 => {
                let end = start.saturating_add(length).min(self.len());
                into.extend((start..end).map(|index| self.at(index).unwrap_or(f32::NAN)));
            }
        }
    }

    /// The bytes of `length` elements from `start` on, or of as many as there are.
    fn some<const N: usize>(&self, start: usize, length: usize) -> &[[u8; N]] {
        let all = self.bytes.as_chunks::<N>().0;
        let end = start.saturating_add(length).min(all.len());
        all.get(start..end).unwrap_or_default()
    }

    /// The place of a whole number among `places`; beyond the last where it has none. Nothing where a value is missing.
    pub(super) fn place(&self, index: usize, places: &BTreeMap<i64, usize>) -> Option<usize> {
        let found = match self.code(index) {
            Code::Missing => return None,
            Code::None => None,
            Code::Whole(code) => places.get(&code).copied(),
        };
        Some(found.unwrap_or(places.len()))
    }

    pub(super) fn code(&self, index: usize) -> Code {
        let whole = match self.datatype {
            DataType::Int64 => self.get(index).map(|bytes| Some(i64::from_le_bytes(bytes))),
            DataType::Uint64 => self.get(index).map(|bytes| i64::try_from(u64::from_le_bytes(bytes)).ok()),
            _ => self.number(index).filter(|number| !number.is_nan()).map(whole),
        };
        match whole {
            None => Code::Missing,
            Some(None) => Code::None,
            Some(Some(code)) => Code::Whole(code),
        }
    }

    fn number(&self, index: usize) -> Option<f64> {
        Some(match self.datatype {
            DataType::Bool | DataType::Uint8 => f64::from(self.bytes.get(index).copied()?),
            DataType::Uint16 => f64::from(u16::from_le_bytes(self.get(index)?)),
            DataType::Uint32 => f64::from(u32::from_le_bytes(self.get(index)?)),
            #[allow(clippy::cast_precision_loss)] // the last digits of such numbers make no drift
            DataType::Uint64 => u64::from_le_bytes(self.get(index)?) as f64,
            DataType::Int8 => f64::from(i8::from_le_bytes(self.get(index)?)),
            DataType::Int16 => f64::from(i16::from_le_bytes(self.get(index)?)),
            DataType::Int32 => f64::from(i32::from_le_bytes(self.get(index)?)),
            #[allow(clippy::cast_precision_loss)]
            DataType::Int64 => i64::from_le_bytes(self.get(index)?) as f64,
            DataType::Fp16 => f16::from_le_bytes(self.get(index)?).to_f64(),
            DataType::Bf16 => bf16::from_le_bytes(self.get(index)?).to_f64(),
            DataType::Fp32 => f64::from(f32::from_le_bytes(self.get(index)?)),
            DataType::Fp64 => f64::from_le_bytes(self.get(index)?),
        })
    }

    fn get<const N: usize>(&self, index: usize) -> Option<[u8; N]> {
        self.bytes.as_chunks::<N>().0.get(index).copied()
    }
}

/// A number without a fraction that fits 64 bits.
fn whole(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9.0e18;
    #[allow(clippy::cast_possible_truncation)] // checked here
    (number.fract() == 0.0 && number.abs() < LIMIT).then_some(number as i64)
}
