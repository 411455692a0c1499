//! What is done again and again: telling devices that missed something, removing old figures, signing in time.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{send_desired, telemetry::oldest};
use crate::{app::App, store::StoreError};

/// How often devices that have not confirmed their desired state are told again.
const REDRIVE_EVERY: Duration = Duration::from_secs(30);

/// How often old figures are removed.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// Metadata is signed again when it is due, but looked at no more often than this.
const SIGN_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// Tells connected devices again what they have not confirmed, until `stop`.
pub async fn redrive(app: Arc<App>, stop: CancellationToken) {
    while wait(REDRIVE_EVERY, &stop).await {
        match app.store.lagging_devices().await {
            Ok(devices) => {
                for device in devices {
                    send_desired(&app, &device).await;
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot tell devices again");
            }
        }
    }
}

/// Removes figures older than `keep`, folds sums of counts as they grow old and signs metadata in time, until `stop`.
pub async fn keep_house(app: Arc<App>, keep: Duration, stop: CancellationToken) {
    loop {
        let now = app.clock.now();
        if let Err(error) = app.signing.refresh(now).await {
            tracing::error!(error = &error as &dyn std::error::Error, "metadata was not signed again");
        }
        if let Err(error) = app.store.trim_telemetry(oldest(now, keep)).await {
            tracing::error!(error = &error as &dyn std::error::Error, "old figures were not removed");
        }
        if let Err(error) = fold_sums(&app, &stop).await {
            tracing::error!(error = &error as &dyn std::error::Error, "old sums of counts were not folded");
        }
        let until_signing = app.signing.next_refresh(now).max(SIGN_AT_MOST_EVERY);
        if !wait(TRIM_EVERY.min(until_signing), &stop).await {
            return;
        }
    }
}

/// A part at a time, so that others who write come between.
async fn fold_sums(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    while app.store.fold_sums(&app.drift.keep, app.clock.now()).await? && !stop.is_cancelled() {}
    Ok(())
}

/// False when `stop` came first.
async fn wait(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = stop.cancelled() => false,
    }
}
