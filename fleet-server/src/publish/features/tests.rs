use serde_json::json;
use shared::manifest::{DataType, ImageOrder};

use super::*;

fn spec(name: &str, datatype: DataType, shape: &serde_json::Value) -> TensorSpec {
    serde_json::from_value(json!({"name": name, "datatype": datatype, "shape": shape})).unwrap()
}

fn floats(name: &str, shape: &serde_json::Value) -> TensorSpec {
    spec(name, DataType::Fp32, shape)
}

/// A table of three columns, and two answers.
fn table() -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    let outputs = vec![floats("scores", &json!(["N", 4])), floats("embedding", &json!(["N", 2_000]))];
    (vec![floats("x", &json!(["N", 3]))], outputs)
}

fn camera() -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    (vec![floats("image", &json!([1, 3, 32, 48]))], vec![floats("scores", &json!([1, 4]))])
}

fn read(text: &str, (inputs, outputs): &(Vec<TensorSpec>, Vec<TensorSpec>)) -> Result<Plan, String> {
    Plan::read(text, Model { inputs, outputs }).map_err(|error| error.to_string())
}

fn names(features: &[Planned]) -> Vec<&str> {
    features.iter().map(|feature| feature.name.as_str()).collect()
}

fn derived(inputs: &[TensorSpec], outputs: &[TensorSpec], header: Option<&[String]>) -> Vec<String> {
    let features = derive::features(Model { inputs, outputs }, header);
    features.into_iter().map(|feature| feature.name).collect()
}

#[test]
fn a_schema_means_features_in_the_order_of_its_kinds() {
    let text = r#"
        [[class]]
        output = "scores"
        names = ["a", "b", "c", "d"]

        [[numeric]]
        names = ["age", "height", "sex"]

        [[categorical]]
        index = 2
        name = "sex, as a category"
        names = ["f", "m"]
        list = "closed"

        [[confidence]]
        output = "scores"

        [[embedding]]
        output = "embedding"
        projections = 2
        seed = 7

        [capture]
        every = 10

        [guardrail]
        one_false_alarm_in_years = 5
    "#;
    let plan = read(text, &table()).unwrap();
    let expected = [
        "age",
        "height",
        "sex",
        "sex, as a category",
        "scores.confidence",
        "scores.class",
        "embedding.projection[0]",
        "embedding.projection[1]",
    ];
    assert_eq!(names(&plan.features), expected);
    let What::Code { index: 2, codes: Some(codes), vocabulary } = &plan.features[3].what else {
        panic!("{:?}", plan.features[3])
    };
    assert_eq!((codes.len(), codes[1].clone(), *vocabulary), (2, (1, "m".to_owned()), Vocabulary::Closed));
    assert_eq!(plan.features[7].what, What::Number(Reading::Projection { seed: 7, number: 1 }));
    assert_eq!((plan.capture.every, plan.capture.window_secs), (Some(10), 600));
    assert_eq!(plan.guardrail.unwrap().one_false_alarm_in_years, 5.0);
    let named = plan.element_names();
    assert_eq!(named[&("x".to_owned(), 0)], "age");
}

#[test]
fn an_image_lies_as_its_shape_says_unless_the_schema_does() {
    let plan = read("[[image]]", &camera()).unwrap();
    let layout = ImageLayout { order: ImageOrder::Chw, channels: 3, height: 32, width: 48 };
    assert_eq!(plan.features.len(), 9);
    assert_eq!(
        plan.features[4].what,
        What::Number(Reading::Image { layout, statistic: ImageStatistic::Deviation { channel: 1 } })
    );
    let flat = (vec![spec("frame", DataType::Uint8, &json!([1, 4_608]))], vec![floats("y", &json!([1, 1]))]);
    assert!(read("[[image]]", &flat).unwrap_err().contains("give `order`, `channels`, `height` and `width`"));
    let text = "[[image]]\norder = \"hwc\"\nchannels = 3\nheight = 32\nwidth = 48\nstatistics = [\"sharpness\", \"mean\"]";
    let plan = read(text, &flat).unwrap();
    assert_eq!(names(&plan.features), ["frame.sharpness", "frame.mean[0]", "frame.mean[1]", "frame.mean[2]"]);
}

#[test]
fn every_mistake_has_a_line_and_says_what_to_do() {
    for (text, place, why) in [
        ("[[numeric]]\ninput = \"x\"\nindx = 1", "features:3:1", "index"),
        ("[[numerc]]", "features:1:3", "numeric"),
        ("[[numeric]]\nindex = 3", "features:1:1", "there is no element 3 in a row of x FP32 [N, 3]"),
        ("[[numeric]]\nnames = [\"a\"]", "features:1:1", "1 names for the 3 elements of 'x'"),
        ("[[numeric]]\nname = \"a\"", "features:1:1", "say which by `index`"),
        ("[[numeric]]\nindex = 0\nnames = [\"a\"]", "features:1:1", "give its `name`"),
        ("[[numeric]]\ninput = \"x\"\noutput = \"scores\"", "features:1:1", "not of both"),
        ("[[numeric]]\ninput = \"z\"", "features:1:1", "the model has no input 'z': it has x"),
        ("[[numeric]]\noutput = \"embedding\"", "features:1:1", "2000 elements, and 256 can be watched"),
        ("[[confidence]]", "features:1:1", "the model has 2 outputs: say which by `output`"),
        ("[[numeric]]\n\n[[numeric]]", "features:3:1", "two features are called 'x[0]'"),
        ("[[categorical]]", "features:1:1", "say which by `index`"),
        ("[[categorical]]\nindex = 0\ncodes = [1, 1]", "features:1:1", "the code 1 is there twice"),
        ("[[categorical]]\nindex = 0\ncodes = []", "features:1:1", "0 categories"),
        ("[[categorical]]\nindex = 0\ncodes = [1]\nnames = []", "features:1:1", "0 names for 1 codes"),
        ("[[categorical]]\nindex = 0\nlist = \"shut\"", "features:3:8", "open"),
        ("[[class]]\noutput = \"scores\"\nnames = [\"a\"]", "features:1:1", "1 names for the 4 scores"),
        ("[[image]]", "features:1:1", "does not say how its image lies"),
        ("[[embedding]]\noutput = \"scores\"\nprojections = 65", "features:1:1", "65 projections"),
        ("[capture]\nwindow_secs = 0", "features:1:1", "`window_secs`"),
        ("[capture]\nevery = 0", "features:1:1", "`every` must be from 1 to 100"),
        ("[guardrail]\none_false_alarm_in_years = 0", "features:1:1", "0 years"),
        ("[guardrail]", "features:1:1", "one_false_alarm_in_years"),
        ("numeric = 3", "features:1:11", "sequence"),
    ] {
        let error = read(text, &table()).unwrap_err();
        assert!(error.starts_with(place) && error.contains(why), "{text}: {error}");
    }
    let image = "[[image]]\nstatistics = [\"blur\"]";
    assert!(
        read(image, &camera()).unwrap_err().contains("no figure 'blur' of an image: there are mean, dev")
    );
    assert!(read("[[image]]\nchannels = 4", &camera()).unwrap_err().contains("6144 elements, and a row of"));
}

#[test]
fn scores_that_are_whole_numbers_are_refused_at_their_line() {
    let labels = (vec![floats("x", &json!(["N", 3]))], vec![spec("label", DataType::Int64, &json!(["N"]))]);
    let error =
        read("[[categorical]]\noutput = \"label\"\n\n[[entropy]]\noutput = \"label\"", &labels).unwrap_err();
    assert!(error.starts_with("features:4:1") && error.contains("not INT64"), "{error}");
}

#[test]
fn a_schema_without_features_keeps_its_numbers_and_derives_the_rest() {
    let (inputs, outputs) = camera();
    let plan = read("[capture]\nevery = 3", &(inputs.clone(), outputs.clone())).unwrap();
    let features = plan.features(Model { inputs: &inputs, outputs: &outputs }, None).unwrap();
    assert_eq!((plan.is_derived(), plan.capture.every, features.len()), (true, Some(3), 12));
}

#[test]
fn images_are_recognised_by_the_axis_that_is_small() {
    let layout = |shape: serde_json::Value| {
        let inputs = [spec("image", DataType::Uint8, &shape)];
        derive::image_layout(Model { inputs: &inputs, outputs: &[] }, &inputs[0])
            .map(|layout| (layout.order, layout.channels))
    };
    assert_eq!(layout(json!([1, 3, 224, 224])), Some((ImageOrder::Chw, 3)));
    assert_eq!(layout(json!(["N", 224, 224, 4])), Some((ImageOrder::Hwc, 4)));
    assert_eq!(layout(json!(["N", 1, 8, 8])), Some((ImageOrder::Chw, 1)));
    assert_eq!(layout(json!([1, 3, 3, 1])), Some((ImageOrder::Hwc, 1)));
    for other in [json!([2, 3, 8, 8]), json!([1, 8, 8, 8]), json!([1, 3, "H", "W"]), json!([1, 3, 8])] {
        assert_eq!(layout(other.clone()), None, "{other}");
    }
}

#[test]
fn small_inputs_give_their_elements_and_the_one_output_of_scores_its_figures() {
    let (inputs, outputs) = table();
    let header = ["age", "height", "sex"].map(str::to_owned);
    let expected = ["age", "height", "sex", "scores.confidence", "scores.entropy", "scores.class"];
    assert_eq!(derived(&inputs, &outputs, Some(&header)), expected);
    assert_eq!(derived(&inputs, &outputs, None)[..3], ["x[0]", "x[1]", "x[2]"]);
    // A pipeline of scikit-learn: a label and probabilities.
    let columns = [floats("age", &json!(["N", 1])), spec("sex", DataType::Int64, &json!(["N", 1]))];
    let columns: Vec<TensorSpec> = columns.into();
    let answers = [spec("label", DataType::Int64, &json!(["N"])), floats("probabilities", &json!(["N", 2]))];
    assert_eq!(
        derived(&columns, &answers, None),
        ["age", "sex", "probabilities.confidence", "probabilities.entropy", "probabilities.class"]
    );
    assert_eq!(derived(&inputs, &[floats("price", &json!(["N", 1]))], None)[3..], ["price"]);
}

#[test]
fn what_cannot_be_guessed_is_not_watched() {
    let text = [spec("tokens", DataType::Int64, &json!(["N", "T"])), floats("wide", &json!(["N", 65]))];
    let two = [floats("a", &json!(["N", 4])), floats("b", &json!(["N", 4]))];
    assert_eq!(derived(&text, &two, None), Vec::<String>::new());
    let plan = Plan::derived();
    let error = plan.features(Model { inputs: &text, outputs: &two }, None).unwrap_err();
    assert!(error.contains("say in features.toml"), "{error}");
    let many: Vec<TensorSpec> =
        (0..5).map(|number| floats(&format!("x{number}"), &json!(["N", 64]))).collect();
    let error = plan.features(Model { inputs: &many, outputs: &two }, None).unwrap_err();
    assert!(error.contains("320 features could be watched, and 256 are"), "{error}");
}
