//! The engines without an agent around them, in this process.

use std::{fs, sync::Arc};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use muster_engine::{Engine as _, Tensor, TractEngine, inspect};
use tract_onnx::prelude::{
    Datum as _, Framework as _, InferenceFact, InferenceModelExt as _, IntoTValue as _, RunOptions, TValue,
    TypedRunnableModel, multithread::Executor, tvec,
};

use crate::subject::Subject;

/// Our engine with its checks of inputs and its tensors.
pub fn our_engine(subject: &Subject) -> anyhow::Result<impl FnMut() -> anyhow::Result<()> + use<>> {
    let model = Bytes::from(fs::read(&subject.onnx)?);
    let inspected = inspect(&model)?;
    let session = TractEngine.load(model, &inspected.inputs, &inspected.outputs)?;
    let shape = subject.shape.iter().map(|&length| length as u64).collect();
    let inputs = vec![(subject.input.to_owned(), Tensor::from_f32(shape, &subject.values)?)];
    Ok(move || Ok(session.run(&inputs).map(drop)?))
}

/// tract as its own documentation uses it.
pub fn plain_tract(subject: &Subject) -> anyhow::Result<impl FnMut() -> anyhow::Result<()> + use<>> {
    let (plan, input) = load(subject)?;
    Ok(move || plan.run(tvec![input.clone()]).map(drop).map_err(|error| anyhow!("{error:#}")))
}

/// What tract answers.
pub fn plain_tract_answer(subject: &Subject) -> anyhow::Result<Vec<f32>> {
    let (plan, input) = load(subject)?;
    let outputs = plan.run(tvec![input]).map_err(|error| anyhow!("{error:#}"))?;
    let first = outputs.first().context("a model gives something")?;
    let view = first.to_plain_array_view::<f32>().map_err(|error| anyhow!("{error:#}"))?;
    Ok(view.iter().copied().collect())
}

fn load(subject: &Subject) -> anyhow::Result<(Arc<TypedRunnableModel>, TValue)> {
    let options = RunOptions { executor: Some(Executor::SingleThread), ..RunOptions::default() };
    let fact = InferenceFact::dt_shape(f32::datum_type(), subject.shape.clone());
    let plan = tract_onnx::onnx()
        .model_for_path(&subject.onnx)
        .and_then(|model| model.with_input_fact(0, fact))
        .and_then(|model| model.into_typed()?.into_optimized()?.into_runnable_with_options(&options))
        .map_err(|error| anyhow!("tract does not load {}: {error:#}", subject.name))?;
    let input = tract_onnx::prelude::Tensor::from_shape(&subject.shape, &subject.values)
        .map_err(|error| anyhow!("{error:#}"))?;
    Ok((plan, input.into_tvalue()))
}
