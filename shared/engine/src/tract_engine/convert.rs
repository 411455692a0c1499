//! Tensors to and from tract. Both sides are row-major and little-endian, so it is one copy each way.

use shared::manifest::DataType;
use tract_onnx::{
    prelude::{DatumType, IntoTValue, IntoTensor, TValue, TractResult},
    tract_core::internal::bail,
};

use crate::{
    engine::{EngineError, cut},
    tensor::Tensor,
};

pub(super) fn datum_type(datatype: DataType) -> TractResult<DatumType> {
    Ok(match datatype {
        DataType::Bool => DatumType::Bool,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp16 => DatumType::F16,
        DataType::Fp32 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bf16 => bail!("tract has no BF16; export the model with FP16 or FP32 inputs and outputs"),
    })
}

fn data_type(datum_type: DatumType) -> Option<DataType> {
    Some(match datum_type.unquantized() {
        DatumType::Bool => DataType::Bool,
        DatumType::U8 => DataType::Uint8,
        DatumType::U16 => DataType::Uint16,
        DatumType::U32 => DataType::Uint32,
        DatumType::U64 => DataType::Uint64,
        DatumType::I8 => DataType::Int8,
        DatumType::I16 => DataType::Int16,
        DatumType::I32 => DataType::Int32,
        // tract's symbolic dimension, which is what it makes of an ONNX `Shape`.
        DatumType::I64 | DatumType::TDim => DataType::Int64,
        DatumType::F16 => DataType::Fp16,
        DatumType::F32 => DataType::Fp32,
        DatumType::F64 => DataType::Fp64,
        _ => return None,
    })
}

pub(super) fn to_tract(tensor: &Tensor) -> TractResult<TValue> {
    let shape: Vec<usize> =
        tensor.shape().iter().map(|&length| usize::try_from(length)).collect::<Result<_, _>>()?;
    let mut value = tract_onnx::prelude::Tensor::zero_dt(datum_type(tensor.datatype())?, &shape)?;
    // Lengths are equal because a `Tensor` checks its own; a BOOL holds 0 and 1 only.
    if !tensor.is_empty() {
        value.as_bytes_mut().copy_from_slice(tensor.data());
    }
    Ok(value.into_tvalue())
}

pub(super) fn from_tract(value: &TValue) -> Result<Tensor, EngineError> {
    let wrong = |detail: String| EngineError::Run(cut(&detail));
    let Some(datatype) = data_type(value.datum_type()) else {
        return Err(wrong(format!("an output has the type {:?}, which cannot be sent", value.datum_type())));
    };
    let shape = value.shape().iter().map(|&length| length as u64).collect();
    let plain = if value.datum_type() == DatumType::TDim {
        value.cast_to_dt(DatumType::I64).map_err(|error| wrong(format!("{error:#}")))?.into_owned()
    } else {
        value.clone().into_tensor()
    };
    if !plain.is_plain_ram() {
        return Err(wrong("an output is packed in a way of the engine's own".into()));
    }
    let bytes = if plain.len() == 0 { Vec::new() } else { plain.as_bytes().to_vec() };
    Tensor::new(datatype, shape, bytes).map_err(|error| wrong(error.to_string()))
}
