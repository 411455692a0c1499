//! The memory of processes that come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::process::{children_of_this, peak_kib};

/// A trial lives for some ten milliseconds, and its peak is kept by the kernel until it ends.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Looks at children of this process again and again.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    peak_kib: Arc<AtomicU64>,
    worker: JoinHandle<()>,
}

impl Watch {
    /// Watches the children that were started with `argument`.
    #[must_use]
    pub fn over_children(argument: &'static str) -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&peak));
        let worker = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                for pid in children_of_this(argument) {
                    seen.fetch_max(peak_kib(pid).unwrap_or(0), Ordering::SeqCst);
                }
                thread::park_timeout(LOOK_EVERY);
            }
        });
        Self { stop, peak_kib: peak, worker }
    }

    /// The most that any of them had resident.
    #[must_use]
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.worker.thread().unpark();
        // A panic in the worker was printed where it happened; what it saw until then counts.
        let _ = self.worker.join();
        self.peak_kib.load(Ordering::SeqCst)
    }
}
