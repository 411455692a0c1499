//! `muster sim`: tells what came of a story, and exits by whether it came as expected.

use super::{Context, Exit, Failure, output::Output};
use crate::sim::{self, SimOptions};

pub(super) async fn run(
    options: SimOptions,
    context: impl FnOnce() -> Result<Context, Failure>,
    output: &Output,
) -> Result<(), Failure> {
    let summary = sim::run(options, context).await?;
    output.one(&summary, &summary.title, || summary.lines());
    match summary.missed.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Failed, summary.missed[0].clone())),
        more => Err(Failure::new(
            Exit::Failed,
            format!("{more} things are not as expected: {}", summary.missed.join("; ")),
        )),
    }
}
