//! Telling the daemon what was counted: soon after a failure, each second otherwise, never while idle.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::mpsc, time::sleep};

use super::{models::Models, protocol::Event};

/// How long figures may wait when nothing failed.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a failure may wait for others that come with it. The daemon must know within 20 ms.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Runs until the daemon no longer listens.
pub(super) async fn report(models: Arc<Models>, events: mpsc::Sender<Event>) {
    loop {
        models.wake.activity.notified().await;
        tokio::select! {
            () = sleep(INTERVAL) => {}
            () = models.wake.failure.notified() => sleep(AFTER_FAILURE).await,
        }
        // What was notified up to here is told now, and must not wake the next round.
        let _ = models.wake.failure.notified().now_or_never();
        let _ = models.wake.activity.notified().now_or_never();
        if !flush(&models, &events).await {
            return;
        }
    }
}

/// Tells everything now; false when nobody listens.
pub(super) async fn flush(models: &Models, events: &mpsc::Sender<Event>) -> bool {
    for figures in models.take_figures() {
        if events.send(Event::Observed(Box::new(figures))).await.is_err() {
            return false;
        }
    }
    for figures in models.books.take() {
        if events.send(Event::Compared(Box::new(figures))).await.is_err() {
            return false;
        }
    }
    true
}
