//! A sample as an `.npz` file: arrays `inputs/<name>` whose first axis counts the cases. The others are the shape of the
//! input, without its first axis where that is variable or one long, if the publisher likes.
//!
//! Arrays may be of another type than the input where that holds their numbers: FP64 of a data frame is rounded to FP32,
//! pixels of one byte become FP32 and take a quarter of the space.

use std::io::{Read, Seek};

use muster_engine::Tensor;
use shared::manifest::{DataType, Dim, TensorSpec};

use super::{Column, Sample, encode::encode};
use crate::publish::npz::{self, Array, Elements};

struct ArrayColumn {
    elements: Box<dyn Elements>,
    /// Of one case, as the input wants it.
    shape: Vec<u64>,
    /// Elements of one case.
    length: usize,
    datatype: DataType,
}

impl Column for ArrayColumn {
    fn case(&self, index: usize) -> Result<Tensor, String> {
        let range = index * self.length..(index + 1) * self.length;
        let bytes = if self.elements.datatype() == self.datatype {
            self.elements.bytes(range)
        } else {
            let mut bytes = Vec::with_capacity(self.length * self.datatype.size_bytes());
            for place in range {
                let number = self.elements.number(place);
                if !encode(number, self.datatype, &mut bytes) {
                    return Err(format!("{number} cannot be {}", self.datatype));
                }
            }
            bytes
        };
        Tensor::new(self.datatype, self.shape.clone(), bytes).map_err(|error| error.to_string())
    }
}

pub(super) fn read(file: impl Read + Seek, inputs: &[TensorSpec]) -> Result<Sample, String> {
    let (mut arrays, outputs) = npz::read_sides(file)?;
    if let Some(name) = outputs.keys().next() {
        return Err(format!("array 'outputs/{name}': a reference holds inputs only"));
    }
    if let Some(name) = arrays.keys().find(|name| inputs.iter().all(|spec| spec.name != **name)) {
        return Err(format!("array 'inputs/{name}': the model has no such input"));
    }
    let cases = arrays.values().next().and_then(|array| array.shape.first().copied()).unwrap_or(0);
    let mut columns = Vec::new();
    for spec in inputs {
        let name = &spec.name;
        let array = arrays.remove(name).ok_or_else(|| format!("array 'inputs/{name}' is missing"))?;
        let column = column(array, spec, cases).map_err(|why| format!("array 'inputs/{name}' {why}"))?;
        columns.push((name.clone(), Box::new(column) as Box<dyn Column>));
    }
    let cases = usize::try_from(cases).map_err(|_| "more cases than memory".to_owned())?;
    Ok(Sample { cases, columns, header: None })
}

fn column(array: Array, spec: &TensorSpec, cases: u64) -> Result<ArrayColumn, String> {
    let (count, axes) = array.shape.split_first().unwrap_or((&0, &[]));
    if *count == 0 || *count != cases {
        return Err(format!("has {count} cases; each input needs the same number"));
    }
    let shape = shape_of_case(axes, spec).ok_or_else(|| {
        format!("is {array:?}; after its first axis, which counts the cases, it must be as {spec}")
    })?;
    let length = shape.iter().product::<u64>();
    let length = usize::try_from(length).map_err(|_| "is larger than any memory".to_owned())?;
    Ok(ArrayColumn { elements: array.elements, shape, length, datatype: spec.datatype })
}

/// The shape of a case, with the first axis put back where it was left out.
fn shape_of_case(axes: &[u64], spec: &TensorSpec) -> Option<Vec<u64>> {
    if spec.admits(axes) {
        return Some(axes.to_vec());
    }
    let one = matches!(spec.shape.first(), Some(Dim::Symbol(_) | Dim::Fixed(1)));
    let whole: Vec<u64> = std::iter::once(1).chain(axes.iter().copied()).collect();
    (one && spec.admits(&whole)).then_some(whole)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ndarray::{Array2, Array3, arr2};
    use ndarray_npy::{NpzWriter, WriteNpyExt};
    use serde_json::json;

    use super::*;

    fn spec(datatype: &str, shape: &serde_json::Value) -> TensorSpec {
        serde_json::from_value(json!({"name": "x", "datatype": datatype, "shape": shape})).unwrap()
    }

    fn file(name: &str, array: &impl WriteNpyExt) -> Cursor<Vec<u8>> {
        let mut writer = NpzWriter::new_compressed(Cursor::new(Vec::new()));
        writer.add_array(name, array).unwrap();
        Cursor::new(writer.finish().unwrap().into_inner())
    }

    fn sample(array: &impl WriteNpyExt, spec: &TensorSpec) -> Result<Sample, String> {
        read(file("inputs/x", array), std::slice::from_ref(spec))
    }

    fn zeros(rows: usize) -> Array2<f32> {
        Array2::zeros((rows, 2))
    }

    #[test]
    fn a_sample_without_cases_of_every_input_is_refused() {
        let spec = spec("FP32", &json!([2]));
        assert_eq!(sample(&zeros(3), &spec).unwrap().cases(), 3);
        for (file, why) in [
            (file("inputs/x", &zeros(0)), "0 cases"),
            (file("inputs/z", &zeros(3)), "no such input"),
            (file("outputs/x", &zeros(3)), "inputs only"),
            (file("inputs/x", &Array3::<f32>::zeros((3, 2, 2))), "must be as x FP32 [2]"),
            (Cursor::new(b"hello".to_vec()), "not an .npz"),
        ] {
            let error = read(file, std::slice::from_ref(&spec)).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_axis_of_the_batch_may_be_left_out() {
        for shape in [json!(["N", 2]), json!([1, 2])] {
            let spec = spec("FP32", &shape);
            let short = sample(&arr2(&[[1.0_f32, 2.0], [3.0, 4.0]]), &spec).unwrap();
            let whole =
                sample(&Array3::from_shape_vec((2, 1, 2), vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap(), &spec);
            let expected = Tensor::from_f32(vec![1, 2], &[3.0, 4.0]).unwrap();
            for sample in [short, whole.unwrap()] {
                assert_eq!(sample.case(1).unwrap(), [("x".to_owned(), expected.clone())]);
            }
        }
    }

    #[test]
    fn numbers_of_another_type_are_taken_where_they_fit() {
        let pixels = sample(&arr2(&[[7_u8, 255]]), &spec("FP32", &json!([2]))).unwrap();
        assert_eq!(pixels.case(0).unwrap()[0].1.to_f64(), [7.0, 255.0]);
        let frame = sample(&arr2(&[[0.1_f64, f64::NAN]]), &spec("FP32", &json!([2]))).unwrap();
        assert_eq!(frame.case(0).unwrap()[0].1.to_f64()[0], f64::from(0.1_f32));
        let codes = sample(&arr2(&[[1.0_f64, 2.0], [3.0, 4.5]]), &spec("INT64", &json!([2]))).unwrap();
        codes.case(0).unwrap();
        let error = codes.case(1).unwrap_err();
        assert_eq!(error, "input 'x', case 1: 4.5 cannot be INT64");
    }
}
