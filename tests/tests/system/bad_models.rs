//! Publications and rollouts that are refused, with an answer that helps and without a trace.

use std::path::PathBuf;

use serde_json::Value;
use system_tests::{
    cli::{Answer, Exit},
    fleet::{Fleet, SITE},
    models::{Publication, bad},
};

fn releases(fleet: &Fleet) -> Value {
    fleet.cli().json(&["model", "list"])
}

/// Publishes in vain and gives the answer for a closer look.
#[track_caller]
fn refused(fleet: &Fleet, publication: &Publication) -> Answer {
    let before = releases(fleet);
    let answer = fleet.try_publish(publication).exits(Exit::Failed).is_clear();
    assert_eq!(releases(fleet), before, "a refused model left something behind");
    answer
}

fn model(onnx: PathBuf) -> Publication {
    Publication { onnx, ..Publication::digits(1) }
}

fn golden(file: &str) -> Publication {
    Publication { golden: bad(file), ..Publication::digits(1) }
}

#[test]
fn what_is_not_onnx_is_refused() {
    let fleet = Fleet::start(0);
    let _ = refused(&fleet, &model(bad("not-onnx.bin"))).says(&["onnx"]);
    let _ = refused(&fleet, &model(bad("truncated.onnx"))).says(&["onnx"]);
}

#[test]
fn an_operator_that_nobody_knows_is_named() {
    let fleet = Fleet::start(0);
    let _ = refused(&fleet, &model(bad("unsupported-operator.onnx"))).says(&["Sharpen"]);
}

#[test]
fn a_model_that_would_crash_or_exhaust_a_device_is_refused_and_the_server_lives() {
    let fleet = Fleet::start(0);
    let _ = refused(&fleet, &model(bad("conv-stride-zero.onnx")));
    let _ = refused(&fleet, &model(bad("huge-constant.onnx")));
    assert_eq!(fleet.publish(&Publication::digits(1)), "digits@1");
}

#[test]
fn weights_outside_of_the_file_are_refused() {
    let fleet = Fleet::start(0);
    let _ = refused(&fleet, &model(bad("external-data.onnx"))).says(&["another file", "dense"]);
    let escape = refused(&fleet, &model(bad("external-data-escape.onnx")));
    assert!(!format!("{escape}").contains("root:x:"), "the server read a file that it was told to");
}

#[test]
fn golden_vectors_of_the_wrong_shape_are_refused_with_both_shapes() {
    let fleet = Fleet::start(0);
    let _ = refused(&fleet, &golden("golden-wrong-shape.npz")).says(&["image", "7", "8"]);
}

#[test]
fn golden_vectors_with_wrong_values_are_refused_with_the_case() {
    let fleet = Fleet::start(0);
    let _ = refused(&fleet, &golden("golden-wrong-values.npz")).says(&["golden", "case 0", "probabilities"]);
}

#[test]
fn golden_vectors_that_are_no_numbers_are_refused() {
    let fleet = Fleet::start(0);
    let _ = refused(&fleet, &golden("golden-nan.npz")).says(&["probabilities"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let fleet = Fleet::start(0);
    let answer = fleet.try_publish(&model("nowhere/model.onnx".into())).fails().is_clear();
    let _ = answer.says(&["nowhere/model.onnx"]);
}

#[test]
fn the_same_bytes_again_are_the_same_version() {
    let fleet = Fleet::start(0);
    assert_eq!(fleet.publish(&Publication::digits(1)), "digits@1");
    let before = releases(&fleet);
    let answer = fleet.try_publish(&Publication::digits(1));
    assert!([Some(Exit::Ok as i32), Some(Exit::Conflict as i32)].contains(&answer.code), "{answer}");
    let _ = answer.says(&["already", "digits@1"]);
    assert_eq!(releases(&fleet), before);
    assert_eq!(fleet.publish(&Publication::digits(2)), "digits@2");
}

#[test]
fn a_rollout_to_nobody_is_refused() {
    let fleet = Fleet::start(1);
    let release = fleet.publish(&Publication::digits(1));
    let rollouts = fleet.cli().json(&["rollout", "list"]);
    let answer = fleet.cli().run(["rollout", "start", &release, "--to", "site=nowhere"]).fails().is_clear();
    let _ = answer.says(&["site=nowhere"]);
    assert_eq!(fleet.cli().json(&["rollout", "list"]), rollouts);
}

#[test]
fn a_rollout_of_what_does_not_exist_is_not_found() {
    let fleet = Fleet::start(1);
    let start = |release: &str| fleet.cli().run(["rollout", "start", release, "--to", SITE]);
    let _ = start("digits@7").exits(Exit::NotFound).says(&["digits@7"]).is_clear();
    let _ = start("digits").exits(Exit::Usage).is_clear();
    let _ = fleet.cli().run(["device", "show", "nobody"]).exits(Exit::NotFound).says(&["nobody"]);
    let _ = fleet.cli().run(["rollout", "status", "nothing"]).exits(Exit::NotFound);
}
