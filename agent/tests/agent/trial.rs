//! The trial process: whatever a model does to it, the caller gets a reason.

use std::{collections::BTreeMap, time::Duration};

use crate::onnx::{bytes, fixed, graph, int64s, node, value};
use crate::rig::{self, exe, file_of};
use muster_agent::sandbox::Reports;
use muster_agent::trial::{TrialRequest, run_trial, run_trial_within};
use muster_engine::{Golden, Tensor, onnx::GraphProto};
use shared::{
    Digest,
    manifest::{Budgets, Tolerance},
    report::{RejectReason, TrialFigures},
};

fn golden(factor: f32) -> Vec<u8> {
    let side = |name: &str, factor: f32| {
        let values = [1.0, 2.0, 3.0, 4.0].map(|value| value * factor);
        BTreeMap::from([(name.to_owned(), Tensor::from_f32(vec![2, 2], &values).unwrap())])
    };
    Golden::new(side("x", 1.0), side("y", factor)).unwrap().write().unwrap()
}

fn request(model: &[u8], golden: &[u8]) -> TrialRequest {
    let sound = rig::load_request(1, &rig::scale(2.0));
    TrialRequest {
        release: sound.release,
        model_digest: Digest::of(model),
        golden_digest: Digest::of(golden),
        inputs: sound.inputs,
        outputs: sound.outputs,
        cases: 2,
        tolerance: Tolerance::default(),
        budgets: Budgets { memory_mib: 256, ..Budgets::default() },
    }
}

async fn trial(model: &[u8], golden: &[u8]) -> Result<TrialFigures, RejectReason> {
    run_trial(exe(), request(model, golden), file_of(model), file_of(golden), &Reports::default()).await
}

async fn trial_of(model: GraphProto) -> Result<TrialFigures, RejectReason> {
    trial(&bytes(model), &golden(2.0)).await
}

async fn trial_by(script: &str, wall_time: Duration) -> RejectReason {
    let (_directory, exe) = rig::program(script);
    let (model, golden) = (bytes(rig::scale(2.0)), golden(2.0));
    let request = request(&model, &golden);
    run_trial_within(&exe, request, file_of(&model), file_of(&golden), &Reports::default(), wall_time)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_right_model_passes_with_its_figures() {
    let figures = trial_of(rig::scale(2.0)).await.unwrap();
    assert_eq!(figures.cases, 2);
    assert!(figures.peak_memory_kib > 0 && figures.latency_p50_us <= figures.latency_max_us);
}

#[tokio::test]
async fn a_model_that_differs_from_its_golden_vectors_is_rejected_with_the_case() {
    let rejected = trial_of(rig::scale(3.0)).await.unwrap_err();
    assert!(matches!(rejected, RejectReason::GoldenMismatch { case: 0, .. }), "{rejected}");
}

#[tokio::test]
async fn bytes_of_another_digest_are_not_even_parsed() {
    let (model, golden) = (bytes(rig::scale(2.0)), golden(2.0));
    let request = request(b"another", &golden);
    let rejected =
        run_trial(exe(), request, file_of(&model), file_of(&golden), &Reports::default()).await.unwrap_err();
    assert!(matches!(rejected, RejectReason::BadArtifact { .. }), "{rejected}");
}

#[tokio::test]
async fn garbage_and_unsupported_models_are_told_apart() {
    let rejected = trial(b"garbage", &golden(2.0)).await.unwrap_err();
    assert!(matches!(rejected, RejectReason::BadStructure { .. }), "{rejected}");
    let mut unsupported = rig::scale(2.0);
    unsupported.node[0].op_type = "Loop".into();
    let rejected = trial_of(unsupported).await.unwrap_err();
    assert!(matches!(rejected, RejectReason::Incompatible { .. }), "{rejected}");
    let rejected = trial(&bytes(rig::scale(2.0)), b"garbage").await.unwrap_err();
    assert!(matches!(rejected, RejectReason::BadManifest { .. }), "{rejected}");
}

#[tokio::test]
async fn a_memory_bomb_dies_alone() {
    // The shape is computed, so nothing can be known of it before it runs: 64 GB.
    let two = || vec![fixed(2)];
    let bomb = graph(
        vec![
            node("Mul", &["side", "side"], &["shape"]),
            node("ConstantOfShape", &["shape"], &["zeros"]),
            node("ReduceSum", &["zeros"], &["sum"]),
            node("Add", &["x", "sum"], &["y"]),
        ],
        vec![int64s("side", &[126_491])],
        vec![value("x", two())],
        vec![value("y", two())],
    );
    let rejected = trial_of(bomb).await.unwrap_err();
    let expected = matches!(
        rejected,
        RejectReason::OverBudget { .. } | RejectReason::LoadFailed { .. } | RejectReason::TrialCrashed { .. }
    );
    assert!(expected, "{rejected}");
}

#[tokio::test]
async fn a_trial_that_aborts_is_told_with_its_signal_and_last_words() {
    let rejected = trial_by("echo 'last words' >&2; kill -ABRT $$", Duration::from_secs(30)).await;
    let RejectReason::TrialCrashed { detail } = &rejected else { panic!("{rejected}") };
    assert_eq!(detail, "signal 6: last words");
}

#[tokio::test]
async fn a_trial_out_of_memory_is_over_budget() {
    let script = "echo 'memory allocation of 4096 bytes failed' >&2; kill -ABRT $$";
    let rejected = trial_by(script, Duration::from_secs(30)).await;
    assert!(matches!(rejected, RejectReason::OverBudget { .. }), "{rejected}");
}

#[tokio::test]
async fn a_trial_that_hangs_is_killed() {
    let rejected = trial_by("exec sleep 600", Duration::from_millis(200)).await;
    let RejectReason::OverBudget { detail } = &rejected else { panic!("{rejected}") };
    assert_eq!(detail, "the trial did not end within 200 ms");
}
