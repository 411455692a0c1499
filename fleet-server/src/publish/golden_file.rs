//! Golden vectors as engineers bring them: `.npz` with arrays `inputs/<name>` and `outputs/<name>`, or safetensors.

use std::{collections::BTreeMap, io::Cursor};

use bytes::Bytes;
use muster_engine::{Golden, InvalidTensor, Tensor};
use ndarray::{IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpyError, ReadNpzError, ReadableElement};
use shared::manifest::{DataType, TensorSpec};

/// A zip file starts with these bytes; safetensors starts with a small number.
const ZIP: &[u8] = b"PK";

/// Reads golden vectors out of either format.
pub(super) fn read(file: &Bytes) -> Result<Golden, String> {
    if file.starts_with(ZIP) {
        return read_npz(file);
    }
    Golden::read(file).map_err(|error| format!("{error}; give an .npz or .safetensors file"))
}

/// Checks that a reference holds samples of every input of the model: arrays `inputs/<name>` of an `.npz` file whose
/// first axis counts the samples.
pub(super) fn check_reference(file: &Bytes, inputs: &[TensorSpec]) -> Result<(), String> {
    let (arrays, outputs) = read_sides(file)?;
    if let Some(name) = outputs.keys().next() {
        return Err(format!("array 'outputs/{name}': a reference holds inputs only"));
    }
    if let Some(name) = arrays.keys().find(|name| inputs.iter().all(|spec| spec.name != **name)) {
        return Err(format!("array 'inputs/{name}': the model has no such input"));
    }
    let rows = arrays.values().next().and_then(|array| array.shape().first().copied()).unwrap_or(0);
    for spec in inputs {
        let name = &spec.name;
        let array = arrays.get(name).ok_or_else(|| format!("array 'inputs/{name}' is missing"))?;
        let (count, shape) = array.shape().split_first().unwrap_or((&0, &[]));
        if *count == 0 || *count != rows {
            return Err(format!(
                "array 'inputs/{name}' has {count} samples; each input needs the same number"
            ));
        }
        if array.datatype() != spec.datatype || !spec.admits(shape) {
            return Err(format!("array 'inputs/{name}' is {array:?}; each sample must be {spec}"));
        }
    }
    Ok(())
}

fn read_npz(file: &Bytes) -> Result<Golden, String> {
    let (inputs, outputs) = read_sides(file)?;
    Golden::new(inputs, outputs).map_err(|error| error.to_string())
}

type Side = BTreeMap<String, Tensor>;

/// The arrays under `inputs/` and those under `outputs/`.
fn read_sides(file: &Bytes) -> Result<(Side, Side), String> {
    let mut npz = NpzReader::new(Cursor::new(file)).map_err(|error| format!("not an .npz file: {error}"))?;
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
        let tensor = tensor(&mut npz, &name).map_err(|why| format!("array '{plain}': {why}"))?;
        side.insert(short.to_owned(), tensor);
    }
    Ok((inputs, outputs))
}

type Npz<'a> = NpzReader<Cursor<&'a Bytes>>;

/// Tries each element type in turn: the reader tells the type of an array only by refusing the others.
fn tensor(npz: &mut Npz<'_>, name: &str) -> Result<Tensor, String> {
    let readers: [(DataType, Reader); 11] = [
        (DataType::Fp32, |npz, name| bytes(npz, name, f32::to_le_bytes)),
        (DataType::Fp64, |npz, name| bytes(npz, name, f64::to_le_bytes)),
        (DataType::Int64, |npz, name| bytes(npz, name, i64::to_le_bytes)),
        (DataType::Int32, |npz, name| bytes(npz, name, i32::to_le_bytes)),
        (DataType::Int16, |npz, name| bytes(npz, name, i16::to_le_bytes)),
        (DataType::Int8, |npz, name| bytes(npz, name, i8::to_le_bytes)),
        (DataType::Uint8, |npz, name| bytes(npz, name, u8::to_le_bytes)),
        (DataType::Uint16, |npz, name| bytes(npz, name, u16::to_le_bytes)),
        (DataType::Uint32, |npz, name| bytes(npz, name, u32::to_le_bytes)),
        (DataType::Uint64, |npz, name| bytes(npz, name, u64::to_le_bytes)),
        (DataType::Bool, |npz, name| bytes(npz, name, |value: bool| [u8::from(value)])),
    ];
    for (datatype, read) in readers {
        if let Some((shape, data)) = read(npz, name)? {
            return Tensor::new(datatype, shape, data).map_err(|error: InvalidTensor| error.to_string());
        }
    }
    Err("an element type that is not supported; use float32, float64, an integer or bool".into())
}

/// Shape and little-endian bytes of an array.
type Plain = (Vec<u64>, Vec<u8>);

type Reader = fn(&mut Npz<'_>, &str) -> Result<Option<Plain>, String>;

/// An array of `T`; `None` when it is of another type.
fn bytes<T: ReadableElement + Copy, const N: usize>(
    npz: &mut Npz<'_>,
    name: &str,
    write: fn(T) -> [u8; N],
) -> Result<Option<Plain>, String> {
    match npz.by_name::<OwnedRepr<T>, IxDyn>(name) {
        Ok(array) => {
            let shape = array.shape().iter().map(|&length| length as u64).collect();
            // In logical order, whichever way the file stores it.
            Ok(Some((shape, array.iter().flat_map(|&value| write(value)).collect())))
        }
        Err(ReadNpzError::Npy(ReadNpyError::WrongDescriptor(_))) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;
    use ndarray_npy::NpzWriter;

    use super::*;

    fn npz(names: [&str; 2]) -> Bytes {
        let mut writer = NpzWriter::new_compressed(Cursor::new(Vec::new()));
        writer.add_array(names[0], &arr2(&[[1.0_f32, 2.0], [3.0, 4.0]])).unwrap();
        writer.add_array(names[1], &arr2(&[[1_i64], [0]])).unwrap();
        writer.finish().unwrap().into_inner().into()
    }

    #[test]
    fn arrays_become_tensors_of_their_type_and_survive_safetensors() {
        let golden = read(&npz(["inputs/x", "outputs/y"])).unwrap();
        assert_eq!(golden.cases(), 2);
        assert_eq!(golden.outputs(0)[0].1.datatype(), DataType::Int64);
        let written = Bytes::from(golden.write().unwrap());
        assert_eq!(read(&written).unwrap(), golden);
    }

    fn reference(name: &str, rows: usize) -> Bytes {
        let mut writer = NpzWriter::new_compressed(Cursor::new(Vec::new()));
        writer.add_array(name, &ndarray::Array2::<f32>::zeros((rows, 2))).unwrap();
        writer.finish().unwrap().into_inner().into()
    }

    #[test]
    fn a_reference_without_samples_of_every_input_is_refused() {
        let spec: TensorSpec = serde_json::from_value(
            serde_json::json!({"name": "x", "datatype": DataType::Fp32, "shape": [2]}),
        )
        .unwrap();
        let check = |file: &Bytes| check_reference(file, std::slice::from_ref(&spec));
        check(&reference("inputs/x", 3)).unwrap();
        for (file, why) in [
            (reference("inputs/x", 0), "0 samples"),
            (reference("inputs/z", 3), "no such input"),
            (reference("outputs/x", 3), "inputs only"),
            (Bytes::from_static(b"hello"), "not an .npz"),
        ] {
            let error = check(&file).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn an_array_outside_both_sides_is_named() {
        let error = read(&npz(["inputs/x", "y"])).unwrap_err();
        assert!(error.contains("'y'"), "{error}");
    }

    #[test]
    fn bytes_of_no_format_say_which_formats_there_are() {
        assert!(read(&Bytes::from_static(b"hello")).unwrap_err().contains(".npz"));
        assert!(read(&Bytes::from_static(b"PK but broken")).unwrap_err().contains("not an .npz"));
    }
}
