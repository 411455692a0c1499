//! The built-in engine: tract, pure Rust, on every target.
//!
//! - Every plan is compiled for one concrete shape of the inputs: variable axes cost tract up to three times the
//!   latency, or do not load at all. Plans of a model with variable axes are made when a shape is first asked for
//!   and kept in a small cache, the least used out first.
//! - Intermediate shapes that the exporter wrote down (`value_info`) are ignored on the second try: they are
//!   often stale, and tract finds the same by itself.
//! - One thread per run, said explicitly. Requests run beside each other instead.
//! - The parsed graph is dropped as soon as no further shape can be asked for; a plan holds packed copies of the
//!   weights, so keeping both would double the memory.

mod convert;
mod prepare;

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
pub use prepare::prepare;
use shared::manifest::{Dim, TensorSpec};
use tract_onnx::{
    Onnx,
    pb::ModelProto,
    prelude::{
        Framework, InferenceFact, InferenceModel, InferenceModelExt, RunOptions, TVec, TractResult,
        TypedRunnableModel, multithread::Executor,
    },
};

use crate::{
    checks::order_inputs,
    engine::{Engine, EngineError, Session, catch, cut},
    tensor::Tensor,
};

/// Plans kept per model. A service that sees more shapes than this in turn should pad its inputs.
pub const MAX_PLANS: usize = 4;

/// The shapes of all inputs, in the model's order.
type Shapes = Vec<Vec<u64>>;

/// tract behind our [`Engine`] trait.
#[derive(Debug, Clone, Copy, Default)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn load(
        &self,
        model: Bytes,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Box<dyn Session>, EngineError> {
        let load = || TractSession::load(model, inputs, outputs);
        catch("loading the model", load).map(|session| Box::new(session) as Box<dyn Session>)
    }
}

/// Names of the operators that tract can build.
pub(crate) fn operators() -> &'static HashSet<String> {
    static OPERATORS: LazyLock<HashSet<String>> =
        LazyLock::new(|| tract_onnx::onnx().op_register.0.into_keys().collect());
    &OPERATORS
}

struct TractSession {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    plans: Plans,
}

enum Plans {
    /// Every axis is fixed.
    One(Arc<TypedRunnableModel>),
    /// Some axis is not.
    PerShape(Box<PlanCache>),
}

struct PlanCache {
    /// Constants inside are shared with the plans where the plans do not repack them.
    source: InferenceModel,
    /// Most recently used last.
    ready: Mutex<Vec<(Shapes, Arc<TypedRunnableModel>)>>,
    /// Held while compiling, so that ten callers with one new shape compile once; callers of a shape that is
    /// ready do not wait for it.
    compiling: Mutex<()>,
}

impl TractSession {
    fn load(model: Bytes, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Result<Self, EngineError> {
        let proto = decode(model)?;
        let plans = match fixed_shapes(inputs) {
            Some(shapes) => Plans::One(compile_fixed(&proto, inputs, &shapes)?),
            None => Plans::PerShape(Box::new(PlanCache {
                source: parse(&proto, ValueInfo::Ignored).map_err(|error| load_error(&error))?,
                ready: Mutex::default(),
                compiling: Mutex::default(),
            })),
        };
        Ok(Self { inputs: inputs.to_vec(), outputs: outputs.to_vec(), plans })
    }

    fn plan(&self, inputs: &[&Tensor]) -> Result<Arc<TypedRunnableModel>, EngineError> {
        match &self.plans {
            Plans::One(plan) => Ok(Arc::clone(plan)),
            Plans::PerShape(cache) => {
                let shapes: Shapes = inputs.iter().map(|input| input.shape().to_vec()).collect();
                cache.get(&self.inputs, shapes)
            }
        }
    }
}

impl Session for TractSession {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, EngineError> {
        let ordered = order_inputs(&self.inputs, inputs).map_err(EngineError::Input)?;
        catch("running the model", || {
            let plan = self.plan(&ordered)?;
            let run_error = |error: &_| EngineError::Run(cut(&format!("{error:#}")));
            let values: TractResult<TVec<_>> =
                ordered.iter().map(|tensor| convert::to_tract(tensor)).collect();
            let outputs =
                plan.run(values.map_err(|error| run_error(&error))?).map_err(|error| run_error(&error))?;
            outputs.iter().map(convert::from_tract).collect()
        })
    }

    fn warm(&self) -> Result<(), EngineError> {
        let zeros: Result<Vec<_>, _> = self.inputs.iter().map(zeros).collect();
        let ran = self.run(&zeros.map_err(EngineError::Input)?);
        match (&self.plans, ran) {
            (_, Ok(_)) | (Plans::PerShape(_), Err(_)) => Ok(()),
            (Plans::One(_), Err(error)) => Err(error),
        }
    }
}

impl PlanCache {
    fn get(&self, inputs: &[TensorSpec], shapes: Shapes) -> Result<Arc<TypedRunnableModel>, EngineError> {
        if let Some(plan) = self.ready_plan(&shapes) {
            return Ok(plan);
        }
        let _turn = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = self.ready_plan(&shapes) {
            return Ok(plan);
        }
        let plan = compile(self.source.clone(), inputs, &shapes).map_err(|error| load_error(&error))?;
        let mut ready = self.lock();
        if ready.len() >= MAX_PLANS {
            ready.remove(0);
        }
        ready.push((shapes, Arc::clone(&plan)));
        Ok(plan)
    }

    fn ready_plan(&self, shapes: &Shapes) -> Option<Arc<TypedRunnableModel>> {
        let mut ready = self.lock();
        let position = ready.iter().position(|(known, _)| known == shapes)?;
        let entry = ready.remove(position);
        let plan = Arc::clone(&entry.1);
        ready.push(entry);
        Some(plan)
    }

    /// A panic while the lock was held leaves at worst a plan less in the cache.
    fn lock(&self) -> MutexGuard<'_, Vec<(Shapes, Arc<TypedRunnableModel>)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to make of the shapes that the exporter noted for intermediate values.
#[derive(Clone, Copy)]
enum ValueInfo {
    Used,
    Ignored,
}

fn decode(model: Bytes) -> Result<ModelProto, EngineError> {
    use prost::Message as _;
    ModelProto::decode(model).map_err(|error| EngineError::Load(cut(&error.to_string())))
}

fn parse(proto: &ModelProto, value_info: ValueInfo) -> TractResult<InferenceModel> {
    importer(value_info).model_for_proto_model(proto)
}

fn importer(value_info: ValueInfo) -> Onnx {
    match value_info {
        ValueInfo::Used => tract_onnx::onnx(),
        ValueInfo::Ignored => tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true),
    }
}

/// The error of the second try is told: the first is mostly about stale shapes.
fn compile_fixed(
    proto: &ModelProto,
    inputs: &[TensorSpec],
    shapes: &Shapes,
) -> Result<Arc<TypedRunnableModel>, EngineError> {
    let attempt = |value_info| compile(parse(proto, value_info)?, inputs, shapes);
    attempt(ValueInfo::Used)
        .or_else(|error| {
            tracing::debug!(error = format!("{error:#}"), "trying again without the exporter's shapes");
            attempt(ValueInfo::Ignored)
        })
        .map_err(|error| load_error(&error))
}

fn compile(
    mut model: InferenceModel,
    inputs: &[TensorSpec],
    shapes: &Shapes,
) -> TractResult<Arc<TypedRunnableModel>> {
    for (index, (spec, shape)) in inputs.iter().zip(shapes).enumerate() {
        let lengths: Vec<usize> =
            shape.iter().map(|&length| usize::try_from(length)).collect::<Result<_, _>>()?;
        let fact = InferenceFact::dt_shape(convert::datum_type(spec.datatype)?, lengths);
        model.set_input_fact(index, fact)?;
    }
    let options = RunOptions { executor: Some(Executor::SingleThread), ..RunOptions::default() };
    model.into_typed()?.into_optimized()?.into_runnable_with_options(&options)
}

fn load_error(error: &impl std::fmt::Debug) -> EngineError {
    EngineError::Load(cut(&format!("{error:?}")))
}

/// The shapes of the inputs, when none has a variable axis.
fn fixed_shapes(inputs: &[TensorSpec]) -> Option<Shapes> {
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => Some(*length),
        Dim::Symbol(_) => None,
    };
    inputs.iter().map(|spec| spec.shape.iter().map(length).collect()).collect()
}

fn zeros(spec: &TensorSpec) -> Result<(String, Tensor), String> {
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => *length,
        Dim::Symbol(_) => 1,
    };
    let shape = spec.shape.iter().map(length).collect();
    let zeros = Tensor::zeros(spec.datatype, shape).map_err(|error| error.to_string())?;
    Ok((spec.name.clone(), zeros))
}
