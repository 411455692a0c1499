//! The task: closes a period when it is time, and works through what was closed.

use std::{sync::Arc, time::Duration};

use shared::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{DriftConfig, check::Check};
use crate::{
    app::App,
    servers::holds_lease,
    store::{Period, Store, StoreError},
};

/// After the database refused a part of a check, the check is taken up again this much later.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often a server that may get the lease, or lose it, looks whether it has it.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// Checks until `stop`; the feature under way is finished first.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    loop {
        let pause = match turn(&app, &stop).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a check for drift was not finished"
                );
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Does what is due, and tells how long nothing will be.
async fn turn(app: &Arc<App>, stop: &CancellationToken) -> Result<Duration, StoreError> {
    if !app.lease.is_ours(Instant::now()) {
        return Ok(FOLLOW_EVERY);
    }
    if let Some((period, at)) = close(app, app.clock.now()).await? {
        Check { app, period, now: at, stop }.run().await?;
    }
    let now = app.clock.now();
    let next = Timestamp((look_at(now, &app.drift) + 1).saturating_mul(1_000 * app.drift.check_secs));
    let pause = next.since(now);
    Ok(if app.store.is_shared() { pause.min(FOLLOW_EVERY) } else { pause })
}

/// The period that is to be checked, and the moment of its check: one that was closed before and not finished, or the open one
/// when it is time. Whatever arrives from now on is of the next.
pub(super) async fn close(app: &App, now: Timestamp) -> Result<Option<(u64, Timestamp)>, StoreError> {
    let mut tx = app.store.begin().await?;
    if !holds_lease(app, &mut tx).await? {
        return Ok(None);
    }
    let before = Store::drift_period(&mut tx).await?;
    if let Some(period) = before.due() {
        return Ok(Some((period, before.closed_at)));
    }
    // Both by the interval of today: another one may have been configured since, and a clock that was ahead may have been set.
    if before.closed_at <= now && look_at(now, &app.drift) == look_at(before.closed_at, &app.drift) {
        return Ok(None);
    }
    let after = Period { current: before.current + 1, closed_at: now, ..before };
    Store::save_drift_period(&mut tx, &after).await?;
    tx.commit().await?;
    Ok(Some((before.current, now)))
}

/// The interval of time that `now` falls into.
fn look_at(now: Timestamp, config: &DriftConfig) -> u64 {
    now.as_millis() / (1_000 * config.check_secs.max(1))
}
