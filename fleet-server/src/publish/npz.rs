//! Arrays of an `.npz` file, as numpy writes it. Names have their side in front: `inputs/<name>`, `outputs/<name>`.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Seek},
    ops::Range,
};

use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpyError, ReadNpzError, ReadableElement};
use shared::manifest::DataType;

/// Whether a file that starts like this is a zip file, of something or of nothing. Safetensors starts with a small number,
/// and a table has a name or a comma in place of the third byte.
pub(super) fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")
}

/// One array, its elements in row-major order.
pub(super) struct Array {
    /// Lengths of its axes.
    pub(super) shape: Vec<u64>,
    /// What is in it.
    pub(super) elements: Box<dyn Elements>,
}

/// Elements of one type.
pub(super) trait Elements {
    fn datatype(&self) -> DataType;
    /// Elements as a tensor holds them, up to the last one.
    fn bytes(&self, range: Range<usize>) -> Vec<u8>;
    /// One element; 64-bit integers beyond 2⁵³ lose their last digits.
    fn number(&self, index: usize) -> f64;
}

/// Arrays by name.
pub(super) type Side = BTreeMap<String, Array>;

struct Typed<T, const N: usize> {
    datatype: DataType,
    values: Vec<T>,
    write: fn(T) -> [u8; N],
    widen: fn(T) -> f64,
}

impl<T: Copy, const N: usize> Elements for Typed<T, N> {
    fn datatype(&self) -> DataType {
        self.datatype
    }

    fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let end = range.end.min(self.values.len());
        let values = self.values.get(range.start..end).unwrap_or_default();
        values.iter().flat_map(|&value| (self.write)(value)).collect()
    }

    fn number(&self, index: usize) -> f64 {
        self.values.get(index).map_or(f64::NAN, |&value| (self.widen)(value))
    }
}

impl fmt::Debug for Array {
    /// Type and shape only: values may be somebody's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.elements.datatype(), self.shape)
    }
}

/// The arrays under `inputs/` and those under `outputs/`.
pub(super) fn read_sides(file: impl Read + Seek) -> Result<(Side, Side), String> {
    let mut npz = NpzReader::new(file).map_err(|error| format!("not an .npz file: {error}"))?;
    let (mut inputs, mut outputs) = (Side::new(), Side::new());
    for name in npz.names().map_err(|error| format!("not an .npz file: {error}"))? {
        let plain = name.strip_suffix(".npy").unwrap_or(&name);
        let (side, short) = match (plain.strip_prefix("inputs/"), plain.strip_prefix("outputs/")) {
            (Some(short), _) => (&mut inputs, short),
            (_, Some(short)) => (&mut outputs, short),
            (None, None) => {
                return Err(format!("array '{plain}' is neither under inputs/ nor under outputs/"));
            }
        };
        let array = array(&mut npz, &name).map_err(|why| format!("array '{plain}': {why}"))?;
        side.insert(short.to_owned(), array);
    }
    Ok((inputs, outputs))
}

type Attempt<R> = fn(&mut NpzReader<R>, &str) -> Result<Option<Array>, String>;

/// Tries each element type in turn: the reader tells the type of an array only by refusing the others.
#[allow(clippy::cast_precision_loss)] // said at `number`
fn array<R: Read + Seek>(npz: &mut NpzReader<R>, name: &str) -> Result<Array, String> {
    let attempts: [Attempt<R>; 11] = [
        |npz, name| typed(npz, name, DataType::Fp32, f32::to_le_bytes, f64::from),
        |npz, name| typed(npz, name, DataType::Fp64, f64::to_le_bytes, |value| value),
        |npz, name| typed(npz, name, DataType::Int64, i64::to_le_bytes, |value| value as f64),
        |npz, name| typed(npz, name, DataType::Int32, i32::to_le_bytes, f64::from),
        |npz, name| typed(npz, name, DataType::Int16, i16::to_le_bytes, f64::from),
        |npz, name| typed(npz, name, DataType::Int8, i8::to_le_bytes, f64::from),
        |npz, name| typed(npz, name, DataType::Uint8, u8::to_le_bytes, f64::from),
        |npz, name| typed(npz, name, DataType::Uint16, u16::to_le_bytes, f64::from),
        |npz, name| typed(npz, name, DataType::Uint32, u32::to_le_bytes, f64::from),
        |npz, name| typed(npz, name, DataType::Uint64, u64::to_le_bytes, |value| value as f64),
        |npz, name| typed(npz, name, DataType::Bool, |value: bool| [u8::from(value)], f64::from),
    ];
    for attempt in attempts {
        if let Some(array) = attempt(npz, name)? {
            return Ok(array);
        }
    }
    Err("an element type that is not supported; use float32, float64, an integer or bool".into())
}

/// An array of `T`; `None` when it is of another type.
fn typed<R: Read + Seek, T: ReadableElement + Copy + 'static, const N: usize>(
    npz: &mut NpzReader<R>,
    name: &str,
    datatype: DataType,
    write: fn(T) -> [u8; N],
    widen: fn(T) -> f64,
) -> Result<Option<Array>, String> {
    match npz.by_name::<OwnedRepr<T>, IxDyn>(name) {
        Ok(array) => {
            let shape = array.shape().iter().map(|&length| length as u64).collect();
            let elements = Typed { datatype, values: in_order(array), write, widen };
            Ok(Some(Array { shape, elements: Box::new(elements) }))
        }
        Err(ReadNpzError::Npy(ReadNpyError::WrongDescriptor(_))) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// In logical order, whichever way the file stores it; without a copy where that is the usual one.
fn in_order<T: Copy>(array: ArrayD<T>) -> Vec<T> {
    if array.is_standard_layout() {
        return array.into_raw_vec_and_offset().0;
    }
    array.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ndarray::{Array2, ShapeBuilder, arr2};
    use ndarray_npy::NpzWriter;

    use super::*;

    #[test]
    fn columns_that_numpy_stores_first_come_in_order_of_rows() {
        let turned = Array2::from_shape_vec((2, 3).f(), vec![1_i16, 4, 2, 5, 3, 6]).unwrap();
        let mut writer = NpzWriter::new(Cursor::new(Vec::new()));
        writer.add_array("inputs/x", &turned).unwrap();
        writer.add_array("outputs/y", &arr2(&[[true, false]])).unwrap();
        let (inputs, outputs) = read_sides(Cursor::new(writer.finish().unwrap().into_inner())).unwrap();
        let x = &inputs["x"];
        assert_eq!(x.elements.bytes(1..4), [2, 0, 3, 0, 4, 0]);
        assert_eq!((x.shape.as_slice(), x.elements.number(5)), ([2, 3].as_slice(), 6.0));
        assert_eq!(
            (outputs["y"].elements.datatype(), outputs["y"].elements.bytes(0..9)),
            (DataType::Bool, vec![1, 0])
        );
    }

    #[test]
    fn an_archive_of_nothing_is_an_archive() {
        let empty = NpzWriter::new(Cursor::new(Vec::new())).finish().unwrap().into_inner();
        assert!(is_zip(&empty) && !is_zip(b"PK,age\n"));
        let (inputs, outputs) = read_sides(Cursor::new(empty)).unwrap();
        assert!(inputs.is_empty() && outputs.is_empty());
    }
}
