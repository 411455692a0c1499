//! Real files: the demo's models load, and each way a model can be bad is refused.
use std::path::{Path, PathBuf};

use bytes::Bytes;
use muster_engine::{Engine as _, TractEngine, inspect};

fn onnx_files(folder: &str) -> Vec<(PathBuf, Bytes)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let models = paths.filter(|path| path.extension().is_some_and(|end| end == "onnx" || end == "bin"));
    models.map(|path| (path.clone(), std::fs::read(path).unwrap().into())).collect()
}

#[test]
fn every_bad_model_is_refused_before_the_engine_sees_it() {
    let bad = onnx_files("tests/data/bad-models");
    assert!(!bad.is_empty());
    for (path, model) in bad {
        let refused = inspect(&model);
        assert!(refused.is_err(), "{}: {refused:?}", path.display());
    }
}

#[test]
fn every_demo_model_loads_and_warms() {
    let good =
        onnx_files("fleet-server/demo").into_iter().filter(|(path, _)| !path.ends_with("digits-test.bin"));
    for (path, model) in good {
        let inspected = inspect(&model).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let session = TractEngine.load(model, &inspected.inputs, &inspected.outputs).unwrap();
        session.warm().unwrap();
    }
}
