//! Orders before frames: two bounded queues that one thread empties.
//!
//! Neither sender waits. An order that does not fit would be a fault of ours, since the core has one transfer at a time;
//! a frame that does not fit is asked for again.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use shared::{Digest, artifact::Artifact};
use tokio::sync::oneshot;

use agent_store::StoreError;

/// Frames that may wait for the disk: the core never asks for more blocks at once than a quarter of this.
const MAX_FRAMES: usize = 64;

/// Orders that may wait: one transfer, one collection, and a manifest for each model that a device can run.
const MAX_ORDERS: usize = 128;

/// What the daemon asks of the store.
pub(super) enum Order {
    KeepManifest(Digest, Vec<u8>, oneshot::Sender<Result<(), StoreError>>),
    Open(Artifact),
    Unpack(Artifact),
    Collect(BTreeSet<Digest>),
}

/// The next thing to do.
pub(super) enum Job {
    Order(Order),
    Frame(Bytes),
}

/// Both queues.
#[derive(Default)]
pub(super) struct Lanes {
    queues: Mutex<Queues>,
    changed: Condvar,
}

#[derive(Default)]
struct Queues {
    orders: VecDeque<Order>,
    frames: VecDeque<Bytes>,
    closed: bool,
}

impl Lanes {
    /// False when there is no room or nobody takes orders any more.
    pub(super) fn put_order(&self, order: Order) -> bool {
        let mut queues = self.lock();
        let waits = |waiting: &&mut Order| matches!(waiting, Order::Collect(_));
        // The newest collection says all that an older one would; it takes its place, to free before others take.
        if let (Order::Collect(_), Some(older)) = (&order, queues.orders.iter_mut().find(waits)) {
            *older = order;
            return true;
        }
        let room = !queues.closed && queues.orders.len() < MAX_ORDERS;
        if room {
            queues.orders.push_back(order);
            self.changed.notify_one();
        }
        room
    }

    /// False when there is no room.
    pub(super) fn put_frame(&self, frame: Bytes) -> bool {
        let mut queues = self.lock();
        let room = !queues.closed && queues.frames.len() < MAX_FRAMES;
        if room {
            queues.frames.push_back(frame);
            self.changed.notify_one();
        }
        room
    }

    /// What to do next, waiting for it; `None` when the lanes are closed and empty of orders.
    pub(super) fn next(&self) -> Option<Job> {
        let idle =
            |queues: &mut Queues| !queues.closed && queues.orders.is_empty() && queues.frames.is_empty();
        let waited = self.changed.wait_while(self.lock(), idle);
        let mut queues = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = queues.orders.pop_front() {
            return Some(Job::Order(order));
        }
        if queues.closed { None } else { queues.frames.pop_front().map(Job::Frame) }
    }

    /// Nothing new is taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Nothing under the lock panics half way through a change.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(keep: &[&[u8]]) -> Order {
        Order::Collect(keep.iter().map(|bytes| Digest::of(bytes)).collect())
    }

    #[test]
    fn a_flood_of_frames_delays_no_order() {
        let lanes = Lanes::default();
        let taken = (0..10 * MAX_FRAMES).filter(|_| lanes.put_frame(Bytes::from_static(b"frame"))).count();
        assert_eq!(taken, MAX_FRAMES);
        assert!(lanes.put_order(collect(&[])));
        assert!(matches!(lanes.next(), Some(Job::Order(_))));
        assert!(matches!(lanes.next(), Some(Job::Frame(_))));
    }

    #[test]
    fn giving_orders_to_a_thread_that_does_not_take_them_never_waits() {
        let lanes = Lanes::default();
        let taken = (0..2 * MAX_ORDERS).filter(|_| {
            let (answer, _) = oneshot::channel();
            lanes.put_order(Order::KeepManifest(Digest::of(b"m"), Vec::new(), answer))
        });
        assert_eq!(taken.count(), MAX_ORDERS);
    }

    #[test]
    fn only_the_newest_collection_waits() {
        let lanes = Lanes::default();
        (0..3 * MAX_ORDERS).for_each(|_| assert!(lanes.put_order(collect(&[b"old"]))));
        assert!(lanes.put_order(collect(&[b"old", b"new"])));
        let Some(Job::Order(Order::Collect(keep))) = lanes.next() else { panic!("no order") };
        assert_eq!(keep.len(), 2);
        lanes.close();
        assert!(lanes.next().is_none());
    }

    #[test]
    fn closed_lanes_end_the_thread_after_its_orders() {
        let lanes = Lanes::default();
        assert!(lanes.put_order(collect(&[])) && lanes.put_frame(Bytes::new()));
        lanes.close();
        assert!(matches!(lanes.next(), Some(Job::Order(_))));
        assert!(lanes.next().is_none() && !lanes.put_order(collect(&[])));
    }
}
