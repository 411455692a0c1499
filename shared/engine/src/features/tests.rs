use muster_sketch::window::{MISSING, is_missing};
use shared::manifest::{DataType, ImageLayout, ImageOrder, ImageStatistic, Reading};

use super::{distribution::Distribution, *};

fn spec(name: &str, datatype: DataType, shape: &[Option<u64>]) -> TensorSpec {
    let dim = |length: &Option<u64>| length.map_or(Dim::Symbol("N".into()), Dim::Fixed);
    TensorSpec { name: name.into(), datatype, shape: shape.iter().map(dim).collect() }
}

fn source(side: Side, tensor: &str, reading: Reading) -> FeatureSource {
    FeatureSource { side, tensor: tensor.into(), reading }
}

fn input(reading: Reading) -> FeatureSource {
    source(Side::Input, "x", reading)
}

fn output(reading: Reading) -> FeatureSource {
    source(Side::Output, "y", reading)
}

fn rows_of(extractor: &Extractor, inputs: &[(String, Tensor)], outputs: &[Tensor]) -> Vec<Row> {
    let mut rows = vec![];
    for row in 0..extractor.rows(inputs) {
        let mut into = Row::default();
        extractor.read(inputs, outputs, row, &mut into);
        rows.push(into);
    }
    rows
}

fn x(tensor: Tensor) -> [(String, Tensor); 1] {
    [("x".to_owned(), tensor)]
}

#[test]
fn each_entry_of_a_batch_is_a_row_with_its_own_answer() {
    let (inputs, outputs) =
        ([spec("x", DataType::Fp32, &[None, Some(2)])], [spec("y", DataType::Fp32, &[None, Some(3)])]);
    let sources = [
        input(Reading::Element { index: 1 }),
        output(Reading::TopClass),
        input(Reading::Element { index: 0 }),
        output(Reading::Confidence),
    ];
    let extractor = Extractor::new(&sources, &inputs, &outputs).unwrap();
    let asked = x(Tensor::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, f32::NAN]).unwrap());
    let told = [Tensor::from_f32(vec![2, 3], &[0.25, 0.5, 0.25, 0.0, 0.0, 1.0]).unwrap()];
    let rows = rows_of(&extractor, &asked, &told);
    assert_eq!(rows[0], Row { numbers: vec![2.0, 1.0, 0.5], places: vec![Some(1)] });
    assert!(is_missing(rows[1].numbers[0]) && rows[1].numbers[1..] == [3.0, 1.0]);
    assert_eq!(rows[1].places, [Some(2)]);
}

#[test]
fn an_inference_of_fixed_shape_is_one_row_whatever_its_first_axis() {
    let inputs = [spec("x", DataType::Uint8, &[Some(3), Some(1)])];
    let extractor = Extractor::new(&[input(Reading::Element { index: 2 })], &inputs, &[]).unwrap();
    let asked = x(Tensor::new(DataType::Uint8, vec![3, 1], vec![7, 8, 9]).unwrap());
    assert_eq!(rows_of(&extractor, &asked, &[])[0].numbers, [9.0]);
}

#[test]
fn codes_find_their_category_and_others_are_unseen() {
    let codes = Reading::Code {
        index: 0,
        codes: vec![30, 10, 20],
        vocabulary: muster_sketch::detector::Vocabulary::Sampled,
    };
    for datatype in [DataType::Int64, DataType::Fp64] {
        let inputs = [spec("x", datatype, &[None, Some(1)])];
        let extractor = Extractor::new(&[input(codes.clone())], &inputs, &[]).unwrap();
        let bytes: Vec<u8> = match datatype {
            DataType::Int64 => [10_i64, 30, 11, -1].iter().flat_map(|code| code.to_le_bytes()).collect(),
            _ => [10.0_f64, 30.0, 10.5, f64::NAN].iter().flat_map(|code| code.to_le_bytes()).collect(),
        };
        let asked = x(Tensor::new(datatype, vec![4, 1], bytes).unwrap());
        let places: Vec<_> = rows_of(&extractor, &asked, &[]).into_iter().map(|row| row.places[0]).collect();
        let last = if datatype == DataType::Int64 { Some(3) } else { None };
        assert_eq!(places, [Some(1), Some(0), Some(3), last]);
    }
}

#[test]
fn codes_are_whole_numbers_of_64_bits() {
    let inputs = [spec("x", DataType::Fp64, &[None, Some(1)])];
    let extractor = Extractor::new(&[], &inputs, &[]).unwrap();
    let code = |datatype: DataType, bytes: &[u8]| {
        let tensor = Tensor::new(datatype, vec![1, 1], bytes.to_vec()).unwrap();
        assert_eq!(extractor.row_len(&tensor, 0, 1), 1);
        extractor.code(&tensor, 0, 1, 0)
    };
    let large = 9_007_199_254_740_993_i64;
    assert_eq!(code(DataType::Int64, &large.to_le_bytes()), Code::Whole(large));
    assert_eq!(code(DataType::Uint64, &u64::MAX.to_le_bytes()), Code::None);
    assert_eq!(code(DataType::Bool, &[1]), Code::Whole(1));
    for (number, expected) in
        [(-3.0, Code::Whole(-3)), (0.5, Code::None), (f64::INFINITY, Code::None), (f64::NAN, Code::Missing)]
    {
        assert_eq!(code(DataType::Fp64, &f64::to_le_bytes(number)), expected, "{number}");
    }
    let tensor = Tensor::from_f32(vec![1, 1], &[0.0]).unwrap();
    assert_eq!(extractor.code(&tensor, 0, 1, 1), Code::Missing);
}

#[test]
fn scores_that_are_no_probabilities_get_their_softmax() {
    let logits = Distribution::of(&[0.0, 0.0, 3.0_f32.ln()]).unwrap();
    assert!((logits.confidence - 0.6).abs() < 1e-6 && logits.top_class == 2);
    let even = Distribution::of(&[0.25; 4]).unwrap();
    assert!((even.entropy - 4.0_f32.ln()).abs() < 1e-6 && even.top_class == 0);
    assert_eq!(Distribution::of(&[]), None);
    assert_eq!(Distribution::of(&[0.5, f32::INFINITY]), None);
}

const STATISTICS: [ImageStatistic; 6] = [
    ImageStatistic::Mean { channel: 0 },
    ImageStatistic::Mean { channel: 1 },
    ImageStatistic::Deviation { channel: 1 },
    ImageStatistic::Sharpness,
    ImageStatistic::Gradient,
    ImageStatistic::Saturated,
];

fn figures(order: ImageOrder, values: &[f32]) -> Vec<f32> {
    let layout = ImageLayout { order, channels: 2, height: 3, width: 3 };
    let sources = STATISTICS.map(|statistic| input(Reading::Image { layout, statistic }));
    let inputs = [spec("x", DataType::Fp32, &[Some(1), Some(18)])];
    let extractor = Extractor::new(&sources, &inputs, &[]).unwrap();
    let asked = x(Tensor::from_f32(vec![1, 18], values).unwrap());
    rows_of(&extractor, &asked, &[]).remove(0).numbers
}

#[test]
fn an_image_has_the_same_figures_in_both_orders() {
    // A dot of 9 in a field of 0, and a field of 2.
    let mut chw = [0.0; 18];
    chw[4] = 9.0;
    chw[9..].fill(2.0);
    let mut hwc = [0.0; 18];
    for pixel in 0..9 {
        (hwc[2 * pixel], hwc[2 * pixel + 1]) = (chw[pixel], chw[9 + pixel]);
    }
    let found = figures(ImageOrder::Chw, &chw);
    // Laplacian 36 and 0 at the one inner pixel of each channel; two steps of 9 in twelve.
    assert_eq!(found, [1.0, 2.0, 0.0, 18.0, 1.5, 1.0 / 18.0]);
    assert_eq!(figures(ImageOrder::Hwc, &hwc), found);
}

#[test]
fn projections_are_those_of_their_seed_and_keep_the_length_of_an_embedding() {
    let length = 200;
    let outputs = [spec("y", DataType::Fp32, &[Some(1), Some(length)])];
    let inputs = [spec("x", DataType::Fp32, &[Some(1)])];
    let embedding: Vec<f32> = (0..length).map(|n| ((n * 37 % 11) as f32) - 5.0).collect();
    let project = |seed| {
        let sources: Vec<_> = (0..64).map(|number| output(Reading::Projection { seed, number })).collect();
        let extractor = Extractor::new(&sources, &inputs, &outputs).unwrap();
        let asked = x(Tensor::from_f32(vec![1], &[0.0]).unwrap());
        let told = [Tensor::from_f32(vec![1, length], &embedding).unwrap()];
        rows_of(&extractor, &asked, &told).remove(0).numbers
    };
    let found = project(7);
    assert_eq!(found, project(7));
    assert_ne!(found, project(8));
    // The mean square of projections on unit vectors is the square of the length over the dimension.
    let square = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
    let ratio = square(&found) / square(&embedding);
    assert!((0.6..1.6).contains(&ratio), "{ratio}");
}

#[test]
fn what_does_not_fit_the_model_is_named() {
    let inputs = [spec("x", DataType::Fp32, &[None, Some(4)])];
    let outputs = [spec("y", DataType::Int64, &[None, None])];
    let layout = ImageLayout { order: ImageOrder::Chw, channels: 1, height: 3, width: 3 };
    let wrong = [
        source(Side::Input, "z", Reading::Confidence),
        input(Reading::Element { index: 4 }),
        input(Reading::Image { layout, statistic: ImageStatistic::Sharpness }),
        output(Reading::Projection { seed: 1, number: 0 }),
        output(Reading::TopClass),
    ];
    for source in wrong {
        let sources = [input(Reading::Element { index: 0 }), source.clone()];
        let error = Extractor::new(&sources, &inputs, &outputs).unwrap_err();
        assert_eq!((error.place, error.tensor), (1, source.tensor));
    }
}

#[test]
fn nan_in_an_input_is_missing_and_infinity_is_not() {
    let inputs = [spec("x", DataType::Fp64, &[None, Some(1)])];
    let extractor = Extractor::new(&[input(Reading::Element { index: 0 })], &inputs, &[]).unwrap();
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 1e-320, -0.0];
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let asked = x(Tensor::new(DataType::Fp64, vec![6, 1], bytes).unwrap());
    let found: Vec<f32> = rows_of(&extractor, &asked, &[]).iter().map(|row| row.numbers[0]).collect();
    assert!(is_missing(found[0]));
    assert_eq!(found[1..], [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, 0.0, 0.0]);
}

#[test]
fn an_answer_that_is_not_finite_has_no_class_and_no_probabilities() {
    let inputs = [spec("x", DataType::Fp32, &[None, Some(1)])];
    let outputs = [spec("y", DataType::Fp32, &[None, Some(2)])];
    let sources =
        [output(Reading::Confidence), output(Reading::TopClass), output(Reading::Element { index: 1 })];
    let extractor = Extractor::new(&sources, &inputs, &outputs).unwrap();
    let asked = x(Tensor::from_f32(vec![1, 1], &[0.0]).unwrap());
    let told = [Tensor::from_f32(vec![1, 2], &[f32::NAN, 0.5]).unwrap()];
    let row = rows_of(&extractor, &asked, &told).remove(0);
    assert!(row.numbers[0].is_nan() && !is_missing(row.numbers[0]));
    assert_eq!((row.numbers[1], row.places), (0.5, vec![None]));
}

#[test]
fn a_tensor_that_is_not_there_or_has_other_rows_is_missing() {
    let inputs = [spec("x", DataType::Fp32, &[None, Some(1)])];
    let outputs = [spec("y", DataType::Fp32, &[None, None])];
    let sources =
        [output(Reading::Entropy), output(Reading::TopClass), output(Reading::Element { index: 7 })];
    let extractor = Extractor::new(&sources, &inputs, &outputs).unwrap();
    let asked = x(Tensor::from_f32(vec![2, 1], &[0.0, 1.0]).unwrap());
    for told in [vec![], vec![Tensor::from_f32(vec![3, 2], &[0.5; 6]).unwrap()]] {
        for row in rows_of(&extractor, &asked, &told) {
            assert!(row.numbers.iter().all(|&number| is_missing(number)) && row.places == [None]);
        }
    }
    let told = [Tensor::from_f32(vec![2, 2], &[0.5; 4]).unwrap()];
    let row = rows_of(&extractor, &asked, &told).remove(1);
    assert_eq!((row.numbers[1].to_bits(), row.places), (MISSING.to_bits(), vec![Some(0)]));
}

#[test]
fn memory_of_an_earlier_row_leaves_no_trace() {
    let inputs = [spec("x", DataType::Fp32, &[None, Some(1)])];
    let extractor = Extractor::new(&[input(Reading::Element { index: 0 })], &inputs, &[]).unwrap();
    let mut row = Row { numbers: vec![1.0; 9], places: vec![Some(3); 9] };
    extractor.read(&x(Tensor::from_f32(vec![1, 1], &[2.0]).unwrap()), &[], 0, &mut row);
    assert_eq!(row, Row { numbers: vec![2.0], places: vec![] });
}

#[test]
fn images_of_every_element_type_have_the_same_figures() {
    let pixels: Vec<u8> = (0..18_u8).map(|place| place * 7 % 19).collect();
    let values: Vec<f32> = pixels.iter().copied().map(f32::from).collect();
    let expected = figures(ImageOrder::Hwc, &values);
    let layout = ImageLayout { order: ImageOrder::Hwc, channels: 2, height: 3, width: 3 };
    let wide = |bytes: fn(u8) -> Vec<u8>| pixels.iter().flat_map(|&pixel| bytes(pixel)).collect::<Vec<u8>>();
    let forms: [(DataType, Vec<u8>); 8] = [
        (DataType::Uint8, pixels.clone()),
        (DataType::Int8, pixels.clone()),
        (DataType::Uint16, wide(|pixel| u16::from(pixel).to_le_bytes().to_vec())),
        (DataType::Int16, wide(|pixel| i16::from(pixel).to_le_bytes().to_vec())),
        (DataType::Int32, wide(|pixel| i32::from(pixel).to_le_bytes().to_vec())),
        (DataType::Fp16, wide(|pixel| half::f16::from(pixel).to_le_bytes().to_vec())),
        (DataType::Bf16, wide(|pixel| half::bf16::from_f32(pixel.into()).to_le_bytes().to_vec())),
        (DataType::Fp64, wide(|pixel| f64::from(pixel).to_le_bytes().to_vec())),
    ];
    for (datatype, bytes) in forms {
        let sources: Vec<_> =
            STATISTICS.iter().map(|&statistic| input(Reading::Image { layout, statistic })).collect();
        let inputs = [spec("x", datatype, &[Some(1), Some(3), Some(3), Some(2)])];
        let extractor = Extractor::new(&sources, &inputs, &[]).unwrap();
        let asked = x(Tensor::new(datatype, vec![1, 3, 3, 2], bytes).unwrap());
        assert_eq!(rows_of(&extractor, &asked, &[]).remove(0).numbers, expected, "{datatype}");
    }
}

#[test]
fn small_deviations_of_large_values_are_kept() {
    let values: Vec<f32> = (0..18_u16).map(|place| 60_000.0 + f32::from(place % 2)).collect();
    let found = figures(ImageOrder::Chw, &values);
    // Of the second channel, five times 60,001 and four times 60,000.
    assert!((found[2] - (20.0_f32 / 81.0).sqrt()).abs() < 1e-6, "{found:?}");
}

#[test]
fn a_pixel_that_is_nan_shows_in_its_channel() {
    let mut values = [1.0; 18];
    values[9] = f32::NAN;
    let found = figures(ImageOrder::Chw, &values);
    assert!(found[1].is_nan() && found[2].is_nan() && found[0] == 1.0, "{found:?}");
}

#[test]
fn only_some_lines_of_a_tall_image_are_read() {
    // Of 64 lines every fourth is read, with its neighbours.
    let layout = ImageLayout { order: ImageOrder::Chw, channels: 1, height: 64, width: 4 };
    let values: Vec<f32> = (0..256_u16).map(|place| f32::from(place / 4 % 2)).collect();
    let sources = [
        input(Reading::Image { layout, statistic: ImageStatistic::Mean { channel: 0 } }),
        input(Reading::Image { layout, statistic: ImageStatistic::Sharpness }),
    ];
    let inputs = [spec("x", DataType::Fp32, &[Some(1), Some(1), Some(64), Some(4)])];
    let extractor = Extractor::new(&sources, &inputs, &[]).unwrap();
    let asked = x(Tensor::from_f32(vec![1, 1, 64, 4], &values).unwrap());
    assert_eq!(rows_of(&extractor, &asked, &[]).remove(0).numbers, [0.0, 2.0]);
}
