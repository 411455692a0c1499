//! Gathers messages of many devices into one transaction.

use std::time::Duration;

use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Messages that wait; beyond it links are held back.
const QUEUE: usize = 1_024;

/// A message was not stored.
#[derive(Debug, Error)]
#[error("{0} was not stored")]
pub struct NotStored(&'static str);

/// What stores batches.
pub trait BatchStore {
    /// A message.
    type Row: Send;

    /// What a message is called in errors.
    const NAME: &'static str;

    /// Messages of one transaction, at most.
    const BATCH: usize;

    /// How long the first message of a batch waits for others.
    const LINGER: Duration;

    /// Stores a batch; false when it failed, which was logged.
    fn store(&self, rows: &[Self::Row]) -> impl Future<Output = bool> + Send;
}

type Job<Row> = (Row, oneshot::Sender<bool>);

/// The messages of a task that is not yet running.
pub struct Inbox<Row>(mpsc::Receiver<Job<Row>>);

/// The way to the batch task.
#[derive(Debug)]
pub struct Batcher<Row> {
    jobs: mpsc::Sender<Job<Row>>,
    name: &'static str,
}

impl<Row> Batcher<Row> {
    /// The two ends of the way to the task.
    #[must_use]
    pub fn channel<S: BatchStore<Row = Row>>() -> (Self, Inbox<Row>) {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        (Self { jobs, name: S::NAME }, Inbox(inbox))
    }

    /// Stores a message; when this returns, the device may forget it.
    ///
    /// # Errors
    /// When the transaction failed; the device sends again.
    pub async fn store(&self, row: Row) -> Result<(), NotStored> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send((row, reply)).await.map_err(|_| NotStored(self.name))?;
        if answer.await.unwrap_or(false) { Ok(()) } else { Err(NotStored(self.name)) }
    }
}

/// Stores batches until `stop`; what was taken before is still stored.
pub async fn run_batches<S: BatchStore>(store: S, inbox: Inbox<S::Row>, stop: CancellationToken) {
    let mut inbox = inbox.0;
    while let Some(first) = next(&mut inbox, &stop).await {
        let batch = gather::<S>(&mut inbox, first).await;
        let (rows, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let stored = store.store(&rows).await;
        for reply in replies {
            // A device that left meanwhile sends its message again.
            let _ = reply.send(stored);
        }
    }
}

/// After `stop` nothing new is taken, and the queue runs empty.
async fn next<Row>(inbox: &mut mpsc::Receiver<Job<Row>>, stop: &CancellationToken) -> Option<Job<Row>> {
    tokio::select! {
        job = inbox.recv() => job,
        () = stop.cancelled() => {
            inbox.close();
            inbox.recv().await
        }
    }
}

async fn gather<S: BatchStore>(
    inbox: &mut mpsc::Receiver<Job<S::Row>>,
    first: Job<S::Row>,
) -> Vec<Job<S::Row>> {
    let deadline = Instant::now() + S::LINGER;
    let mut batch = vec![first];
    while batch.len() < S::BATCH
        && let Ok(Some(job)) = timeout_at(deadline, inbox.recv()).await
    {
        batch.push(job);
    }
    batch
}
