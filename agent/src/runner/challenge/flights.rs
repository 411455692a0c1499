//! Requests under way, and the moments in which there are none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

/// So long nothing may have been under way before the device counts as idle. A caller who asks without a pause leaves
/// gaps that are shorter; a camera of 25 pictures a second leaves longer ones.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// Requests under way in this process, of whatever model.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    count: Mutex<Count>,
    landed: Notify,
}

#[derive(Debug, Default)]
struct Count {
    under_way: u64,
    /// Every request there ever was, so that one that came and went meanwhile is noticed.
    begun: u64,
}

/// A request under way, as long as the value lives.
pub(crate) struct Flight(Arc<Flights>);

impl Flights {
    pub(crate) fn begin(self: &Arc<Self>) -> Flight {
        let mut count = self.count();
        count.under_way += 1;
        count.begun += 1;
        drop(count);
        Flight(Arc::clone(self))
    }

    /// Waits until nothing has been under way for [`QUIET`].
    pub(crate) async fn quiet(&self) {
        loop {
            let landed = self.landed.notified();
            let (under_way, begun) = self.read();
            if under_way > 0 {
                landed.await;
                continue;
            }
            tokio::time::sleep(QUIET).await;
            if self.read() == (0, begun) {
                return;
            }
        }
    }

    fn read(&self) -> (u64, u64) {
        let count = self.count();
        (count.under_way, count.begun)
    }

    /// Nothing under the lock panics half way through a change.
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.count().under_way -= 1;
        self.0.landed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Instant;

    #[tokio::test]
    async fn it_is_quiet_only_when_nothing_came_for_a_while() {
        let flights = Arc::new(Flights::default());
        let first = flights.begin();
        let mut quiet = Box::pin(flights.quiet());
        assert!(quiet.as_mut().now_or_never().is_none());
        drop(first);
        assert!(quiet.as_mut().now_or_never().is_none(), "the gap may be a short one");
        let last = Instant::now();
        drop(flights.begin());
        quiet.await;
        assert!(last.elapsed() >= QUIET, "one came and went meanwhile");
    }
}
