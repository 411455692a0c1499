use std::{fs, path::Path};

use bytes::Bytes;
use muster_engine::{Engine, EngineError, Tensor, TractEngine, inspect};
use muster_sketch::{detector::Vocabulary, reference::ReferenceValues};
use serde_json::json;
use shared::manifest::{Reading, TensorSpec};

use super::*;

/// Twice the element, and nothing for some.
struct Doubler {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    answer: fn(f32) -> Result<f32, EngineError>,
}

impl Session for Doubler {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, EngineError> {
        let values: Result<Vec<f32>, _> =
            inputs[0].1.to_f64().iter().map(|&value| (self.answer)(value as f32)).collect();
        Ok(vec![Tensor::from_f32(inputs[0].1.shape().to_vec(), &values?).unwrap()])
    }

    fn warm(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

fn doubler(answer: fn(f32) -> Result<f32, EngineError>) -> Doubler {
    let spec = |name: &str| -> TensorSpec {
        serde_json::from_value(json!({"name": name, "datatype": "FP32", "shape": ["N", 1]})).unwrap()
    };
    Doubler { inputs: vec![spec("x")], outputs: vec![spec("y")], answer }
}

fn sample_of(text: &str, session: &dyn Session) -> Sample {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    Sample::read(file.path(), session.inputs(), &BTreeMap::new()).unwrap()
}

/// An empty cell. In a table of one column it needs its quotes, or the line would be empty and no row.
const NOTHING: &str = "\"\"";

fn column(values: impl Iterator<Item = String>) -> String {
    std::iter::once("speed".to_owned()).chain(values).collect::<Vec<_>>().join("\n")
}

fn ramp(rows: u32) -> String {
    column((0..rows).map(|row| row.to_string()))
}

fn numeric(made: &Made, place: usize) -> &muster_sketch::reference::NumericReference {
    match &made.spec.reference.features()[place].values {
        ReferenceValues::Numeric(numeric) => numeric,
        ReferenceValues::Category(_) => panic!("it is a number"),
    }
}

#[test]
fn inputs_and_answers_of_a_table_are_counted() {
    let session = doubler(|value| Ok(2.0 * value));
    let made = make(&Plan::derived(), &sample_of(&ramp(5_000), &session), &session, RUN_LIMIT).unwrap();
    let names: Vec<&str> =
        made.spec.reference.features().iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["speed", "y"]);
    assert_eq!(numeric(&made, 0).counts().range(), Some((0.0, 4_999.0)));
    assert_eq!(numeric(&made, 1).counts().range(), Some((0.0, 9_998.0)));
    let report = &made.report;
    assert_eq!(
        (report.cases, report.input_rows, report.output_rows, report.unanswered),
        (5_000, 5_000, 5_000, 0)
    );
    assert_eq!((report.kinds["numeric"], report.derived), (2, true));
    assert_eq!(report.reference, made.spec.reference.id().to_string());
}

#[test]
fn a_constant_answer_stood_still_as_long_as_the_sample_whatever_the_order_of_runs() {
    let session = doubler(|value| Ok(if value < 1_500.0 { 7.0 } else { value }));
    let made = make(&Plan::derived(), &sample_of(&ramp(3_000), &session), &session, RUN_LIMIT).unwrap();
    assert_eq!(numeric(&made, 1).counts().longest_run(), 1_500);
}

#[test]
fn of_a_large_sample_all_is_read_and_an_even_part_run() {
    let session = doubler(Ok);
    let made = make(&Plan::derived(), &sample_of(&ramp(50_000), &session), &session, RUN_LIMIT).unwrap();
    assert_eq!((made.report.input_rows, made.report.output_rows), (50_000, 20_000));
    let mean = numeric(&made, 1).centre();
    assert!((mean - 25_000.0).abs() < 10.0, "{mean}");
}

#[test]
fn missing_values_infinities_ties_and_tiny_numbers_are_counted_and_break_nothing() {
    let session = doubler(|_| Ok(1.0));
    let values = (0..6_000_u32).map(|row| match row % 6 {
        0 => NOTHING.into(),
        1 => "inf".into(),
        2 => "-inf".into(),
        3 => "1e-42".into(),
        _ => "0.5".into(),
    });
    let made = make(&Plan::derived(), &sample_of(&column(values), &session), &session, RUN_LIMIT).unwrap();
    let counts = numeric(&made, 0).counts();
    assert_eq!((counts.missing(), counts.non_finite(), counts.finite()), (1_000, 2_000, 3_000));
    let text = serde_json::to_string(&made.spec).unwrap();
    let back: DriftSpec = serde_json::from_str(&text).unwrap();
    assert_eq!((back.reference.id(), &back), (made.spec.reference.id(), &made.spec));
}

#[test]
fn too_few_rows_are_refused_with_feature_and_reason() {
    let session = doubler(Ok);
    let error = make(&Plan::derived(), &sample_of(&ramp(999), &session), &session, RUN_LIMIT).unwrap_err();
    assert!(
        error.contains("feature 'speed' has 999 usable values") && error.contains("1000 are needed"),
        "{error}"
    );
    let values = (0..3_000_u32).map(|row| if row % 3 == 0 { NOTHING.into() } else { "nan".into() });
    let error =
        make(&Plan::derived(), &sample_of(&column(values), &session), &session, RUN_LIMIT).unwrap_err();
    assert!(error.contains("the model failed on 3000") && error.contains("needs 1000 rows"), "{error}");
}

#[test]
fn answers_that_are_not_finite_or_fail_are_left_out_and_told() {
    let session = doubler(|value| match value as u32 % 4 {
        0 => Ok(f32::NAN),
        1 => Err(EngineError::Run("no".into())),
        _ => Ok(value),
    });
    let made = make(&Plan::derived(), &sample_of(&ramp(4_000), &session), &session, RUN_LIMIT).unwrap();
    assert_eq!((made.report.output_rows, made.report.unanswered), (2_000, 2_000));
    assert!(made.report.notes[0].contains("2000 of the 4000 cases"), "{:?}", made.report.notes);
    let error = make(&Plan::derived(), &sample_of(&ramp(1_500), &session), &session, RUN_LIMIT).unwrap_err();
    assert!(error.contains("of the 1500 cases of the sample, the model failed on 750"), "{error}");
}

#[test]
fn a_model_that_is_too_slow_is_watched_by_its_inputs_and_told_when_its_answers_were_asked_for() {
    let session = doubler(Ok);
    let sample = sample_of(&ramp(2_000), &session);
    let made = make(&Plan::derived(), &sample, &session, Duration::ZERO).unwrap();
    assert_eq!((made.spec.sources.len(), made.report.output_rows), (1, 0));
    assert!(
        made.report.notes[0].starts_with("answers of the model are not watched"),
        "{:?}",
        made.report.notes
    );
    let model = Model { inputs: session.inputs(), outputs: session.outputs() };
    let plan = Plan::read("[[numeric]]\noutput = \"y\"", model).unwrap();
    let error = make(&plan, &sample, &session, Duration::ZERO).unwrap_err();
    assert!(error.contains("leave the features of outputs out of features.toml"), "{error}");
}

#[test]
fn categories_are_those_listed_or_those_of_the_sample() {
    let session = doubler(Ok);
    let model = Model { inputs: session.inputs(), outputs: session.outputs() };
    let text = column((0..3_000_u32).map(|row| [30, 10, 20][row as usize % 3].to_string()));
    let sample = sample_of(&text, &session);
    let of = |schema: &str| make(&Plan::read(schema, model).unwrap(), &sample, &session, RUN_LIMIT);
    let category = |made: &Made| match &made.spec.reference.features()[0].values {
        ReferenceValues::Category(category) => (category.names().to_vec(), category.counts().bins().to_vec()),
        ReferenceValues::Numeric(_) => panic!("it is a category"),
    };
    let found = of("[[categorical]]\nname = \"speed\"").unwrap();
    assert_eq!(
        category(&found),
        (["10", "20", "30"].map(str::to_owned).into(), vec![1_000, 1_000, 1_000, 0])
    );
    let codes = |made: &Made| match &made.spec.sources[0].reading {
        Reading::Code { codes, vocabulary, .. } => (codes.clone(), *vocabulary),
        other => panic!("{other:?}"),
    };
    assert_eq!(codes(&found), (vec![10, 20, 30], Vocabulary::Sampled));
    let schema =
        "[[categorical]]\ncodes = [30, 40, 20, 10]\nnames = [\"c\", \"d\", \"b\", \"a\"]\nlist = \"closed\"";
    let listed = of(schema).unwrap();
    assert_eq!(
        category(&listed),
        (["c", "d", "b", "a"].map(str::to_owned).into(), vec![1_000, 0, 1_000, 1_000, 0])
    );
    assert_eq!(codes(&listed), (vec![30, 40, 20, 10], Vocabulary::Closed));
    let error = of("[[categorical]]\ncodes = [10, 20]").unwrap_err();
    assert!(error.contains("feature 'x'") && error.contains("the code 30, 1000 times"), "{error}");
}

#[test]
fn too_many_categories_and_values_that_are_none_are_refused() {
    let session = doubler(Ok);
    let model = Model { inputs: session.inputs(), outputs: session.outputs() };
    let plan = Plan::read("[[categorical]]", model).unwrap();
    let error = make(&plan, &sample_of(&ramp(6_000), &session), &session, RUN_LIMIT).unwrap_err();
    assert!(error.contains("4096 can be counted"), "{error}");
    let halves = column((0..2_000_u32).map(|row| (f64::from(row % 4) / 2.0).to_string()));
    let error = make(&plan, &sample_of(&halves, &session), &session, RUN_LIMIT).unwrap_err();
    assert!(error.contains("feature 'x': 1000 values of the sample are no whole numbers"), "{error}");
}

fn demo(name: &str) -> Bytes {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(name)).unwrap().into()
}

/// The digits of the demo, tried as at the gate.
fn digits(version: u32, schema: Option<&str>) -> Result<Made, String> {
    let model = demo(&format!("digits-v{version}.onnx"));
    let inspected = inspect(&model).unwrap();
    let session = TractEngine.load(model, &inspected.inputs, &inspected.outputs).unwrap();
    let of = Model { inputs: &inspected.inputs, outputs: &inspected.outputs };
    let plan = schema.map_or_else(Plan::derived, |text| Plan::read(text, of).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/digits-reference.npz");
    let sample = Sample::read(&path, &inspected.inputs, &plan.element_names())?;
    make(&plan, &sample, &*session, RUN_LIMIT)
}

#[test]
fn the_digits_of_the_demo_have_the_features_of_a_camera_and_of_a_classifier() {
    let made = digits(1, None).unwrap();
    let features = made.spec.reference.features();
    let names: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
    let expected = [
        "image.mean[0]",
        "image.deviation[0]",
        "image.sharpness",
        "image.gradient",
        "image.saturated",
        "probabilities.confidence",
        "probabilities.entropy",
        "probabilities.class",
    ];
    assert_eq!(names, expected);
    let ReferenceValues::Category(class) = &features[7].values else { panic!("classes are categories") };
    // What onnxruntime answers to the same images.
    assert_eq!(class.counts().bins(), [121, 133, 108, 102, 117, 131, 129, 120, 107, 132, 0]);
    let confidence = numeric(&made, 5).centre();
    assert!((confidence - 0.868_137).abs() < 1e-4, "{confidence}");
    let kinds: Vec<_> = made.report.kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(kinds, [("class", 1), ("confidence", 1), ("entropy", 1), ("image", 5)]);
    assert_eq!((made.report.cases, made.report.unanswered), (1_200, 0));
}

#[test]
fn the_bad_digits_of_the_demo_are_watched_without_the_answers_that_they_do_not_give() {
    let made = digits(3, None).unwrap();
    assert_eq!((made.report.output_rows, made.report.unanswered), (1_011, 189));
}

#[test]
fn every_kind_of_feature_can_be_watched_of_the_digits() {
    let schema = r#"
        [[numeric]]
        index = 36
        name = "middle"

        [[categorical]]
        index = 20
        list = "closed"

        [[image]]
        statistics = ["mean"]

        [[confidence]]
        [[entropy]]

        [[class]]
        names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

        [[embedding]]
        projections = 3
    "#;
    let made = digits(2, Some(schema)).unwrap();
    assert_eq!((made.report.features, made.report.kinds.len(), made.report.derived), (9, 7, false));
    let ReferenceValues::Category(pixel) = &made.spec.reference.features()[1].values else {
        panic!("a category")
    };
    assert_eq!(pixel.names().len(), 17);
    assert!(numeric(&made, 8).scale() > 0.0);
}
