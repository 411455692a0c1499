//! Golden vectors as engineers bring them: `.npz` with arrays `inputs/<name>` and `outputs/<name>`, or safetensors.

use std::{collections::BTreeMap, io::Cursor};

use bytes::Bytes;
use muster_engine::{Golden, Tensor};

use super::npz::{self, Array, Side};

/// Reads golden vectors out of either format.
pub(super) fn read(file: &Bytes) -> Result<Golden, String> {
    if npz::is_zip(file) {
        return read_npz(file);
    }
    Golden::read(file).map_err(|error| format!("{error}; give an .npz or .safetensors file"))
}

fn read_npz(file: &Bytes) -> Result<Golden, String> {
    let (inputs, outputs) = npz::read_sides(Cursor::new(file))?;
    let (inputs, outputs) = (tensors("inputs", inputs)?, tensors("outputs", outputs)?);
    Golden::new(inputs, outputs).map_err(|error| error.to_string())
}

fn tensors(side: &str, arrays: Side) -> Result<BTreeMap<String, Tensor>, String> {
    let named = |(name, array): (String, Array)| {
        let bytes = array.elements.bytes(0..usize::MAX);
        match Tensor::new(array.elements.datatype(), array.shape, bytes) {
            Ok(tensor) => Ok((name, tensor)),
            Err(error) => Err(format!("array '{side}/{name}': {error}")),
        }
    };
    arrays.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;
    use ndarray_npy::NpzWriter;
    use shared::manifest::DataType;

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

    #[test]
    fn an_array_outside_both_sides_is_named() {
        let error = read(&npz(["inputs/x", "y"])).unwrap_err();
        assert!(error.contains("'y'"), "{error}");
    }

    #[test]
    fn bytes_of_no_format_say_which_formats_there_are() {
        assert!(read(&Bytes::from_static(b"hello")).unwrap_err().contains(".npz"));
        assert!(read(&Bytes::from_static(b"PK\x03\x04 but broken")).unwrap_err().contains("not an .npz"));
    }
}
