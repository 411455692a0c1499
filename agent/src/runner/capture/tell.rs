//! Closing windows in time, and telling them to the daemon.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc;

use super::{Capture, Captures, MAX_COUNTING, open::Closing};
use crate::runner::protocol::Event;

/// Closes windows that are due, until the daemon no longer listens. Sleeps while there is nothing to close.
pub(crate) async fn tell(captures: &Captures, events: &mpsc::Sender<Event>) {
    loop {
        let due = captures.next_due();
        let time = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => {}
            () = captures.common.news.notified() => {}
        }
        let all = captures.all().clone();
        if !tell_all(&all, Closing::Due(Instant::now()), events).await {
            return;
        }
    }
}

/// Tells the last window of a version that is gone: nobody can add to it any more.
pub(crate) async fn tell_gone(captures: &Captures, gone: Arc<Capture>, events: &mpsc::Sender<Event>) {
    captures.all().retain(|capture| !Arc::ptr_eq(capture, &gone));
    tell_all(&[gone], Closing::Last(Instant::now()), events).await;
}

/// Waits for what is being counted, and tells the last window of every version.
pub(crate) async fn finish(captures: &Captures, events: &mpsc::Sender<Event>) {
    let all_places = u32::try_from(MAX_COUNTING).unwrap_or(u32::MAX);
    // Never closed.
    let _counted = captures.common.counting.acquire_many(all_places).await;
    let all = captures.all().clone();
    tell_all(&all, Closing::Last(Instant::now()), events).await;
}

/// False when nobody listens.
async fn tell_all(all: &[Arc<Capture>], closing: Closing, events: &mpsc::Sender<Event>) -> bool {
    for capture in all {
        let found = capture.found().map(|paced| Event::Paced(Box::new(paced)));
        let closed = capture.close(closing).map(|sketched| Event::Sketched(Box::new(sketched)));
        for event in found.into_iter().chain(closed) {
            if events.send(event).await.is_err() {
                return false;
            }
        }
    }
    true
}
