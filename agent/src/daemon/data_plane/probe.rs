//! Learning how far models will be locked in, on a device that has none yet.
//!
//! A trial that is asked nothing enters its sandbox and tells. So the inventory knows before the first model comes, from
//! the very code that will hold it.

use std::{path::Path, time::Duration};

use crate::{sandbox::Reports, trial};

/// A trial that has not told by then is not worth waiting for: the first real one tells too.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn probe(exe: &Path, reports: &Reports) {
    match tokio::time::timeout(PATIENCE, trial::probe(exe)).await {
        Ok(Ok(hardening)) => reports.add(hardening),
        Ok(Err(error)) => tracing::info!(%error, "it is not known yet how far models are locked in here"),
        Err(_) => tracing::info!("it is not known yet how far models are locked in here"),
    }
}
