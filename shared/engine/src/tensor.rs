//! Our own tensor: type, shape and bytes, in the byte order of the wire and of the files.
//!
//! A tensor that exists is well formed: its bytes are as many as type and shape ask for, and a BOOL is 0 or 1.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use shared::manifest::DataType;
use thiserror::Error;

/// Most axes of a tensor; the deepest layouts in use have eight.
pub const MAX_RANK: usize = 16;

/// Row-major, little-endian, without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    datatype: DataType,
    shape: Vec<u64>,
    data: Bytes,
}

/// Why type, shape and bytes do not make a tensor.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidTensor {
    /// More axes than [`MAX_RANK`].
    #[error("a shape of {0} axes; allowed are up to {MAX_RANK}")]
    Rank(usize),
    /// The shape's product does not fit the address space.
    #[error("the shape {0:?} is larger than any memory")]
    Overflow(Vec<u64>),
    /// The bytes do not fit type and shape.
    #[error("{found} bytes of data where {datatype} {shape:?} needs {expected}")]
    Length {
        /// Element type.
        datatype: DataType,
        /// Shape.
        shape: Vec<u64>,
        /// What they need.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// A BOOL byte other than 0 and 1.
    #[error("a BOOL element is {0}; only 0 and 1 are allowed")]
    Bool(u8),
}

impl Tensor {
    /// A tensor of these bytes.
    ///
    /// # Errors
    /// When the bytes do not fit type and shape.
    pub fn new(datatype: DataType, shape: Vec<u64>, data: impl Into<Bytes>) -> Result<Self, InvalidTensor> {
        let data = data.into();
        let expected = size_bytes(datatype, &shape)?;
        if data.len() != expected {
            return Err(InvalidTensor::Length { datatype, shape, expected, found: data.len() });
        }
        if datatype == DataType::Bool
            && let Some(&wrong) = data.iter().find(|&&byte| byte > 1)
        {
            return Err(InvalidTensor::Bool(wrong));
        }
        Ok(Self { datatype, shape, data })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// When the shape is larger than any memory.
    pub fn zeros(datatype: DataType, shape: Vec<u64>) -> Result<Self, InvalidTensor> {
        let length = size_bytes(datatype, &shape)?;
        Self::new(datatype, shape, vec![0; length])
    }

    /// An FP32 tensor.
    ///
    /// # Errors
    /// When the values are not as many as the shape asks for.
    pub fn from_f32(shape: Vec<u64>, values: &[f32]) -> Result<Self, InvalidTensor> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(DataType::Fp32, shape, data)
    }

    /// Element type.
    #[must_use]
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// Shape, outermost axis first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The bytes.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() / self.datatype.size_bytes()
    }

    /// True when an axis is zero long.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Every element as an FP64; 64-bit integers beyond 2⁵³ lose their last digits.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // said above
    pub fn to_f64(&self) -> Vec<f64> {
        match self.datatype {
            DataType::Bool | DataType::Uint8 => self.map(|[b]| f64::from(b)),
            DataType::Uint16 => self.map(|b| f64::from(u16::from_le_bytes(b))),
            DataType::Uint32 => self.map(|b| f64::from(u32::from_le_bytes(b))),
            DataType::Uint64 => self.map(|b| u64::from_le_bytes(b) as f64),
            DataType::Int8 => self.map(|b| f64::from(i8::from_le_bytes(b))),
            DataType::Int16 => self.map(|b| f64::from(i16::from_le_bytes(b))),
            DataType::Int32 => self.map(|b| f64::from(i32::from_le_bytes(b))),
            DataType::Int64 => self.map(|b| i64::from_le_bytes(b) as f64),
            DataType::Fp16 => self.map(|b| f16::from_le_bytes(b).to_f64()),
            DataType::Bf16 => self.map(|b| bf16::from_le_bytes(b).to_f64()),
            DataType::Fp32 => self.map(|b| f64::from(f32::from_le_bytes(b))),
            DataType::Fp64 => self.map(f64::from_le_bytes),
        }
    }

    /// Every element through `read`, which gets its bytes. `N` must be the size of the element type: elements
    /// of another size give a list of the wrong length.
    #[must_use]
    pub fn map<const N: usize, T>(&self, read: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
    }

    /// True when no element is NaN or infinite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let all = |finite: Vec<bool>| finite.into_iter().all(|finite| finite);
        match self.datatype {
            DataType::Fp16 => all(self.map(|b| f16::from_le_bytes(b).is_finite())),
            DataType::Bf16 => all(self.map(|b| bf16::from_le_bytes(b).is_finite())),
            DataType::Fp32 => all(self.map(|b| f32::from_le_bytes(b).is_finite())),
            DataType::Fp64 => all(self.map(|b| f64::from_le_bytes(b).is_finite())),
            _ => true,
        }
    }

    /// Element `index` of the outermost axis; shares the bytes. `None` past the end.
    #[must_use]
    pub fn nth(&self, index: u64) -> Option<Self> {
        let (&count, shape) = self.shape.split_first()?;
        if index >= count {
            return None;
        }
        let step = self.data.len() / usize::try_from(count).ok()?;
        let start = step * usize::try_from(index).ok()?;
        Some(Self {
            datatype: self.datatype,
            shape: shape.to_vec(),
            data: self.data.slice(start..start + step),
        })
    }
}

impl fmt::Debug for Tensor {
    /// Type and shape only: values may be somebody's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.datatype, self.shape)
    }
}

fn size_bytes(datatype: DataType, shape: &[u64]) -> Result<usize, InvalidTensor> {
    if shape.len() > MAX_RANK {
        return Err(InvalidTensor::Rank(shape.len()));
    }
    let size = u64::try_from(datatype.size_bytes()).ok();
    shape
        .iter()
        .fold(size, |product, &dim| product?.checked_mul(dim))
        .and_then(|bytes| isize::try_from(bytes).ok())
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| InvalidTensor::Overflow(shape.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        assert!(matches!(
            Tensor::new(DataType::Fp32, vec![2], vec![0; 7]),
            Err(InvalidTensor::Length { expected: 8, found: 7, .. })
        ));
        let huge = vec![u64::MAX, 0, 2];
        assert!(matches!(Tensor::new(DataType::Fp32, huge, vec![]), Err(InvalidTensor::Overflow(_))));
        assert_eq!(Tensor::new(DataType::Bool, vec![1], vec![2]), Err(InvalidTensor::Bool(2)));
    }

    #[test]
    fn one_nan_makes_a_tensor_not_finite() {
        assert!(Tensor::from_f32(vec![2], &[0.0, 1.0]).unwrap().is_finite());
        assert!(!Tensor::from_f32(vec![2], &[0.0, f32::NAN]).unwrap().is_finite());
        let half: Vec<u8> = f16::INFINITY.to_le_bytes().to_vec();
        assert!(!Tensor::new(DataType::Fp16, vec![], half).unwrap().is_finite());
    }

    #[test]
    fn a_case_shares_the_bytes_of_its_tensor() {
        let all = Tensor::from_f32(vec![2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let second = all.nth(1).unwrap();
        assert_eq!((second.shape(), second.to_f64()), ([3].as_slice(), vec![3.0, 4.0, 5.0]));
        assert!(all.nth(2).is_none());
    }
}
