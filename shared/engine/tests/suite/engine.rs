//! The engine: what it runs, and that it fails with an error and nothing worse.

use std::collections::BTreeMap;

use crate::support::{bytes, fixed, graph, ints, node, scale, symbol, value};
use bytes::Bytes;
use muster_engine::{
    Engine, EngineError, Golden, GoldenFailure, Session, Tensor, TractEngine, inspect, onnx::GraphProto,
    outputs_are_finite, replay,
};
use shared::manifest::{Budgets, DataType, Tolerance};

fn load(graph: GraphProto) -> Box<dyn Session> {
    let model = bytes(graph);
    let inspected = inspect(&model).unwrap();
    TractEngine.load(model, &inspected.inputs, &inspected.outputs).unwrap()
}

fn x(shape: Vec<u64>, values: &[f32]) -> Vec<(String, Tensor)> {
    vec![("x".into(), Tensor::from_f32(shape, values).unwrap())]
}

#[test]
fn a_model_gives_the_numbers_it_should() {
    let session = load(scale(3.0, vec![fixed(2), fixed(2)]));
    session.warm().unwrap();
    let outputs = session.run(&x(vec![2, 2], &[1.0, 2.0, 3.0, -4.0])).unwrap();
    assert_eq!(outputs[0].to_f64(), [3.0, 6.0, 9.0, -12.0]);
    assert_eq!((outputs[0].datatype(), outputs[0].shape()), (DataType::Fp32, [2, 2].as_slice()));
}

#[test]
fn a_variable_axis_takes_more_shapes_than_the_cache_keeps() {
    let session = load(scale(2.0, vec![symbol("n")]));
    session.warm().unwrap();
    for round in 0..2 {
        for n in 1..8_u64 {
            let ones = vec![1.0; usize::try_from(n).unwrap()];
            assert_eq!(session.run(&x(vec![n], &ones)).unwrap()[0].shape(), [n], "round {round}");
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_the_callers_fault() {
    let session = load(scale(2.0, vec![fixed(2)]));
    for inputs in [x(vec![3], &[0.0; 3]), vec![], [x(vec![2], &[0.0; 2]), x(vec![2], &[0.0; 2])].concat()] {
        assert!(matches!(session.run(&inputs), Err(EngineError::Input(_))));
    }
}

#[test]
fn a_model_that_divides_by_zero_answers_values_that_are_not_finite() {
    let twice = graph(
        vec![node("Div", &["x", "x"], &["y"])],
        vec![],
        vec![value("x", vec![fixed(1)])],
        vec![value("y", vec![fixed(1)])],
    );
    let session = load(twice);
    let outputs = session.run(&x(vec![1], &[0.0])).unwrap();
    let wrong = outputs_are_finite(session.outputs(), &outputs).unwrap_err();
    assert_eq!(wrong.to_string(), "output 'y' has a value that is NaN or infinite");
}

#[test]
fn garbage_and_panics_of_the_engine_are_errors() {
    let inspected = inspect(&bytes(scale(2.0, vec![fixed(1)]))).unwrap();
    let try_load = |model: Bytes| {
        TractEngine.load(model, &inspected.inputs, &inspected.outputs).err().expect("must fail")
    };
    assert!(matches!(try_load(Bytes::from_static(b"garbage")), EngineError::Load(_)));
    let mut conv = node("Conv", &["x", "x"], &["y"]);
    conv.attribute = vec![ints("strides", &[0, 0])];
    let image = || vec![fixed(1), fixed(1), fixed(8), fixed(8)];
    let bad = bytes(graph(vec![conv], vec![], vec![value("x", image())], vec![value("y", image())]));
    assert!(matches!(try_load(bad), EngineError::Load(_) | EngineError::Panic { .. }));
}

fn golden(factor: f32) -> Golden {
    let side = |name: &str, factor: f32| {
        let values = [1.0, 2.0, 3.0].map(|value| value * factor);
        BTreeMap::from([(name.to_owned(), Tensor::from_f32(vec![3, 1], &values).unwrap())])
    };
    Golden::new(side("x", 1.0), side("y", factor)).unwrap()
}

#[test]
fn a_right_model_passes_its_golden_vectors() {
    let session = load(scale(2.0, vec![fixed(1)]));
    let figures = replay(&*session, &golden(2.000_01), &Tolerance::default(), &Budgets::default()).unwrap();
    assert_eq!(figures.cases, 3);
    assert!(figures.latency_p50_us <= figures.latency_max_us);
}

#[test]
fn a_wrong_model_fails_with_the_case_and_the_difference() {
    let session = load(scale(2.0, vec![fixed(1)]));
    let failure = replay(&*session, &golden(2.5), &Tolerance::default(), &Budgets::default()).unwrap_err();
    let GoldenFailure::Mismatch { case: 0, detail } = failure else { panic!("{failure}") };
    assert!(detail.starts_with("output 'y', element 0: 2 where golden is 2.5"), "{detail}");
}

#[test]
fn golden_vectors_of_another_model_are_refused() {
    let session = load(scale(2.0, vec![fixed(2)]));
    let failure = replay(&*session, &golden(2.0), &Tolerance::default(), &Budgets::default()).unwrap_err();
    assert!(matches!(failure, GoldenFailure::Unfit(_)), "{failure}");
}
