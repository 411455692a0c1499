//! Model and counting without an agent around them, on one session.
//!
//! Two sessions of the same model lie differently in memory, which alone makes one of them slower by a percent or two. One that is
//! asked with and without counting in turn shows what counting adds; what is not in it is to keep an answer until it is counted.
//! A request is a tensor that was written just now, as it is when it came from a socket, and as in the agent its features are
//! read before the model runs.

use std::{cell::RefCell, sync::Arc, time::Instant};

use anyhow::Context as _;
use muster_engine::{
    Engine as _, Session, Tensor, TractEngine,
    features::{Extractor, Row},
};
use muster_sketch::window::FeatureWindow;

use super::{BLOCK, GROUP, ROUNDS, models::Watched};
use crate::measure::{Comparison, Contestant, Rounds, mean, micros};

/// The model, and nothing of it is counted.
const ALONE: &str = "the model alone";

/// Every answer is counted before the next one is asked for.
const COUNTED: &str = "the model and its counting";

/// What counting every row adds to the model.
pub fn compare(watched: &Watched) -> anyhow::Result<Comparison> {
    let session = TractEngine.load(watched.onnx.clone(), &watched.inputs, &watched.outputs)?;
    let counting = RefCell::new(Counting::new(watched)?);
    let contestant = |name, counting| contestant(name, &*session, watched, counting);
    let mut contestants = [contestant(ALONE, None), contestant(COUNTED, Some(&counting))];
    Ok(Rounds::play_by(mean, &mut contestants, ROUNDS, BLOCK)?.grouped(GROUP).compare(COUNTED, ALONE))
}

fn contestant<'a>(
    name: &'static str,
    session: &'a dyn Session,
    watched: &'a Watched,
    counting: Option<&'a RefCell<Counting>>,
) -> Contestant<'a> {
    let mut rows = watched.rows.iter().cycle();
    let mut time = move || {
        let row = rows.next().context("there are rows")?;
        let tensor = Tensor::from_f32(watched.shape.clone(), row)?;
        let inputs = [(watched.inputs[0].name.clone(), tensor)];
        let since = Instant::now();
        if let Some(counting) = counting {
            let mut counting = counting.borrow_mut();
            counting.see(&inputs);
            counting.count(&session.run(&inputs)?)?;
        } else {
            session.run(&inputs)?;
        }
        Ok(micros(since.elapsed()))
    };
    Contestant { name, block: Box::new(move |count| (0..count).map(|_| time()).collect()) }
}

/// What the agent does with each answer that is counted.
struct Counting {
    extractor: Extractor,
    row: Row,
    window: FeatureWindow,
}

impl Counting {
    fn new(watched: &Watched) -> anyhow::Result<Self> {
        let extractor = Extractor::new(&watched.spec.sources, &watched.inputs, &watched.outputs)?;
        let window = FeatureWindow::new(Arc::new(watched.spec.reference.clone()));
        Ok(Self { extractor, row: Row::default(), window })
    }

    fn see(&mut self, inputs: &[(String, Tensor)]) {
        self.extractor.read_inputs(inputs, 0, &mut self.row);
    }

    fn count(&mut self, outputs: &[Tensor]) -> anyhow::Result<()> {
        self.extractor.read_outputs(outputs, 0, 1, &mut self.row);
        Ok(self.window.record_places(&self.row.numbers, &self.row.places)?)
    }
}
