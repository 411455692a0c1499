//! A network that comes and goes: everything open is cut, again and again, and many connections die young.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Proxy, losses};
use crate::random::Random;

/// Life of a connection: mostly enough for a handshake and some messages on a busy machine, and for little more.
const LIFE_MS: Range<usize> = 500..2_500;

/// Of a hundred connections so many die before they were cut.
const BAD_PERCENT: usize = 30;

/// Within so many bytes: in the handshake, in a message, in a model.
const WITHIN_BYTES: usize = 32 * 1_024;

/// Goes on until it is dropped; then every connection is healthy.
#[derive(Debug)]
pub struct Flapping {
    proxy: Proxy,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Flapping {
    /// Begins.
    #[must_use]
    pub fn start(proxy: &Proxy, mut random: Random) -> Self {
        let (stop, proxy) = (Arc::<AtomicBool>::default(), proxy.clone());
        let (cut, ended) = (proxy.clone(), Arc::clone(&stop));
        let worker = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                cut.forgive();
                cut.deal(losses(&mut random, 16, BAD_PERCENT, WITHIN_BYTES));
                cut.cut();
                thread::park_timeout(Duration::from_millis(
                    (LIFE_MS.start + random.below(LIFE_MS.len())) as u64,
                ));
            }
        });
        Self { proxy, stop, worker: Some(worker) }
    }
}

impl Drop for Flapping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(worker) = self.worker.take() {
            worker.thread().unpark();
            // A panic in the worker was printed where it happened.
            let _ = worker.join();
        }
        self.proxy.forgive();
        // What hangs would go on hanging.
        self.proxy.cut();
    }
}
