//! The challenger's side: tries one sample after the other, and answers nobody but the books.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use muster_engine::{outputs_are_finite, outputs_match};
use shared::ReleaseId;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    compare::compare,
    sample::{Sample, write_time},
};
use crate::runner::models::{Loaded, Models};

/// Tries samples from `stream` with a version that is loaded, until there are no more.
pub(crate) async fn try_samples(
    models: Arc<Models>,
    challenger: ReleaseId,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(sample) = Sample::read(&mut stream).await? {
        let Some(loaded) = models.get(&challenger.model).and_then(|model| model.version(challenger.version))
        else {
            return Ok(());
        };
        let began = Instant::now();
        try_one(&models, &loaded, sample).await;
        write_time(&mut stream, began.elapsed()).await?;
    }
    Ok(())
}

async fn try_one(models: &Models, loaded: &Arc<Loaded>, sample: Sample) {
    let Some(model) = models.get(&loaded.release.model) else { return };
    let Sample { champion, inputs, outputs: answered } = sample;
    let ran = model.pool.run(Arc::clone(loaded), inputs).await;
    let tried = ran.ok().and_then(|(outputs, times)| {
        let outputs = outputs.ok()?;
        outputs_match(loaded.outputs(), &outputs).ok()?;
        outputs_are_finite(loaded.outputs(), &outputs).ok()?;
        Some((outputs, times.compute))
    });
    models.books.write(&champion, &loaded.release, |figures| match &tried {
        Some((outputs, compute)) => {
            compare(figures, &answered, outputs);
            figures.slow += u64::from(is_slow(loaded, *compute));
            figures.latency_ms.record(compute.as_secs_f32() * 1_000.0);
        }
        None => figures.failed += 1,
    });
}

fn is_slow(loaded: &Loaded, compute: Duration) -> bool {
    compute.as_millis() > u128::from(loaded.budgets.latency_ms)
}
