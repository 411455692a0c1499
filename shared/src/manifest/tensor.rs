//! Names, types and shapes of tensors, in the words of the Open Inference Protocol.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Element type, spelled as the Open Inference Protocol v2 spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // the names say it all
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
}

impl DataType {
    /// Bytes of one element.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => 2,
            Self::Uint32 | Self::Int32 | Self::Fp32 => 4,
            Self::Uint64 | Self::Int64 | Self::Fp64 => 8,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
        })
    }
}

/// One axis of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Always this long.
    Fixed(u64),
    /// As long as the caller says; axes with the same symbol agree.
    Symbol(String),
}

impl Dim {
    /// The axis as the Open Inference Protocol writes it: −1 for a variable length.
    #[must_use]
    pub fn oip(&self) -> i64 {
        match self {
            Self::Fixed(length) => i64::try_from(*length).unwrap_or(i64::MAX),
            Self::Symbol(_) => -1,
        }
    }
}

/// Name, element type and shape of one input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub datatype: DataType,
    /// Shape, outermost axis first.
    pub shape: Vec<Dim>,
}

impl TensorSpec {
    /// True when a concrete shape fits: same rank, fixed axes equal.
    #[must_use]
    pub fn admits(&self, shape: &[u64]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(dim, &length)| match dim {
                Dim::Fixed(fixed) => *fixed == length,
                Dim::Symbol(_) => length > 0,
            })
    }
}

impl fmt::Display for TensorSpec {
    /// `image FP32 [1, 1, 8, 8]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [", self.name, self.datatype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match dim {
                Dim::Fixed(length) => write!(f, "{comma}{length}")?,
                Dim::Symbol(symbol) => write!(f, "{comma}{symbol}")?,
            }
        }
        f.write_str("]")
    }
}
