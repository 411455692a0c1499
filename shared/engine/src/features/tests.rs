use super::*;

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
    let (inputs, outputs) = (
        [spec("x", DataType::Fp32, &[None, Some(2)])],
        [spec("y", DataType::Fp32, &[None, Some(3)])],
    );
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
    assert!(rows[1].numbers[0].is_nan() && rows[1].numbers[1..] == [3.0, 1.0]);
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
fn scores_that_are_no_probabilities_get_their_softmax() {
    let logits = Distribution::of(&[0.0, 0.0, 3.0_f32.ln()]).unwrap();
    assert!((logits.confidence - 0.6).abs() < 1e-6 && logits.top_class == 2);
    let even = Distribution::of(&[0.25; 4]).unwrap();
    assert!((even.entropy - 4.0_f32.ln()).abs() < 1e-6 && even.top_class == 0);
    assert_eq!(Distribution::of(&[]), None);
    assert_eq!(Distribution::of(&[0.5, f32::INFINITY]), None);
}

fn figures(order: ImageOrder, values: &[f32]) -> Vec<f32> {
    let layout = ImageLayout { order, channels: 2, height: 3, width: 3 };
    let statistics = [
        ImageStatistic::Mean { channel: 0 },
        ImageStatistic::Mean { channel: 1 },
        ImageStatistic::Deviation { channel: 1 },
        ImageStatistic::Sharpness,
        ImageStatistic::Gradient,
        ImageStatistic::Saturated,
    ];
    let sources = statistics.map(|statistic| input(Reading::Image { layout, statistic }));
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
        let sources: Vec<_> =
            (0..64).map(|number| output(Reading::Projection { seed, number })).collect();
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
