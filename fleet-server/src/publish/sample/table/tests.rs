use serde_json::json;

use super::*;

fn input(name: &str, datatype: &str, shape: &serde_json::Value) -> TensorSpec {
    serde_json::from_value(json!({"name": name, "datatype": datatype, "shape": shape})).unwrap()
}

fn two() -> [TensorSpec; 1] {
    [input("x", "FP32", &json!(["N", 2]))]
}

fn sample(text: &str, inputs: &[TensorSpec]) -> Result<Sample, String> {
    read(text.as_bytes(), inputs, &ElementNames::new())
}

fn refusal(text: &str, inputs: &[TensorSpec]) -> String {
    sample(text, inputs).err().unwrap()
}

fn called(names: &[(&str, u32, &str)]) -> ElementNames {
    names.iter().map(|&(input, index, name)| ((input.to_owned(), index), name.to_owned())).collect()
}

#[test]
fn rows_are_cases_and_columns_elements_in_order() {
    let sample = sample("\u{feff}age, height\n1,2.5\r\n\n\"3\",4e1\n", &two()).unwrap();
    assert_eq!((sample.cases(), sample.header().unwrap().join(",")), (2, "age,height".to_owned()));
    let expected = Tensor::from_f32(vec![1, 2], &[3.0, 40.0]).unwrap();
    assert_eq!(sample.case(1).unwrap(), [("x".to_owned(), expected)]);
}

#[test]
fn an_empty_cell_is_nan_and_whole_numbers_have_none() {
    let numbers = sample("a,b\n,inf\nnan,-1\n", &two()).unwrap();
    let case = |index| numbers.case(index).unwrap().remove(0).1.to_f64();
    assert!(case(0)[0].is_nan() && case(0)[1] == f64::INFINITY);
    assert!(case(1)[0].is_nan() && case(1)[1] == -1.0);
    let codes = [input("x", "INT64", &json!(["N", 2]))];
    let error = refusal("a,b\n1,2\n3,\n", &codes);
    assert!(error.starts_with("line 3, column 'b': it is empty, and INT64"), "{error}");
}

#[test]
fn whole_numbers_of_64_bits_keep_every_digit() {
    let inputs = [input("x", "INT64", &json!(["N", 1]))];
    let sample = sample("id\n9007199254740993\n", &inputs).unwrap();
    assert_eq!(sample.case(0).unwrap()[0].1.map(i64::from_le_bytes), [9_007_199_254_740_993]);
}

#[test]
fn columns_that_the_schema_names_are_found_by_name_in_any_order() {
    let names = called(&[("x", 0, "height"), ("x", 1, "age")]);
    let sample = read("age,height\n7,1.5\n".as_bytes(), &two(), &names).unwrap();
    assert_eq!(sample.case(0).unwrap()[0].1.to_f64(), [1.5, 7.0]);
    assert_eq!(sample.header().unwrap(), ["height", "age"]);
    let error = read("age,weight\n7,1.5\n".as_bytes(), &two(), &names).err().unwrap();
    assert_eq!(error, "the table has no column 'height'");
}

#[test]
fn a_column_that_the_schema_calls_otherwise_is_not_guessed() {
    let names = called(&[("x", 0, "height")]);
    let error = read("age,height\n7,1.5\n".as_bytes(), &two(), &names).err().unwrap();
    assert!(
        error.contains("column 1 of the table is 'age', and the schema calls that element 'height'"),
        "{error}"
    );
}

#[test]
fn several_inputs_of_a_pipeline_are_columns_by_their_names() {
    let inputs = [input("age", "FP32", &json!(["N", 1])), input("smoker", "BOOL", &json!(["N", 1]))];
    let sample = sample("smoker,age\nTrue,40\nfalse,\n", &inputs).unwrap();
    let case = sample.case(0).unwrap();
    assert_eq!((case[0].1.to_f64(), case[1].1.to_f64()), (vec![40.0], vec![1.0]));
    assert!(sample.header().is_none());
    let error = refusal("smoker,years\n1,2\n", &inputs);
    assert_eq!(error, "the table has no column 'age'");
}

#[test]
fn an_image_may_be_a_row_of_pixels() {
    let inputs = [input("image", "UINT8", &json!([1, 1, 2, 2]))];
    let sample = sample("p0,p1,p2,p3\n1,2,3,255\n", &inputs).unwrap();
    assert_eq!(sample.case(0).unwrap()[0].1.shape(), [1, 1, 2, 2]);
}

#[test]
fn mistakes_say_where_and_what_to_do() {
    let long = format!("a,b\n1,{}\n", "9x".repeat(1_000));
    for (text, expected) in [
        ("", "neither an .npz file nor a table"),
        ("1,2\n3,4\n", "line 1 of the table has numbers only"),
        (",a,b\n0,1,2\n", "index=False"),
        ("a;b\n1;2\n", "separate columns by commas"),
        ("a,a\n1,2\n", "two columns are named 'a'"),
        ("a,b,c\n1,2,3\n", "3 columns, and the inputs of the model have 2 elements: leave out the others"),
        ("a\n1\n", "1 columns, and the inputs of the model have 2 elements: give all of them"),
        ("a,b\n1\n", "record 1 (line: 2"),
        ("a,b\n1,NA\n", "line 2, column 'b': 'NA' is not a number; leave a cell empty"),
        (&long, "9x9x' is not a number"),
    ] {
        let error = refusal(text, &two());
        assert!(error.contains(expected) && error.len() < 400, "{text}: {error}");
    }
    let error = read(&b"a,b\n1,\xff\n"[..], &two(), &ElementNames::new()).err().unwrap();
    assert!(error.contains("UTF-8"), "{error}");
    let error = refusal("a,b\n1,300\n", &[input("x", "UINT8", &json!([2]))]);
    assert_eq!(error, "line 2, column 'b': 300 cannot be UINT8");
    let error = refusal("a\n1\n", &[input("text", "FP32", &json!(["N", "T"]))]);
    assert!(error.contains("input text FP32 [N, T] is none: give an .npz file"), "{error}");
}
