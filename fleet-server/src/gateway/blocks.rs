//! Blocks for devices, fairly: each waiting device gets one block in turn, within its own rate and that of all.
//!
//! A request is queued whole or not at all. Who is over the bound is told when to come again, with some jitter, so
//! that a thousand devices do not come back at the same moment. Nothing is remembered of what was sent: devices ask
//! again for what did not arrive.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared::{
    DeviceId, Digest,
    artifact::BLOCK_BYTES,
    block::{Frame, MAX_RUNS, Run},
    topic::Down,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::send_bytes;
use crate::{app::App, artifacts::ArtifactError, broker::Delivery, config::Limits};

/// Blocks that one device may have waiting: four times the largest credit of an agent.
const DEVICE_QUEUE: usize = 64;

/// Blocks that may wait in all; each is a few dozen bytes here.
const TOTAL_QUEUE: usize = 65_536;

/// A rate may be exceeded for this long at a time, or a pause would be lost for ever.
const BURST: Duration = Duration::from_millis(125);

/// The shortest time after which a device that was turned away may come again.
const RETRY_MS: u32 = 500;

/// Hands out blocks.
pub struct BlockServer {
    app: Arc<App>,
    queues: Mutex<Queues>,
    filled: Notify,
}

/// One block that a device waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    artifact: Digest,
    block_bytes: u32,
    index: u32,
}

struct Queues {
    devices: BTreeMap<DeviceId, Queue>,
    /// Whose turn it is, in order; exactly the devices with a waiting block.
    ring: VecDeque<DeviceId>,
    total: usize,
    rate: Pace,
    device_bytes_per_second: f64,
}

struct Queue {
    waiting: VecDeque<Wanted>,
    pace: Pace,
}

/// A rate: sending moves the moment at which sending is allowed again.
#[derive(Debug, Clone, Copy)]
struct Pace {
    bytes_per_second: f64,
    free_at: Instant,
}

impl Pace {
    fn new(bytes_per_second: f64, now: Instant) -> Self {
        Self { bytes_per_second, free_at: now.checked_sub(BURST).unwrap_or(now) }
    }

    fn spend(&mut self, bytes: u32, now: Instant) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.free_at =
            self.free_at.max(earliest) + Duration::from_secs_f64(f64::from(bytes) / self.bytes_per_second);
    }
}

/// What to do next.
enum Turn {
    Send(DeviceId, Wanted),
    WaitUntil(Instant),
    Idle,
}

impl Queues {
    fn new(limits: &Limits, now: Instant) -> Self {
        let bytes = |kib: u32| f64::from(kib) * 1_024.0;
        Self {
            devices: BTreeMap::new(),
            ring: VecDeque::new(),
            total: 0,
            rate: Pace::new(bytes(limits.blocks_kib_per_second), now),
            device_bytes_per_second: bytes(limits.device_blocks_kib_per_second),
        }
    }

    /// Queues all of `wanted`, or none when a bound is reached.
    fn push(&mut self, device: &DeviceId, wanted: Vec<Wanted>, now: Instant) -> bool {
        let pace = Pace::new(self.device_bytes_per_second, now);
        let queue =
            self.devices.entry(device.clone()).or_insert_with(|| Queue { waiting: VecDeque::new(), pace });
        let fits = queue.waiting.len() + wanted.len() <= DEVICE_QUEUE;
        if !fits || self.total + wanted.len() > TOTAL_QUEUE {
            return false;
        }
        if queue.waiting.is_empty() && !wanted.is_empty() {
            self.ring.push_back(device.clone());
        }
        self.total += wanted.len();
        queue.waiting.extend(wanted);
        true
    }

    fn forget(&mut self, device: &DeviceId) {
        if let Some(queue) = self.devices.remove(device) {
            self.total -= queue.waiting.len();
            self.ring.retain(|other| other != device);
        }
    }

    /// The next block of the next device whose rate allows one.
    fn next(&mut self, now: Instant) -> Turn {
        if self.ring.is_empty() {
            return Turn::Idle;
        }
        if self.rate.free_at > now {
            return Turn::WaitUntil(self.rate.free_at);
        }
        let mut soonest: Option<Instant> = None;
        for _ in 0..self.ring.len() {
            let Some(device) = self.ring.pop_front() else { break };
            let Some(queue) = self.devices.get_mut(&device) else { continue };
            if queue.pace.free_at > now {
                soonest = Some(soonest.map_or(queue.pace.free_at, |at| at.min(queue.pace.free_at)));
                self.ring.push_back(device);
                continue;
            }
            let Some(wanted) = queue.waiting.pop_front() else { continue };
            self.total -= 1;
            queue.pace.spend(wanted.block_bytes, now);
            self.rate.spend(wanted.block_bytes, now);
            if !queue.waiting.is_empty() {
                self.ring.push_back(device.clone());
            }
            return Turn::Send(device, wanted);
        }
        soonest.map_or(Turn::Idle, Turn::WaitUntil)
    }
}

impl BlockServer {
    /// A server for the artifacts of `app`.
    #[must_use]
    pub fn new(app: Arc<App>) -> Arc<Self> {
        let queues = Mutex::new(Queues::new(&app.limits, Instant::now()));
        Arc::new(Self { app, queues, filled: Notify::new() })
    }

    /// A device asks for blocks.
    pub async fn request(&self, device: &DeviceId, artifact: Digest, block_bytes: u32, runs: &[Run]) {
        // Every release is cut into blocks of one size; other sizes would fill the cache with copies of it.
        if block_bytes != BLOCK_BYTES {
            self.app.metrics.message("blocks", "refused");
            return;
        }
        let wanted = expand(artifact, block_bytes, runs);
        if self.lock().push(device, wanted, Instant::now()) {
            self.filled.notify_one();
            return;
        }
        self.app.metrics.blocks_deferred.inc();
        let delay_ms = RETRY_MS + jitter_ms();
        self.send(device, &Frame::RetryAfter { artifact: artifact.short(), delay_ms }).await;
    }

    /// A device left; what it waited for is not sent.
    pub fn forget(&self, device: &DeviceId) {
        self.lock().forget(device);
    }

    /// Sends blocks until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let turn = self.lock().next(Instant::now());
            match turn {
                Turn::Send(device, wanted) => self.send_block(&device, wanted).await,
                Turn::WaitUntil(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.filled.notified() => {}
                    () = stop.cancelled() => return,
                },
                Turn::Idle => tokio::select! {
                    () = self.filled.notified() => {}
                    () = stop.cancelled() => return,
                },
            }
        }
    }

    async fn send_block(&self, device: &DeviceId, wanted: Wanted) {
        let artifact = wanted.artifact.short();
        match self.app.artifacts.block(&wanted.artifact, wanted.block_bytes, wanted.index).await {
            Ok(Some(bytes)) => {
                self.app.metrics.block_bytes.inc_by(bytes.len() as u64);
                self.send(device, &Frame::Block { artifact, index: wanted.index, bytes: &bytes }).await;
            }
            Ok(None) => tracing::debug!(device.id = %device, index = wanted.index, "a block past the end"),
            Err(ArtifactError::Missing(_)) => self.send(device, &Frame::Gone { artifact }).await,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a block cannot be read");
            }
        }
    }

    async fn send(&self, device: &DeviceId, frame: &Frame<'_>) {
        send_bytes(&self.app, device, Down::Blocks, Delivery::AtMostOnce, frame.encode().into()).await;
    }

    /// A turn leaves the queues whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocks that runs name; one more than may wait is enough to see that there are too many.
fn expand(artifact: Digest, block_bytes: u32, runs: &[Run]) -> Vec<Wanted> {
    let indexes = runs.iter().take(MAX_RUNS).flat_map(|run| run.first..run.first.saturating_add(run.count));
    indexes.take(DEVICE_QUEUE + 1).map(|index| Wanted { artifact, block_bytes, index }).collect()
}

/// Up to [`RETRY_MS`] more, so that devices come back one by one.
fn jitter_ms() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, which is no reason to fail.
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    u32::from_le_bytes(bytes) % RETRY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(total_kib: u32, device_kib: u32, now: Instant) -> Queues {
        let limits = Limits {
            blocks_kib_per_second: total_kib,
            device_blocks_kib_per_second: device_kib,
            ..Limits::default()
        };
        Queues::new(&limits, now)
    }

    fn blocks(count: u32) -> Vec<Wanted> {
        expand(Digest::of(b"a"), 1_024, &[Run { first: 0, count }])
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    fn who(turn: &Turn) -> String {
        match turn {
            Turn::Send(device, _) => device.to_string(),
            Turn::WaitUntil(_) => "wait".into(),
            Turn::Idle => "idle".into(),
        }
    }

    #[tokio::test]
    async fn a_device_that_asks_for_much_does_not_hold_up_another() {
        let now = Instant::now();
        let mut queues = queues(1_000_000, 1_000_000, now);
        assert!(queues.push(&device("big"), blocks(60), now));
        assert!(queues.push(&device("small"), blocks(2), now));
        let turns: Vec<_> = (0..5).map(|_| who(&queues.next(now))).collect();
        assert_eq!(turns, ["big", "small", "big", "small", "big"]);
    }

    #[tokio::test]
    async fn a_device_over_its_bound_is_told_to_come_later_and_leaves_nothing_behind() {
        let now = Instant::now();
        let mut queues = queues(1_000, 1_000, now);
        assert!(!queues.push(&device("a"), blocks(u32::MAX), now));
        assert!(queues.push(&device("a"), blocks(64), now));
        assert!(!queues.push(&device("a"), blocks(1), now));
        queues.forget(&device("a"));
        assert_eq!((queues.total, who(&queues.next(now))), (0, "idle".into()));
    }

    #[tokio::test]
    async fn rates_hold_over_a_second() {
        let start = Instant::now();
        let mut queues = queues(30, 20, start);
        let (mut now, mut sent) = (start, BTreeMap::<String, u32>::new());
        while now < start + Duration::from_secs(1) {
            queues.push(&device("a"), blocks(60), now);
            queues.push(&device("b"), blocks(60), now);
            match queues.next(now) {
                Turn::Send(device, _) => *sent.entry(device.to_string()).or_default() += 1,
                Turn::WaitUntil(at) => now = at,
                Turn::Idle => unreachable!("both devices wait"),
            }
        }
        let total: u32 = sent.values().sum();
        assert!((28..=36).contains(&total), "{sent:?}");
        assert!(sent.values().all(|&count| count <= 24), "{sent:?}");
    }
}
